"""Crops of scenes as a rendered set: poses of heads, and boxes without a head."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mlx_headpose import cli
from mlx_headpose.cli.datasets import open_for
from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.core.scene import HEAD, IGNORE
from mlx_headpose.data import open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.evaluation.detection import shown
from mlx_headpose.files import locked
from mlx_headpose.methods import config_class
from mlx_headpose.synthetic.rendered import read_list
from mlx_headpose.synthetic.scenes import crops
from mlx_headpose.synthetic.scenes.crops import MOST_OTHERS, render_crops
from mlx_headpose.synthetic.scenes.dataset import SceneSet
from tests.test_scenes import make_folder

RED = 60  # how much redder a head is than anything else


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("scenes"))


def perfect(image: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The true boxes, six that show nothing, and one that is neither."""
    heads = np.flatnonzero(targets[:, 10] == HEAD)
    nothing = np.tile(np.array((2.0, 2, 14, 14)), (7, 1))
    faces = np.concatenate((targets[heads, 4:8], nothing))
    boxes = np.concatenate((targets[heads, :4], nothing))
    return faces, boxes, np.concatenate((heads, [-1] * 6, [-2]))


def made(folder: Path, out: Path, count: int, seed: int = 3, find=perfect) -> int:
    return render_crops(SceneSet(folder, count, "train", seed, 96), find, out, {"seed": seed})


def test_heads_keep_their_poses_and_nothing_has_none(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "NOTHING", 0.0)
    scenes = SceneSet(folder, 30, "train", 3, 96)
    count = made(folder, tmp_path / "train", 30)
    names, values = read_list(tmp_path / "train" / "heads.csv")
    assert len(names) == count
    there = ~np.isnan(values[:, 4])
    true = []
    for index in range(30):
        _, targets, poses = scenes.posed(index)
        large = (targets[:, 6:8] - targets[:, 4:6]).min(1) >= crops.SMALLEST
        true.append(poses[(targets[:, 10] == HEAD) & large])
    np.testing.assert_allclose(values[there, 4:7], np.concatenate(true), atol=6e-4)
    assert (~there).sum() == 30 * MOST_OTHERS
    # A box of the list bounds in its image what it bounded in the scene: the red head.
    heads = open_dataset("rendered", tmp_path, crop=AROUND_LANDMARKS, train=True, yaw=180)
    reds = []
    for index in np.flatnonzero(there):
        x, y, width, height = values[index, 7:]
        pixels = np.asarray(heads.image(int(index))).astype(int)
        assert min(x, y) > -1e-3 or min(pixels.shape[:2]) < 96
        middle = np.array((y + height / 2, x + width / 2)).astype(int)
        middle = pixels[tuple(np.minimum(middle, np.array(pixels.shape[:2]) - 1))]
        reds.append(middle[0] - middle[1:].mean())
    assert np.median(reds) > RED


def test_scenes_that_are_there_stay_and_more_are_added(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "PER_FOLDER", 4)
    asked = []

    def find(image, targets):
        asked.append(1)
        return perfect(image, targets)

    made(folder, tmp_path / "a" / "train", 8, find=find)
    held = (tmp_path / "a" / "train" / "heads.csv").read_text().splitlines()
    made(folder, tmp_path / "a" / "train", 12, find=find)
    assert len(asked) == 12
    made(folder, tmp_path / "b" / "train", 12)
    lists = [(tmp_path / name / "train" / "heads.csv").read_text() for name in "ab"]
    assert lists[0] == lists[1]
    assert lists[0].splitlines()[: len(held)] == held
    # The last group of ten scenes is a part of one, and is rendered whole later.
    for count in (10, 12, 10):
        made(folder, tmp_path / "c" / "train", count)
        text = (tmp_path / "c" / "train" / "heads.csv").read_text()
        assert (text == lists[0]) == (count == 12)
        assert lists[0].startswith(text)
    with pytest.raises(InputError, match=r"of other settings \(seed\); give another --"):
        made(folder, tmp_path / "a" / "train", 12, seed=4)


def test_crops_are_rendered_by_one_command_at_a_time(folder, tmp_path):
    busy = pytest.raises(InputError, match="another rendering is writing there; wait for it")
    with locked(tmp_path / "train", "rendering", ""), busy:
        made(folder, tmp_path / "train", 1)
    made(folder, tmp_path / "train", 1)
    left = tmp_path / "train" / "000" / ".mlx-headpose-x.part.jpg"
    left.write_bytes(b"half of a crop")
    made(folder, tmp_path / "train", 2)
    assert not left.exists()


