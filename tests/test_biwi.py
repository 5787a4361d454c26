"""BIWI in its three forms: as released, FSA-Net's pack, and the pyramid network's crops."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_headpose.cli import main
from mlx_headpose.core.crop import AROUND_HEAD, AROUND_LANDMARKS, AROUND_POINTS, cut
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import open_dataset
from mlx_headpose.data.biwi import PYRAMID_TRAINING, TEST_SEQUENCES, read_pose
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.pyramid.network import Config as PyramidConfig
from mlx_headpose.pose import biwi_matrix_to_pose
from mlx_headpose.weights import save_pretrained

# The sequences in which the same person appears twice.
SAME_PERSON = [("03", "15"), ("05", "18"), ("02", "21"), ("07", "22")]


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.linalg.det(q))


def release(folder: Path, frames: dict[str, np.ndarray]) -> None:
    """Frames as released: name → rotation."""
    for number, (name, matrix) in enumerate(frames.items()):
        picture = folder / f"{name}_rgb.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (number, 100, 200)).save(picture)
        rows = [" ".join(f"{value:.6g}" for value in row) + " " for row in matrix]
        text = "\n".join([*rows, "", "62.1 34.5 901.2 ", ""])
        (folder / f"{name}_pose.txt").write_text(text)


def box_file(path: Path, names: list[str]) -> Path:
    lines = ["frame,x,y,width,height", *(f"{name},10,8,20,20" for name in names)]
    path.write_text("\n".join(lines) + "\n")
    return path


def prepare(folder: Path, numbers: list[int]) -> np.ndarray:
    """Crops as the pyramid network's authors prepare them; their poses in order of number."""
    rng = np.random.default_rng(0)
    poses = rng.uniform(-60, 60, (len(numbers), 3))
    for number, pose in zip(sorted(numbers), poses, strict=True):
        image = np.zeros((12, 10, 3), np.uint8)
        image[..., 0] = 250  # blue, for the form is BGR
        np.savez(folder / f"{number}.npz", image=image, pose=pose)
    return poses


def test_released_frames_get_hopenets_angles(tmp_path):
    rng = np.random.default_rng(1)
    frames = {f"{n:02d}/frame_{i:05d}": rotation(rng) for n in (1, 2) for i in (3, 4)}
    release(tmp_path / "hpdb", frames)
    boxes = box_file(tmp_path / "boxes.csv", list(frames))
    dataset = open_dataset("biwi", tmp_path, crop=AROUND_LANDMARKS, boxes=boxes)
    assert list(dataset.ids) == list(frames)
    expected = np.stack([biwi_matrix_to_pose(matrix) for matrix in frames.values()])
    np.testing.assert_allclose(dataset.poses, expected, atol=1e-3)
    assert dataset.image(3).getpixel((0, 0)) == (3, 100, 200)
    # FSA-Net's margin: 0.4 of the face box on every side.
    np.testing.assert_allclose(dataset.crop_box(0), [2, 0, 38, 36], atol=1e-6)
    assert "as released" in dataset.protocol
    assert "boxes.csv" in dataset.protocol
    # HopeNet's, line by line.
    hopenet = open_dataset("BIWI", tmp_path, crop=AROUND_POINTS)
    left, top = 10 - 0.6 * 0.35 * 20, 8 - 0.35 * 20
    right, bottom = 30 + 0.21 * (30 - left), 28 + 0.21 * (28 - top)
    np.testing.assert_allclose(hopenet.crop_box(0), [left, top, right, bottom], atol=1e-6)


def test_the_golden_matrices_through_a_file(shared, tmp_path):
    with np.load(shared / "golden" / "geometry.npz") as golden:
        for matrix, angles in zip(
            golden["biwi_file_matrix"][:8], golden["biwi_pitch_yaw_roll_deg"], strict=False
        ):
            release(tmp_path, {"01/frame_00003": matrix})
            pitch, yaw, roll = angles
            found = read_pose(tmp_path / "01/frame_00003_pose.txt")
            np.testing.assert_allclose(found, [yaw, pitch, roll], atol=1e-3)


