"""The camera around synthetic heads, heads rendered to disk, and training from those."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.data import open_dataset
from mlx_headpose.data.synthetic import SyntheticHeads
from mlx_headpose.data.synthetic.effects import GROUPS, Effects
from mlx_headpose.errors import InputError

SKIN = np.array([0.5, 0.3, 0.2], np.float32)


def taken(effects: Effects, seed: int, side: int = 48) -> np.ndarray:
    """A picture of nothing but surroundings and camera."""
    rng = np.random.default_rng(seed)
    picture = effects.background(side * 7 // 5, rng)
    effects.occlude(picture, SKIN, rng)
    return np.asarray(effects.develop(picture, side, rng))


def test_effects_are_the_same_for_a_seed_and_differ_between_seeds():
    pictures = [taken(Effects(), seed) for seed in range(30)]
    for seed, picture in enumerate(pictures):
        assert picture.shape == (48, 48, 3)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, taken(Effects(), seed))
    assert len({picture.tobytes() for picture in pictures}) == 30


@pytest.mark.parametrize("group", GROUPS)
def test_leaving_out_one_group_changes_its_pictures_alone(group):
    """Each group has random numbers of its own: where it does nothing, nothing changes."""
    rest = [name for name in GROUPS if name not in (group, "background")]
    alone, without = Effects(rest), Effects([*rest, group])
    changed = 0
    for seed in range(60):
        a, b = taken(alone, seed), taken(without, seed)
        changed += not np.array_equal(a, b)
        if group != "background":
            continue
        assert (b == 128).all(), "without any group: one grey"
    assert 5 <= changed <= 60
    if group in ("occlusion", "blur", "resolution", "noise", "compression"):
        assert changed < 60, "some pictures are spared"


def test_pictures_are_drawn_with_the_effects_that_options_name():
    plain, varied, colourless = (
        open_dataset("synthetic", samples=20, input_size=32, camera_without=groups)
        for groups in (None, "none", "colour,noise,compression,background,occlusion")
    )
    heads = SyntheticHeads(20, "val", size=40, yaw=(-75, 75))
    np.testing.assert_array_equal(plain.image(3), heads.image(3))
    different = sum(not np.array_equal(plain.image(i), varied.image(i)) for i in range(20))
    assert different > 15
    np.testing.assert_array_equal(plain.poses, varied.poses)
    np.testing.assert_array_equal(plain.boxes, colourless.boxes)
    with pytest.raises(InputError, match="no camera effect 'sound'; choose of: background"):
        open_dataset("synthetic", camera_without="blur,sound")


def test_a_hand_before_the_head_has_the_colour_of_the_skin():
    from mlx_headpose.data.synthetic.occlusion import hand

    for seed in range(10):
        picture = Image.new("RGB", (96, 96), (0, 0, 255))
        hand(picture, np.array((200.0, 140.0, 110.0)), np.random.default_rng(seed))
        pixels = np.asarray(picture).astype(float)
        drawn = pixels[(pixels != (0, 0, 255)).any(axis=-1) & (pixels[..., 2] < 120)]
        assert 30 < len(drawn) < 0.8 * 96 * 96
        assert (drawn[:, 0] >= drawn[:, 2]).mean() > 0.9