def test_boxes_without_an_area_are_left_out(folder, tmp_path):
    def find(image, targets):
        faces = np.array([[10.0, 10, 30, 30], [10, 10, 10, 30], [40, 40, 60, 60]])
        heads = np.array([[5.0, 5, 35, 35], [5, 5, 35, 35], [96, 30, 96, 70]])
        return faces, heads, np.full(3, -1)

    assert made(folder, tmp_path / "train", 5, find=find) >= 5
    _, values = read_list(tmp_path / "train" / "heads.csv")
    assert (values[:, [2, 3, 9, 10]] >= 8).all()
    none = np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0, int)
    assert made(folder, tmp_path / "none", 5, find=lambda *_: none) < 5


def test_an_interrupt_lists_whole_groups(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "PER_FOLDER", 2)
    calls = iter(range(100))

    def find(image, targets):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return perfect(image, targets)

    with pytest.raises(KeyboardInterrupt):
        made(folder, tmp_path / "train", 8, find=find)
    names, _ = read_list(tmp_path / "train" / "heads.csv")
    assert {name.split("/")[0] for name in names} == {"000", "001"}


def test_only_training_of_methods_that_learn_it_reads_nothing(folder, tmp_path):
    made(folder, tmp_path / "train", 10)
    made(folder, tmp_path / "val", 10)
    validation = open_dataset("rendered", tmp_path, yaw=180)
    assert validation.dropped["no head"] >= 10 * MOST_OTHERS
    assert np.isfinite(validation.poses).all()
    for method, learns in (("rotation9d", True), ("hopenet", False)):
        config = config_class(method)()
        heads = open_for(config, "rendered", tmp_path, None, train=True, yaw=180)
        assert np.isnan(heads.poses).any() == learns


def test_which_head_a_box_shows():
    targets = np.zeros((4, 11), np.float32)
    targets[1, [0, 1, 2, 3, 10]] = 10, 10, 50, 50, HEAD
    targets[2, [0, 1, 2, 3, 10]] = 60, 10, 90, 40, IGNORE
    boxes = np.array([[12.0, 10, 50, 50], [30, 10, 70, 50], [60, 10, 90, 40], [0, 60, 20, 90]])
    # A third of the second box's union is the head: neither clearly it nor clearly none.
    assert shown(boxes, targets).tolist() == [1, -2, -2, -1]
    assert shown(boxes, np.zeros_like(targets)).tolist() == [-1] * 4
    assert shown(boxes[:0], targets).shape == (0,)
    # A large box around a small head shows it, if not well, and so does a small one within it.
    around = np.array([[0.0, 0, 95, 95], [12, 12, 28, 28]])
    assert shown(around, targets[:2]).tolist() == [-2, -2]


def test_a_set_of_nothing_is_refused_where_heads_are_needed(folder, tmp_path):
    def find(image, targets):
        return *2 * (np.array([[10.0, 10, 30, 30]]),), np.array([-1])

    for split in ("train", "val"):
        made(folder, tmp_path / split, 4, find=find)
    with pytest.raises(InputError, match="none of its crops shows a head"):
        open_dataset("rendered", tmp_path)
    with pytest.raises(InputError, match="none of its crops shows a head"):
        open_for(config_class("hopenet")(), "rendered", tmp_path, None, train=True)
    assert len(open_for(config_class("rotation9d")(), "rendered", tmp_path, None, train=True)) >= 4


def test_the_command_cuts_what_the_bundled_detector_finds(folder, tmp_path, capsys):
    words = ["--kind", "crops", "--scenes", str(folder), "--out", str(tmp_path), "--part", "x"]
    cli.main("render", [*words, "--count", "3"])
    count = int(capsys.readouterr().out.split()[0])
    if count:
        assert len(read_list(tmp_path / "train-x" / "heads.csv")[0]) == count
    assert (tmp_path / "train-x" / "heads.csv").is_file()
    other = shutil.copytree(folder, tmp_path / "other")
    again = [*words, "--scenes", str(other), "--count", "4"]
    shutil.copy(other / "things" / "00000.npz", other / "things-val" / "00001.npz")
    cli.main("render", again)  # no scene of training shows what validation's do
    shutil.copy(other / "things" / "00000.npz", other / "things" / "00001.npz")
    with pytest.raises(SystemExit, match="2"):
        cli.main("render", again)
    error = capsys.readouterr().err
    assert "train-x: holds heads of other settings (scenes); give another --out" in error
