"""Badges, prints and signs of scenes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.synthetic.scenes.emblems import emblem, print_on_cloth


@pytest.mark.parametrize("size", [(2, 3), (40, 30), (300, 200)])
def test_an_emblem_has_its_size_and_is_clear_at_the_corners(size):
    for seed in range(20):
        picture = emblem(*size, np.random.default_rng(seed))
        assert (picture.mode, picture.size) == ("RGBA", size)
        if size[0] >= 40:
            assert picture.getchannel("A").getpixel((0, size[1] - 1)) == 0


def test_emblems_differ_and_most_have_a_ground():
    pictures = [np.asarray(emblem(64, 64, np.random.default_rng(seed))) for seed in range(20)]
    assert len({picture.tobytes() for picture in pictures}) == 20
    assert sum((picture[..., 3] > 0).mean() > 0.6 for picture in pictures) >= 12


@pytest.mark.parametrize("down", [(0.0, 1.0), (0.6, 0.8), (-1.0, 0.0)])
def test_only_cloth_is_printed_on(down):
    cloth = np.zeros((240, 240), bool)
    cloth[30:210, 30:210] = True
    changed = np.zeros_like(cloth)
    for seed in range(30):
        picture = Image.new("RGB", (240, 240), (90, 91, 92))
        middle = np.array((120.0, 120.0))
        print_on_cloth(picture, cloth, middle, np.array(down), 40, np.random.default_rng(seed))
        changed |= (np.asarray(picture) != (90, 91, 92)).any(-1)
    assert not changed[~cloth].any()
    rows, columns = np.nonzero(changed)
    along = (columns.mean() - 120) * down[0] + (rows.mean() - 120) * down[1]
    assert 0.9 * 40 < along < 2.4 * 40  # on the chest, which is below the head
    assert changed.sum() > 1000


def test_folds_of_the_cloth_show_through():
    stripes = np.tile(np.where(np.arange(240) // 4 % 2, 60, 180)[:, None, None], (1, 240, 3))
    picture = Image.fromarray(stripes.astype(np.uint8))
    before = np.asarray(picture).astype(int)
    print_on_cloth(picture, np.ones((240, 240), bool), np.array((120.0, 40.0)),
                   np.array((0.0, 1.0)), 100, np.random.default_rng(4))  # fmt: skip
    after = np.asarray(picture).astype(int)
    printed = (before != after).any(-1) & (after.sum(-1) > 60)
    dark, light = (after[printed & (before[..., 0] == grey)].mean() for grey in (60, 180))
    assert light > 1.2 * dark
