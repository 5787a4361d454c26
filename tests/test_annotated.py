"""AFLW2000 and 300W-LP: lists, filters, boxes, cache, and broken files."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mlx_headpose.cli import main
from mlx_headpose.core.crop import TRAINING, Margins, cut
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import open_dataset
from mlx_headpose.data.protocols import OPAL
from mlx_headpose.errors import InputError


@pytest.fixture
def folder(shared, tmp_path):
    """A few real samples in a folder of the test's own."""
    for stem in ("image00002", "image00004", "image00006"):
        for suffix in (".jpg", ".mat"):
            target = tmp_path / "set" / f"{stem}{suffix}"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(shared / "data" / "AFLW2000" / target.name, target)
    return tmp_path / "set"


def write_list(folder, *lines):
    path = folder.parent / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_filter_is_visible(shared):
    data = shared / "data" / "AFLW2000"
    everything = open_dataset("AFLW2000", data)
    assert len(everything) == 1969
    assert everything.dropped == {"an angle outside ±99°": 31}
    listed = open_dataset("aflw2000", data, data / "aflw2000_list.txt")
    assert list(listed.ids) == list(everything.ids)
    assert listed.dropped == {}


def test_poses_are_yaw_pitch_roll_in_degrees(shared):
    from scipy.io import loadmat

    data = open_dataset("AFLW2000", shared / "data" / "AFLW2000")
    pose = loadmat(shared / "data" / "AFLW2000" / f"{data.ids[5]}.mat")["Pose_Para"][0]
    np.testing.assert_allclose(data.poses[5], np.degrees(pose[[1, 0, 2]]), rtol=1e-5)


def test_300w_lp_in_its_own_layout(shared):
    root = shared / "data" / "300W_LP"
    data = open_dataset("Pose_300W_LP", root)
    assert list(data.ids) == (root / "300wlp_list.txt").read_text().split()
    box = data.crop_box(0, np.random.default_rng(0))
    assert cut(data.image(0), box, Preprocessing()).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "lines",
    [
        ("image00002", "image00006"),
        ("./image00002.jpg", "", "./image00006.jpg"),
        ("image00002.mat\r", " image00006 "),
    ],
)
def test_lists_in_every_spelling(folder, lines):
    data = open_dataset("AFLW2000", folder, write_list(folder, *lines))
    assert list(data.ids) == ["image00002", "image00006"]


def test_a_margin_where_the_crop_has_none_is_refused(folder):
    with pytest.raises(InputError, match="--ad changes nothing: this crop has no margins around"):
        open_dataset("AFLW2000", folder, crop=OPAL, ad=0.3)
    assert open_dataset("AFLW2000", folder, ad=0.3).margins.k == (0.3, 0.3)


def test_margins_see_the_sides_already_moved():
    # k = 0.5: x_min -= 0.3 * 100; then the width is 130.
    box = np.array([100.0, 100.0, 200.0, 200.0])
    margins = Margins((0.6, 2.0, 0.6, 0.6), (0.5, 0.5))
    np.testing.assert_allclose(margins.apply(box), [70.0, 0.0, 239.0, 260.0])


def test_random_margins_stay_in_range_and_are_reproducible():
    box = np.array([0.0, 0.0, 100.0, 100.0])
    boxes = [TRAINING.apply(box, np.random.default_rng(i)) for i in range(50)]
    margins = [-b[0] / 60 for b in boxes]
    assert 0.2 <= min(margins) < max(margins) <= 0.4
    assert (TRAINING.apply(box, np.random.default_rng(3)) == boxes[3]).all()


def test_a_crop_outside_the_picture_is_black(folder):
    data = open_dataset("AFLW2000", folder)
    picture = data.image(0)
    cropped = cut(picture, np.array([-1000, -1000, -10, -10]), Preprocessing(size=64))
    assert cropped.shape == (64, 64, 3)
    assert not cropped.any()


def test_the_list_is_parsed_once(folder, monkeypatch):
    first = open_dataset("AFLW2000", folder)
    assert (folder / ".mlx_headpose").is_dir()
    monkeypatch.setattr("mlx_headpose.data.annotated.read_annotation", None)
    again = open_dataset("AFLW2000", folder)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    monkeypatch.undo()
    os.utime(folder / "image00002.mat", (1, 1))
    monkeypatch.setattr("mlx_headpose.data.annotated.read_annotation", None)
    with pytest.raises(TypeError):  # a changed file is parsed anew
        open_dataset("AFLW2000", folder)


def test_a_damaged_cache_is_made_anew(folder):
    open_dataset("AFLW2000", folder)
    for cache in (folder / ".mlx_headpose").iterdir():
        cache.write_bytes(b"junk")
    assert len(open_dataset("AFLW2000", folder)) == 3


