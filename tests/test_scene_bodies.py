"""Bodies that are painted below the people of scenes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.synthetic.scenes.bodies import paint_body


class Cloths:
    """A stand-in for `Textures`: one striped swatch of any kind."""

    def some(self, rng, *kinds):
        stripes = 60 + 120 * (np.arange(128) // 16 % 2)
        return np.tile(stripes[None, :, None], (128, 1, 3)).astype(np.uint8)


def person(colour=(40, 90, 160), side: int = 120) -> tuple[Image.Image, Image.Image]:
    """Shoulders of one colour that fill the lower half of a square."""
    alpha = np.zeros((side, side), np.uint8)
    alpha[side // 2 :, side // 8 : -side // 8] = 255
    return Image.new("RGB", (side, side), colour), Image.fromarray(alpha)


def painted(seed: int, angle: float = 0.0, at: tuple[int, int] = (120, 60), side: float = 50):
    picture = Image.new("RGB", (360, 360), (200, 200, 200))
    mask = paint_body(picture, *person(), at, angle, side, Cloths(), np.random.default_rng(seed))
    return np.asarray(picture).astype(int), mask


@pytest.mark.parametrize("seed", range(5))
def test_the_mask_is_what_was_painted(seed):
    picture, mask = painted(seed)
    assert (mask.dtype, mask.shape) == (bool, (360, 360))
    changed = (picture != 200).any(-1)
    # Edges are soft, so that a pixel outside may be touched, and cloth may be as grey as the wall.
    assert (changed & mask).sum() > 0.95 * mask.sum()
    grown = np.asarray(Image.fromarray(mask).resize((360, 360)))
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        grown = grown | np.roll(mask, shift, (0, 1))
    assert not (changed & ~grown).any()


def test_a_body_hangs_from_the_shoulders():
    for seed in range(5):
        _, mask = painted(seed)
        rows, columns = np.nonzero(mask)
        shoulders = 60 + 120 - 0.12 * 50  # their lower edge, moved up
        middle = mask[int(shoulders) + 20]
        assert middle[120 + 15 : 120 + 105].mean() > 0.6
        assert rows.min() > shoulders - 70  # hands may reach up, not as far as a hat
        assert abs(columns.mean() - 180) < 50


def test_turned_people_have_turned_bodies():
    upright, turned = (np.argwhere(painted(3, angle)[1]).mean(0) for angle in (0.0, 40.0))
    assert turned[1] < upright[1] - 10  # clockwise: the feet go to the left


def test_no_body_where_it_would_show_nothing():
    assert painted(0, angle=80.0)[1] is None
    assert painted(0, at=(4000, 4000))[1] is None
    empty = Image.new("L", (120, 120))
    rng = np.random.default_rng(0)
    picture = Image.new("RGB", (100, 100))
    assert paint_body(picture, person()[0], empty, (0, 0), 0.0, 50, Cloths(), rng) is None


def test_tiny_and_huge_bodies():
    for side in (3.0, 400.0):
        _, mask = painted(1, side=side)
        assert mask is None or mask.any()
