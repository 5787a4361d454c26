"""DAD-3DHeads: labels, boxes, and what is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.data import open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.pose import dad_matrix_to_pose


def entry(rotation: np.ndarray, name: str = "train/images/a.png") -> dict:
    return {"img_path": name, "bbox": [10, 20, 30, 40], "R": rotation.tolist(), "item_id": "x"}


FRONTAL = np.diag([1.0, -1.0, -1.0])  # y up to y down, and away from the viewer


def write(folder, entries):
    (folder / "train.json").write_text(json.dumps(entries))


def test_labels_equal_the_golden_and_what_lies_outside_is_counted(shared, tmp_path):
    with np.load(shared / "golden" / "dad_geometry.npz") as golden:
        rotations, angles = golden["R"], golden["pitch_yaw_roll_deg"]
    write(tmp_path, [entry(matrix, f"{i}.png") for i, matrix in enumerate(rotations)])
    dataset = open_dataset("DAD", tmp_path)
    inside = (np.abs(angles) <= 99).all(axis=1)
    assert 0 < inside.sum() < len(inside)
    assert list(dataset.ids) == [f"{i}.png" for i in np.flatnonzero(inside)]
    np.testing.assert_allclose(dataset.poses, angles[inside][:, [1, 0, 2]], atol=1e-3)
    assert dataset.dropped == {"an angle outside ±99°": int((~inside).sum())}


def test_boxes_and_margins(tmp_path):
    write(tmp_path, [entry(FRONTAL)])
    (tmp_path / "train/images").mkdir(parents=True)
    Image.new("RGB", (80, 90), (1, 2, 3)).save(tmp_path / "train/images/a.png")
    dataset = open_dataset("dad3dheads", tmp_path, tmp_path / "train.json")
    np.testing.assert_allclose(dataset.poses, [dad_matrix_to_pose(FRONTAL)], atol=1e-5)
    np.testing.assert_allclose(dataset.poses, np.zeros((1, 3)), atol=1e-5)
    np.testing.assert_array_equal(dataset.boxes, [[10, 20, 40, 60]])
    left, top = 10 - 0.6 * 0.2 * 30, 20 - 2 * 0.2 * 40
    right, bottom = 40 + 0.12 * (40 - left), 60 + 0.12 * (60 - top)
    np.testing.assert_allclose(dataset.crop_box(0), [left, top, right, bottom])
    assert dataset.image(0).size == (80, 90)
    training = open_dataset("DAD-3DHeads", tmp_path, train=True)
    boxes = [training.crop_box(0, np.random.default_rng(seed)) for seed in range(50)]
    assert np.ptp([box[0] for box in boxes]) > 2


BROKEN = [
    {"img_path": "a.png"},
    {**entry(FRONTAL), "R": [[1, 2], [3, 4]]},
    {**entry(FRONTAL), "R": [[1, 0, 0], [0, 1, 0], [0, 0, 5]]},
    {**entry(FRONTAL), "R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]},  # mirrors
    {**entry(FRONTAL), "bbox": [1, 2, 3]},
    {**entry(FRONTAL), "bbox": [1, 2, 3, float("nan")]},
    {**entry(FRONTAL), "bbox": [1, 2, 3, 0]},
    {**entry(FRONTAL), "bbox": [1, 2, 3e9, 4]},
    {**entry(FRONTAL), "img_path": "../secret.png"},
    {**entry(FRONTAL), "img_path": "/etc/passwd"},
    {**entry(FRONTAL), "img_path": 3},
    "text",
    None,
]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_entries_are_named_or_counted(tmp_path, broken):
    write(tmp_path, [entry(FRONTAL), broken])
    with pytest.raises(InputError, match="entry 1 is broken"):
        open_dataset("DAD", tmp_path)
    dataset = open_dataset("DAD", tmp_path, skip_bad=True)
    assert len(dataset) == 1
    assert dataset.dropped == {"a broken annotation": 1}


@pytest.mark.parametrize("content", ["", "{}", "[", "[" * 100_000])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(InputError, match=r"train\.json"):
        open_dataset("DAD", tmp_path)