def test_a_read_only_folder_is_not_written_to(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.platform", "linux")
    folder.chmod(0o555)
    open_dataset("AFLW2000", folder)
    folder.chmod(0o755)
    assert not (folder / ".mlx_headpose").exists()
    assert list((tmp_path / "cache" / "mlx-headpose").rglob("*.npz"))


@pytest.mark.parametrize("pose", [[1.0, 2.0], [np.nan, 0.0, 0.0], None])
def test_a_list_is_made_of_whole_annotations(folder, pose, capsys):
    path = folder / "image00004.mat"
    path.write_bytes(b"MATLAB") if pose is None else savemat(path, {"Pose_Para": pose})
    arguments = ["--root_dir", str(folder)]
    with pytest.raises(SystemExit):
        main("create_filename_list", arguments)
    error = capsys.readouterr().err
    assert "image00004.mat" in error
    assert "--skip_bad" in error
    main("create_filename_list", [*arguments, "--skip_bad"])
    assert "(2 names; 0 have an angle outside ±99°; 1 are broken)" in capsys.readouterr().out
    assert (folder / "files.txt").read_text() == "image00002\nimage00006\n"


def test_a_list_holds_names_that_are_no_text(folder):
    name = os.fsdecode(b"caf\xe9")
    try:
        for suffix in (".mat", ".jpg"):
            (folder / f"image00004{suffix}").rename(folder / f"{name}{suffix}")
    except OSError:
        pytest.skip("this file system takes no such name")
    main("create_filename_list", ["--root_dir", str(folder)])
    assert b"caf\xe9\n" in (folder / "files.txt").read_bytes()
    assert name in open_dataset("AFLW2000", folder, folder / "files.txt").ids


def test_angles_in_degrees_are_no_radians(folder):
    for number, name in enumerate(("image00002", "image00004", "image00006")):
        path = folder / f"{name}.mat"
        content = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}
        content["Pose_Para"] = np.array([[5.0, 30.0 + number, -10.0]])
        savemat(path, content)
    with pytest.raises(InputError, match="set: most of its poses are beyond a full turn"):
        open_dataset("AFLW2000", folder)


def test_a_missing_file_is_named_or_counted(folder):
    names = write_list(folder, "image00002", "image09999")
    with pytest.raises(InputError, match=r"image09999\.mat.*--skip_bad"):
        open_dataset("AFLW2000", folder, names)
    data = open_dataset("AFLW2000", folder, names, skip_bad=True)
    assert data.dropped == {"file missing": 1}


def wrong(points: np.ndarray, kind: str) -> np.ndarray:
    points = points.astype(np.float64).copy()
    if kind == "turned":
        return points.T
    if kind == "flat":
        return np.repeat(points[:, :1], points.shape[1], 1)
    points[0, 3] = {"nan": np.nan, "inf": np.inf, "huge": 1e9, "overflow": 1e300}[kind]
    return points


@pytest.mark.parametrize("field", ["pt2d", "pt3d_68", "Pose_Para"])
@pytest.mark.parametrize("kind", ["nan", "inf", "huge", "overflow", "turned", "flat"])
def test_numbers_that_cannot_be_are_named_or_counted(folder, field, kind):
    if field == "Pose_Para" and kind in ("turned", "flat"):
        pytest.skip("seven numbers in any arrangement")
    path = folder / "image00004.mat"
    content = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}
    if field == "Pose_Para":
        pose = content[field].astype(np.float64)
        pose[0, 1] = {"nan": np.nan, "inf": np.inf, "huge": 1e9, "overflow": 1e300}[kind]
        content[field] = pose
    else:
        content[field] = wrong(content[field], kind)
    savemat(path, content)
    with pytest.raises(InputError, match=rf"image00004\.mat: {field}.*--skip_bad"):
        open_dataset("AFLW2000", folder)
    data = open_dataset("AFLW2000", folder, skip_bad=True)
    assert data.dropped == {"annotation broken": 1}


def test_real_files_of_such_numbers(shared):
    folder = shared / "faults" / "landmarks"
    for _ in range(2):  # without a cache, and with the one that --skip_bad leaves
        with pytest.raises(InputError, match=r"\.mat: pt2d holds values that are no numbers"):
            open_dataset("AFLW2000", folder)
        with pytest.raises(InputError, match="no usable sample"):
            open_dataset("AFLW2000", folder, skip_bad=True)


def test_a_box_that_would_take_all_memory_is_refused(folder):
    data = open_dataset("AFLW2000", folder)
    data.boxes[1] = [0, 0, 90_000, 90_000]
    with pytest.raises(InputError, match=r"image00004: a box of \d+×\d+ pixels; fix"):
        data.crop_box(1)


def test_annotations_without_a_picture_are_passed_over(folder):
    (folder / "landmarks").mkdir()
    shutil.copyfile(folder / "image00002.mat", folder / "landmarks" / "image00002.mat")
    assert len(open_dataset("AFLW2000", folder)) == 3


def test_a_broken_annotation_is_named_or_counted(folder):
    (folder / "image00004.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(500))
    with pytest.raises(InputError, match=r"image00004\.mat: damaged"):
        open_dataset("AFLW2000", folder)
    data = open_dataset("AFLW2000", folder, skip_bad=True)
    assert list(data.ids) == ["image00002", "image00006"]
    assert data.dropped == {"annotation broken": 1}


@pytest.mark.parametrize(
    "content", [{"other": 1.0}, {"Pose_Para": "text"}, {"Pose_Para": [[1.0, 2.0]]}]
)
def test_a_foreign_annotation_is_named(folder, content):
    savemat(folder / "image00004.mat", content)
    with pytest.raises(InputError, match=r"image00004\.mat"):
        open_dataset("AFLW2000", folder)


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_a_list_cannot_leave_its_folder(folder, line):
    with pytest.raises(InputError, match="outside the data folder"):
        open_dataset("AFLW2000", folder, write_list(folder, line))


def test_missing_and_empty_places_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_dataset("AFLW2000", tmp_path / "nowhere")
    with pytest.raises(InputError, match="--data_dir"):
        open_dataset("AFLW2000")
    with pytest.raises(InputError, match="the list is empty"):
        open_dataset("AFLW2000", folder, write_list(folder, ""))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.mat files"):
        open_dataset("AFLW2000", tmp_path / "empty")
    with pytest.raises(InputError, match="unknown dataset"):
        open_dataset("AFLW3000", folder)
