"""Landmarks of photos, with a stand-in for MediaPipe, and FaceScape-style folders."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mlx_headpose import cli
from mlx_headpose.data import landmarks, open_dataset
from mlx_headpose.data.facescape import FaceScape
from mlx_headpose.data.landmarks import FaceMesh, PhotoLandmarks, with_landmarks
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.nlml import stages as manifold_stages
from mlx_headpose.methods.nlml.network import Config
from mlx_headpose.methods.nlml.stages import prepare
from mlx_headpose.pose import pose_to_matrix
from mlx_headpose.weights import save_pretrained

YAWS, PITCHES, ROLLS = (-30, 0, 30), (-20, 0, 20), (-10, 0, 10)


@pytest.fixture
def folder(tmp_path):
    """Three people at 27 poses; a photo's colour tells its pose."""
    for person in ("1", "2", "10"):
        (tmp_path / person).mkdir()
        for yaw, pitch, roll in itertools.product(YAWS, PITCHES, ROLLS):
            colour = (yaw + 128, pitch + 128, roll + 128)
            picture = Image.new("RGB", (20, 30), colour)
            picture.save(tmp_path / person / f"ID{person}_({yaw}_{pitch}_{roll}).png")
    return tmp_path


class Finder:
    """Finds a made face in the pose that a photo's colour tells, but none at one of them."""

    blind = (30, 20, 10)
    calls = 0

    def __init__(self):
        self.face = np.random.default_rng(0).normal(size=(468, 3))

    def __call__(self, image, box):
        type(self).calls += 1
        pose = image[0, 0].astype(np.float64) - 128
        if tuple(pose) == self.blind:
            return None
        return (self.face @ pose_to_matrix(pose).T).astype(np.float32)


def test_a_folder_is_a_grid_of_people_and_poses(folder):
    dataset = open_dataset("facescape", folder)
    assert len(dataset) == 81
    assert dataset.ids[0].startswith("1/ID1_(")
    assert set(dataset.columns["person"].tolist()) == {0, 1, 2}
    index = dataset.ids.index("10/ID10_(-30_20_10)")
    np.testing.assert_array_equal(dataset.poses[index], [-30, 20, 10])
    assert dataset.image(index).size == (20, 30)


def test_other_folders_and_hidden_files_are_no_people(folder):
    for name in (".mlx_headpose", "masks"):
        (folder / name).mkdir()
        (folder / name / "cache.npz").touch()
    (folder / "1" / "._ID1_(0_0_0).png").touch()  # of another system's file manager
    dataset = open_dataset("facescape", folder, train=True)
    assert len(dataset) == 81
    assert dataset.dropped == {}
    assert "3 people" in dataset.protocol


def test_missing_combinations_are_named(folder):
    (folder / "2" / "ID2_(30_-20_0).png").unlink()
    with pytest.raises(InputError, match=r"ID2_\(30_-20_0\)"):
        open_dataset("facescape", folder, train=True)
    dataset = open_dataset("facescape", folder, train=True, skip_bad=True)
    assert dataset.dropped == {"combination missing": 1}
    assert len(open_dataset("facescape", folder)) == 80  # a test needs no full grid
    (folder / "people.txt").write_text("1\n10\n")
    assert len(open_dataset("facescape", folder, folder / "people.txt", train=True)) == 54


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(InputError, match="holds no"):
        open_dataset("facescape", tmp_path)


def test_photos_without_a_face_are_counted_and_named_and_the_rest_is_kept(folder, capsys):
    Finder.calls = 0
    found = PhotoLandmarks(FaceScape(folder), Finder())
    assert found.dropped == {"no face found by MediaPipe": 3}
    assert found.without_face == [f"{p}/ID{p}_(30_20_10)" for p in ("1", "2", "10")]
    assert "10/ID10_(30_20_10)" in capsys.readouterr().err
    assert len(found) == len(found.poses) == len(found.columns["person"]) == 78
    assert all(np.abs(found.landmarks(i)).max() > 0 for i in range(len(found)))
    assert Finder.calls == 81
    PhotoLandmarks(FaceScape(folder), Finder())  # from the cache
    assert Finder.calls == 81
    moved = FaceScape(folder)
    moved.boxes = moved.boxes + 1
    PhotoLandmarks(moved, Finder())  # looked for elsewhere
    assert Finder.calls == 162