def test_what_mirrors_is_no_rotation(tmp_path):
    release(tmp_path, {"01/frame_00003": np.diag([1.0, 1.0, -1.0])})
    with pytest.raises(InputError, match=r"frame_00003_pose\.txt: .* no rotation"):
        read_pose(tmp_path / "01/frame_00003_pose.txt")


def test_real_frames(shared):
    folder = shared / "data" / "BIWI"
    dataset = open_dataset("BIWI", folder, boxes=folder / "frames.csv")
    assert len(dataset) == 10
    assert dataset.ids[0] == "01/frame_00166"
    # frames.csv: −9.6010, −1.4367, −1.3168 are pitch with the opposite sign, yaw and roll.
    np.testing.assert_allclose(dataset.poses[0], [-1.4367, 9.6010, -1.3168], atol=1e-3)
    assert dataset.image(0).size == (640, 480)
    np.testing.assert_array_equal(dataset.boxes[0], [272, 201, 272 + 157, 201 + 157])


def test_boxes_can_be_found_by_a_function_and_are_kept(tmp_path):
    rng = np.random.default_rng(2)
    release(tmp_path, {f"05/frame_{i:05d}": rotation(rng) for i in range(3)})
    calls = []

    def find(picture: Image.Image) -> np.ndarray | None:
        red = picture.getpixel((0, 0))[0]
        calls.append(red)
        return None if red == 1 else np.array([red, 2, 30, 40])

    for _ in range(2):
        dataset = open_dataset("BIWI", tmp_path, boxes=find)
        assert list(dataset.ids) == ["05/frame_00000", "05/frame_00002"]
        assert dataset.dropped == {"no face box": 1}
        np.testing.assert_array_equal(dataset.boxes, [[0, 2, 30, 40], [2, 2, 30, 40]])
        assert "detected boxes" in dataset.protocol
    assert len(calls) == 3


def test_our_split_divides_sequences_and_never_a_person(tmp_path):
    rng = np.random.default_rng(3)
    names = [f"{n:02d}/frame_00003" for n in range(1, 25)]
    release(tmp_path, {name: rotation(rng) for name in names})
    box_file(tmp_path / "boxes.csv", names)
    parts = [open_dataset("BIWI", tmp_path, split="sequence", train=t) for t in (True, False)]
    training, test = ({name[:2] for name in part.ids} for part in parts)
    assert (len(training), len(test)) == (16, 8)
    assert test == set(TEST_SEQUENCES)
    assert training | test == {name[:2] for name in names}
    assert all((one in test) == (other in test) for one, other in SAME_PERSON)
    assert "test sequences" in parts[1].protocol
    with pytest.raises(InputError, match="--split sequence"):
        open_dataset("BIWI", tmp_path, split="pyramid")


def test_lists_name_frames_with_or_without_ending(tmp_path):
    rng = np.random.default_rng(4)
    release(tmp_path, {f"09/frame_{i:05d}": rotation(rng) for i in range(3)})
    box_file(tmp_path / "boxes.csv", ["09/frame_00001_rgb", "09/frame_00002"])
    (tmp_path / "list.txt").write_text("09/frame_00001\n09/frame_00002_rgb.png\n")
    dataset = open_dataset("BIWI", tmp_path, tmp_path / "list.txt")
    assert list(dataset.ids) == ["09/frame_00001", "09/frame_00002"]


