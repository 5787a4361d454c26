"""The crop of a method: its margins, what stands in for a missing box, and its form in files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.core.crop import (
    AROUND_HEAD,
    AROUND_LANDMARKS,
    AROUND_POINTS,
    BOXES,
    CLOSE,
    FACE_OF_HEAD,
    LOOSE,
    NONE,
    TRAINING,
    Crop,
    Margins,
    cut,
    part_of,
)
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import METHODS, config_class, config_from_dict, crop_named
from mlx_headpose.methods.rotation9d.network import CROP
from mlx_headpose.weights import BUNDLED, from_pretrained


@pytest.mark.parametrize(
    ("crop", "kinds", "kind", "test", "train"),
    [
        (AROUND_POINTS, ["points", "landmarks"], "points", LOOSE, TRAINING),
        (AROUND_POINTS, ["landmarks"], "landmarks", CLOSE, TRAINING),
        (AROUND_POINTS, ["head"], "head", NONE, NONE),
        (AROUND_LANDMARKS, ["points", "landmarks"], "landmarks", CLOSE, TRAINING),
        (AROUND_LANDMARKS, ["head"], "head", FACE_OF_HEAD, FACE_OF_HEAD),
        (AROUND_HEAD, ["landmarks", "head"], "head", NONE, NONE),
        (AROUND_HEAD, ["landmarks", "points"], "points", LOOSE, TRAINING),
        (AROUND_HEAD, ["landmarks"], "landmarks", CLOSE, TRAINING),
    ],
)
def test_a_box_or_what_stands_in_for_it(crop, kinds, kind, test, train):
    for training, margins in ((False, test), (True, train)):
        around = crop.around("set", kinds, training)
        assert (around.kind, around.margins) == (kind, margins)
    assert crop.around("set", kinds, False, k=0.5).margins.k == (0.5, 0.5)


@pytest.mark.parametrize("resize", ["short_side", "whole"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_line_of_pixels_becomes_no_huge_image(resize, turned, monkeypatch):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (1500, 1500, 3), np.uint8))
    box, usual = np.array([700, 0, 701, 1500]), Preprocessing(size=8, resize=resize)
    if turned:
        box = box[[1, 0, 3, 2]]
    found = cut(picture, box, usual)
    monkeypatch.setattr("mlx_headpose.core.crop.LONGEST", 10_000)
    whole = cut(picture, box, usual)
    assert max(found.shape) <= 50 * 8 < max(found.shape) * (resize == "whole") + 50 * 8 + 1
    if resize == "short_side":
        np.testing.assert_array_equal(found, whole)


def test_a_box_that_cannot_be_made_is_one_sentence():
    with pytest.raises(InputError, match="set has boxes of all annotated points"):
        AROUND_LANDMARKS.around("set", ["points"], train=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Crop("nose"),
        lambda: Margins((1.0, 1.0, 1.0)),
        lambda: Margins((1.0, 1.0, float("nan"), 1.0)),
        lambda: Margins((1.0, 1.0, 1.0, 1e9)),
        lambda: Margins(k=(0.4, 0.2)),
        lambda: Margins(k=(0.2, float("inf"))),
    ],
)
def test_impossible_crops_are_refused(make):
    with pytest.raises(InputError):
        make()


def test_a_crop_is_saved_with_the_weights():
    crop = Crop("head", face=Margins((0.1, 0.2, 0.3, 0.4), (0.1, 0.3)))
    for method in METHODS:
        config = config_class(method)()
        preprocessing = dataclasses.replace(config.preprocessing, crop=crop)
        config = dataclasses.replace(config, preprocessing=preprocessing)
        stored = json.loads(json.dumps(config.to_dict()))
        assert config_from_dict(stored) == config
    stored["preprocessing"]["crop"]["box"] = "nose"
    with pytest.raises(InputError, match="unknown box 'nose'"):
        config_from_dict(stored)


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("hopenet", AROUND_POINTS),
        ("tokenhpe", AROUND_POINTS),
        ("pyramid", AROUND_LANDMARKS),
        ("box", AROUND_HEAD),
    ],
)
def test_files_that_name_a_crop_still_load(name, crop):
    stored = {"model_type": "whenet", "preprocessing": {"size": 64, "crop": name}}
    assert config_from_dict(stored).preprocessing.crop == crop
    assert crop_named(name) == crop


def test_an_unknown_name_of_a_crop_is_refused():
    stored = {"model_type": "whenet", "preprocessing": {"crop": "golden"}}
    with pytest.raises(InputError, match="unknown crop rule 'golden'"):
        config_from_dict(stored)


def test_the_bundled_network_keeps_its_crop():
    crop = from_pretrained(BUNDLED).config.preprocessing.crop
    wider = {"test": CROP.test.with_k(0.35), "face": CROP.face.with_k(0.35)}
    assert crop == dataclasses.replace(CROP, **wider)
    assert set(BOXES) == {"points", "visible", "landmarks", "head"}
    assert Preprocessing().crop == AROUND_POINTS


def test_parts_that_pillow_refuses_are_made_smaller(monkeypatch):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    picture = Image.fromarray(ramp)
    preprocessing = Preprocessing(size=64, resize="squash")
    area = (-128.0, -128.0, 384.0, 384.0)
    whole = cut(picture, np.array(area), preprocessing)
    monkeypatch.setattr("mlx_headpose.core.crop.MAX_CROP_PIXELS", 70_000)  # of 262,144
    smaller = cut(picture, np.array(area), preprocessing)
    assert part_of(picture, (-128, -128, 384, 384)).size == (256, 256)
    inside = slice(18, 46)
    difference = np.abs(whole.astype(int) - smaller)[inside, inside]
    assert difference.max() <= 4
    huge = part_of(picture, (-7000, -7000, 7000, 7000))
    assert huge.width * huge.height < 71_000  # sides are rounded


def test_margins_are_shares_of_the_box_as_it_stands():
    # k = 0.5: x_min moves by 30; the width is then 130, so x_max moves by 39.
    box = Margins((0.6, 2.0, 0.6, 0.6), (0.5, 0.5)).apply(np.array([100.0, 100.0, 200.0, 200.0]))
    assert box.tolist() == [70.0, 0.0, 239.0, 260.0]