def test_what_was_found_keeps_its_photo(folder):
    photos = FaceScape(folder)
    found = PhotoLandmarks(photos, Finder())
    found.select(found.poses[:, 0] == 30)
    for index, name in enumerate(found.ids):
        assert found.path(index) == photos.path(photos.ids.index(name))
        colour = tuple((found.poses[index] + 128).astype(int))
        assert found.image(index).getpixel((5, 5)) == colour


def test_the_faces_of_a_network_of_landmarks_are_drawn(folder, tmp_path_factory, monkeypatch):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, which is not installed")
    monkeypatch.setattr(landmarks, "FaceMesh", Finder)
    place = tmp_path_factory.mktemp("drawn")
    save_pretrained(build(Config()), place / "net.safetensors")
    words = ["--dataset", "facescape", "--data_dir", str(folder)]
    words += ["--snapshot", str(place / "net.safetensors")]
    cli.main("test", [*words, "--worst", str(place / "worst.png")])
    with Image.open(place / "worst.png") as picture:
        assert picture.width > 500


def test_a_broken_photo_does_not_end_the_search(folder):
    Finder.calls = 0
    photo = folder / "2" / "ID2_(0_20_10).png"
    photos = FaceScape(folder)
    photo.write_bytes(photo.read_bytes()[:60])
    with pytest.raises(InputError, match=r"ID2_\(0_20_10\)\.png.*--skip_bad"):
        PhotoLandmarks(photos, Finder())
    found = PhotoLandmarks(photos, Finder(), skip_bad=True)
    assert Finder.calls == 80  # the second time from the cache
    assert found.dropped == {"picture broken": 1, "no face found by MediaPipe": 3}
    assert len(found) == 77


def test_the_tensor_is_filled_with_what_was_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(landmarks, "FaceMesh", Finder)
    monkeypatch.setattr(manifold_stages, "HEAD_STEPS", 5)
    dataset = with_landmarks(FaceScape(folder), 468)
    model = build(Config())
    assert prepare(model, dataset, tmp_path / "work", 0, lambda line: None) is dataset
    tensor = np.load(tmp_path / "work" / "stages" / "tensor.npy")
    assert tensor.shape == (3, 3, 3, 3, 1404)
    # The photos without a face take the person's front, turned: here the same.
    truth = Finder().face @ pose_to_matrix(np.array(Finder.blind, np.float64)).T
    truth = (truth - truth[1]) / np.linalg.norm(truth[33] - truth[263]) * [1, 1, -1]
    np.testing.assert_allclose(tensor[0, 2, 2, 2].reshape(468, 3), truth, atol=1e-4)
    np.testing.assert_allclose(np.array(model.head.cosines)[..., 1], 1, atol=0.01)


def test_angles_that_hardly_differ_make_no_manifold(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(landmarks, "FaceMesh", Finder)
    dataset = with_landmarks(FaceScape(folder), 468)
    dataset.select(dataset.poses[:, 2] >= 0)
    with pytest.raises(InputError, match="2 different angles of roll, and a manifold needs 3"):
        prepare(build(Config()), dataset, tmp_path / "work", 0, lambda line: None)


def test_mediapipe_points_become_image_axes_and_pixels(monkeypatch):
    """Its x and y are shares of the crop, its z is in widths and grows away from the viewer."""

    class Mesh:
        def __init__(self, **_):
            pass

        def process(self, image):
            point = SimpleNamespace(x=0.5, y=0.25, z=-0.1)
            face = SimpleNamespace(landmark=[point] * 478)
            return SimpleNamespace(multi_face_landmarks=[face])

    solutions = SimpleNamespace(face_mesh=SimpleNamespace(FaceMesh=Mesh))
    monkeypatch.setitem(sys.modules, "mediapipe", SimpleNamespace(solutions=solutions))
    box = np.array([10.0, 10, 50, 30])
    left, top, right, bottom = (int(v) for v in landmarks.ROOM.apply(box))
    points = FaceMesh()(np.zeros((100, 100, 3), np.uint8), box)
    assert points.shape == (468, 3)
    width, height = right - left, bottom - top
    expected = [left + width / 2, top + height / 4, 0.1 * width]
    np.testing.assert_allclose(points[0], expected, rtol=1e-5)


def test_without_mediapipe_the_message_says_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(InputError, match="pip install"):
        FaceMesh()
    with pytest.raises(InputError, match="pip install"):
        with_landmarks(FaceScape(folder), 468)
    with pytest.raises(InputError, match="--landmarks 468"):
        with_landmarks(FaceScape(folder), 68)