@pytest.mark.parametrize(
    "content", [b"", b"1 0 0\n0 1 0\n", b"1 0 0 0 1 0 0 0 2\n0 0 900", b"\xff\xfe", b"nan " * 12]
)
def test_broken_poses_are_named_or_counted(tmp_path, content):
    release(tmp_path, {f"01/frame_{i:05d}": np.eye(3) for i in range(2)})
    box_file(tmp_path / "boxes.csv", ["01/frame_00000", "01/frame_00001"])
    (tmp_path / "01/frame_00001_pose.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"frame_00001_pose\.txt: not a pose"):
        open_dataset("BIWI", tmp_path)
    dataset = open_dataset("BIWI", tmp_path, skip_bad=True)
    assert len(dataset) == 1
    assert dataset.dropped == {"a broken pose": 1}


def test_files_that_are_not_there_are_named_or_counted(tmp_path):
    names = [f"01/frame_{i:05d}" for i in range(3)]
    release(tmp_path / "hpdb", {name: np.eye(3) for name in names})
    box_file(tmp_path / "hpdb" / "boxes.csv", names)
    (tmp_path / "hpdb" / f"{names[1]}_pose.txt").unlink()
    (tmp_path / "hpdb" / f"{names[2]}_rgb.png").unlink()
    (tmp_path / "crops").mkdir()
    prepare(tmp_path / "crops", [0, 1])
    (tmp_path / "crops.txt").write_text("0\n1\n2\n")
    (tmp_path / "hpdb.txt").write_text("\n".join(names))
    for folder, kept in (("hpdb", names[:1]), ("crops", ["0", "1"])):
        given = tmp_path / folder, tmp_path / f"{folder}.txt"
        with pytest.raises(InputError, match="listed but not there"):
            open_dataset("BIWI", *given)
        dataset = open_dataset("BIWI", *given, skip_bad=True)
        assert list(dataset.ids) == kept
        assert dataset.dropped == {"file missing": len(given[1].read_text().split()) - len(kept)}


def test_a_broken_frame_does_not_end_the_search_for_faces(tmp_path):
    release(tmp_path, {f"01/frame_{i:05d}": np.eye(3) for i in range(3)})
    (tmp_path / "01/frame_00001_rgb.png").write_bytes(b"junk")
    calls = []

    def find(picture):
        calls.append(picture)
        return np.array([1, 1, 9, 9])

    with pytest.raises(InputError, match=r"frame_00001_rgb\.png.*--skip_bad"):
        open_dataset("BIWI", tmp_path, boxes=find)
    dataset = open_dataset("BIWI", tmp_path, boxes=find, skip_bad=True)
    assert len(dataset) == len(calls) == 2  # what was found is kept
    assert dataset.dropped == {"no face box": 1}


def test_boxes_from_spreadsheets_are_read(tmp_path):
    release(tmp_path, {"01/frame_00000": np.eye(3)})
    lines = ["\ufeffframe, x,y,width , height", "", "01/frame_00000 ,10,8,20,20", ",,,,"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    np.testing.assert_array_equal(open_dataset("BIWI", tmp_path).boxes, [[10, 8, 30, 28]])


@pytest.mark.parametrize("packed", [True, False])
def test_crops_of_other_numbers_than_grey_levels_are_refused(tmp_path, packed):
    image, path = np.full((12, 10, 3), 250.0), tmp_path / "0.npz"
    for values, good in ((image, True), (image / 255, False), (image + 10, False)):
        shape, pose = ((1, *image.shape), (1, 3)) if packed else (image.shape, (3,))
        np.savez(path, image=values.reshape(shape), pose=np.zeros(pose))
        dataset = open_dataset("BIWI", path if packed else tmp_path)
        if good:
            assert dataset.image(0).getpixel((0, 0)) == (250, 250, 250)
            continue
        with pytest.raises(InputError, match=r"0\.npz: its pixels are not whole numbers"):
            dataset.image(0)


def test_frames_need_boxes(tmp_path):
    release(tmp_path, {"01/frame_00000": np.eye(3)})
    with pytest.raises(InputError, match="--boxes detect"):
        open_dataset("BIWI", tmp_path)
    (tmp_path / "boxes.csv").write_text("picture,x\n1,2\n")
    with pytest.raises(InputError, match="not a CSV file"):
        open_dataset("BIWI", tmp_path)


def test_prepared_crops(tmp_path):
    poses = prepare(tmp_path, [10, 2, 0, 1])
    dataset = open_dataset("BIWI", tmp_path, crop=AROUND_LANDMARKS)
    assert list(dataset.ids) == ["0", "1", "2", "10"]
    np.testing.assert_allclose(dataset.poses, poses, atol=1e-5)
    np.testing.assert_array_equal(dataset.crop_box(0), [0, 0, 10, 12])
    assert dataset.image(0).getpixel((0, 0)) == (0, 0, 250)
    assert "whole" in dataset.protocol
    (tmp_path / "list.txt").write_text("2\n10\n")
    listed = open_dataset("BIWI", tmp_path, tmp_path / "list.txt")
    np.testing.assert_allclose(listed.poses, poses[2:], atol=1e-5)
    assert "list.txt" in listed.protocol


def test_the_published_split_goes_by_position(tmp_path):
    numbers = [0, PYRAMID_TRAINING - 1, PYRAMID_TRAINING, 13218]
    poses = prepare(tmp_path, numbers)
    training = open_dataset("BIWI", tmp_path, split="pyramid", train=True)
    test = open_dataset("BIWI", tmp_path, split="pyramid")
    assert list(training.ids) == ["0", "9887"]
    assert list(test.ids) == ["9888", "13218"]
    np.testing.assert_allclose(test.poses, poses[2:], atol=1e-5)
    assert "by position" in test.protocol
    with pytest.raises(InputError, match="released frames"):
        open_dataset("BIWI", tmp_path, split="sequence")
    with pytest.raises(InputError, match="no split"):
        open_dataset("BIWI", tmp_path, split="random")


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
@pytest.mark.parametrize("as_file", [True, False])
def test_fsa_nets_pack(tmp_path, kind, as_file):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (5, 8, 8, 3)).astype(kind)
    poses = rng.uniform(-70, 70, (5, 3))
    path = tmp_path / "BIWI_noTrack.npz"
    np.savez(path, image=images, pose=poses, img_size=8)
    (tmp_path / "._BIWI_noTrack.npz").write_bytes(b"of a Mac")
    dataset = open_dataset("BIWI", path if as_file else tmp_path)
    np.testing.assert_allclose(dataset.poses, poses, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(dataset.image(2)), images[2][..., ::-1])
    dataset.select(np.array([False, False, True, False, True]))
    np.testing.assert_array_equal(np.asarray(dataset.image(1)), images[4][..., ::-1])
    with pytest.raises(InputError, match="separate files"):
        open_dataset("BIWI", path, split="pyramid")


def test_a_margin_where_the_crop_has_none_is_refused(tmp_path):
    release(tmp_path, {"01/frame_00003": np.eye(3)})
    boxes = box_file(tmp_path / "boxes.csv", ["01/frame_00003"])
    with pytest.raises(InputError, match=r"--ad changes nothing: .* the boxes of BIWI; leave it"):
        open_dataset("BIWI", tmp_path, crop=AROUND_HEAD, boxes=boxes, ad=0.0)
    wide = open_dataset("BIWI", tmp_path, crop=AROUND_LANDMARKS, boxes=boxes, ad=0.5)
    assert wide.margins.k == (0.5, 0.5)


def test_several_packs_must_be_told_apart(tmp_path):
    for name in ("BIWI_train", "BIWI_test"):
        np.savez(tmp_path / f"{name}.npz", image=np.zeros((2, 8, 8, 3)), pose=np.zeros((2, 3)))
    with pytest.raises(InputError, match="several packed sets"):
        open_dataset("BIWI", tmp_path)


@pytest.mark.parametrize("form", ["file", "folder of a pack", "prepared"])
def test_what_cuts_released_frames_is_refused_for_crops(tmp_path, form):
    path = tmp_path
    if form == "prepared":
        prepare(tmp_path, [0, 1])
    else:
        pack = tmp_path / "BIWI.npz"
        np.savez(pack, image=np.zeros((2, 8, 8, 3), np.uint8), pose=np.zeros((2, 3)))
        path = pack if form == "file" else tmp_path
    for given in ({"ad": 0.3}, {"boxes": tmp_path / "boxes.csv"}, {"ad": 0.2, "boxes": find_none}):
        names = " and ".join(f"--{name}" for name in given)
        with pytest.raises(InputError, match=f"crops are taken whole, so leave {names} out"):
            open_dataset("BIWI", path, **given)
    assert len(open_dataset("BIWI", path)) == 2


def find_none(picture):
    raise AssertionError("nothing is searched")


def test_broken_poses_of_a_pack_are_named_or_counted(tmp_path):
    poses = np.zeros((3, 3))
    poses[1, 2] = np.nan
    np.savez(tmp_path / "BIWI.npz", image=np.zeros((3, 8, 8, 3), np.uint8), pose=poses)
    for path in (tmp_path, tmp_path / "BIWI.npz"):
        with pytest.raises(InputError, match="the pose of 1 is broken"):
            open_dataset("BIWI", path)
        dataset = open_dataset("BIWI", path, skip_bad=True)
        assert list(dataset.ids) == ["0", "2"]
        assert dataset.dropped == {"a broken pose": 1}


def damaged(path: Path, kind: str) -> None:
    image, pose = np.zeros((4, 4, 3), np.uint8), np.zeros(3)
    if kind == "objects":
        np.savez(path, image=image, pose=np.array([{}, {}, {}]))
    elif kind == "no pose":
        np.savez(path, image=image)
    elif kind == "shape":
        np.savez(path, image=image, pose=np.zeros(4))
    elif kind == "truncated":
        np.savez(path, image=image, pose=pose)
        path.write_bytes(path.read_bytes()[:-40])
    else:  # a header that claims more than the file holds
        np.savez(path, image=image, pose=pose)
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        contents["pose.npy"] = contents["pose.npy"].replace(b"(3,)", b"(3000000000,)")
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)


@pytest.mark.parametrize("kind", ["objects", "no pose", "shape", "truncated", "claims"])
def test_damaged_crops_are_named_or_counted(tmp_path, kind):
    prepare(tmp_path, [0, 1])
    damaged(tmp_path / "7.npz", kind)
    with pytest.raises(InputError, match=r"7\.npz"):
        open_dataset("BIWI", tmp_path)
    dataset = open_dataset("BIWI", tmp_path, skip_bad=True)
    assert list(dataset.ids) == ["0", "1"]
    assert dataset.dropped == {"file broken": 1}


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(InputError):
        open_dataset("BIWI", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_dataset("BIWI", tmp_path / "nowhere")


@pytest.fixture
def snapshot(tmp_path) -> Path:
    """A folder with two epochs of an untrained pyramid network for 64 pixels."""
    folder = tmp_path / "X"
    for epoch in (1, 2):
        mx.random.seed(epoch)
        config = PyramidConfig(preprocessing=Preprocessing(64, "squash", crop=AROUND_LANDMARKS))
        save_pretrained(build(config), folder / f"{epoch}.safetensors")
    return folder


def test_the_published_test_command_word_for_word(tmp_path, monkeypatch, snapshot, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "datasets/BIWI"
    folder.mkdir(parents=True)
    prepare(folder, [0, 1, 2])
    (folder / "biwi_list.txt").write_text("0\n1\n2\n")
    command = (
        "--dataset BIWI --val_dataset BIWI --val_data_dir datasets/BIWI --val_filename_list "
        "datasets/BIWI/biwi_list.txt --snapshot X --num_epoch 100 --input_size 72 --crop_size 64 "
        "--crop 1"
    )
    main("test", command.split())
    shown = capsys.readouterr().out
    assert (
        "protocol: BIWI as the pyramid network's authors prepare it, those that biwi_list" in shown
    )
    assert "1.safetensors:" in shown
    assert "best: " in shown
    main("test", [*command.split(), "--model", "pyramid", "--start", "2", "--efficient", "4"])
    assert "1.safetensors" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main("test", [*command.split(), "--model", "hopenet"])
    assert done.value.code == 2
    assert "is a pyramid network" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main("test", [*command.split(), "--start", "3"])
    assert "no .safetensors snapshots of these epochs" in capsys.readouterr().err


def test_one_snapshot_of_the_split_as_the_readme_of_the_method_says(tmp_path, snapshot, capsys):
    prepare(tmp_path, [0, PYRAMID_TRAINING])
    arguments = ["--dataset", "BIWI", "--data_dir", str(tmp_path), "--split", "pyramid"]
    main("test", [*arguments, "--snapshot", str(snapshot / "2.safetensors"), "--input_size", "96"])
    shown = capsys.readouterr().out
    assert "1 of 1 images" in shown
    assert "split pyramid by position (test part" in shown


def test_crop_keeps_the_centre_of_the_scaled_crop():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (100, 80, 3), np.uint8))
    whole = cut(picture, np.array([0, 0, 80, 100]), Preprocessing(240, "squash"))
    central = cut(picture, np.array([0, 0, 80, 100]), Preprocessing(224, "squash", 240))
    np.testing.assert_array_equal(central, whole[8:-8, 8:-8])


def test_training_on_a_split_validates_on_its_other_part(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    prepare(folder, [0, 1, 2, 3, PYRAMID_TRAINING, PYRAMID_TRAINING + 1])
    command = (
        "--model pyramid --dataset BIWI --data_dir data --split pyramid --num_epoch 1 --batch_size "
        "2 --input_size 32 --augment 0.5 --flip 1 --output_string BIWI --seed 1"
    )
    main("train", command.split())
    shown = capsys.readouterr().out
    assert "4 training and 2 validation samples" in shown
    assert "--dataset BIWI --data_dir data --split pyramid --snapshot" in shown
    assert "both train and validate" not in shown
    assert (tmp_path / "workdirs_BIWI/snapshots/1.safetensors").exists()
    # Going on from that snapshot needs no --model: the snapshot says it.
    command = (
        "--dataset BIWI --data_dir data --num_epoch 1 --batch_size 2 --val_dataset BIWI --transfer "
        "1 --snapshot workdirs_BIWI/snapshots/1.safetensors --output_string again"
    )
    main("train", command.split())
    shown = capsys.readouterr().out
    assert "\npyramid" in shown
    assert "pretrained" in shown
    assert "Warning: 6 samples of BIWI both train and validate" in shown


def test_faces_of_real_frames_are_found_by_the_detector(
    shared, tmp_path, monkeypatch, snapshot, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shared / "data/BIWI/hpdb", tmp_path / "BIWI/hpdb")
    onnx = shared / "weights/face_detection_yunet_2023mar.onnx"
    main("convert", ["--weight", str(onnx), "--output", "weights/yunet-2023mar.safetensors"])
    path = str(snapshot / "1.safetensors")
    arguments = ["--dataset", "BIWI", "--data_dir", "BIWI", "--boxes", "detect"]
    main("test", [*arguments, "--snapshot", path, "--split", "all", "--json", "report.json"])
    shown = capsys.readouterr().out
    assert "10 of 10 images" in shown
    assert "detected boxes, FSA-Net's margins (k = 0.4)" in shown
    assert "as released" in json.loads((tmp_path / "report.json").read_text())["protocol"]
    # The boxes that come with the frames show the same faces.
    given = open_dataset("BIWI", "BIWI", boxes=shared / "data/BIWI/frames.csv")
    found = open_dataset("BIWI", "BIWI", boxes=lambda picture: pytest.fail("not from the cache"))
    centres = [(d.boxes[:, :2] + d.boxes[:, 2:]) / 2 for d in (given, found)]
    assert np.abs(centres[0] - centres[1]).max() < 30
