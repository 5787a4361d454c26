"""Scenes as a dataset: composed anew in every epoch of a training, always the same to validate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.crop import NONE
from ...data.base import Dataset
from ...errors import InputError
from .backgrounds import Backgrounds
from .compose import Composer
from .environments import Environments
from .sprites import Sprites
from .textures import Textures

HELD_OUT = 6  # every so many panoramas and textures only validation shows


class SceneSet(Dataset):
    """Scenes of the sprites, panoramas and textures in a folder.

    Args:
        folder: holds `people`, `things` (and `people-val` and `things-val`, see
            `python -m mlx_headpose.synthetic.scenes`), `environments` and `textures`.
        count: number of scenes.
        split: "train" or "val", which show other people, things, places and textures.
        seed: of validation scenes.
        size: side of the scenes in pixels.

    Raises:
        InputError: one of the folders is missing or damaged.
    """

    shows_scenes = True

    def __init__(self, folder: Path, count: int, split: str, seed: int, size: int):
        ending = "" if split == "train" else "-val"
        environments = folder / "environments"
        names = sorted(Environments(environments).backgrounds)
        used = [n[0] for i, n in enumerate(names) if (i % HELD_OUT == 0) == (split == "val")]
        keep = (0,) if split == "val" else tuple(range(1, HELD_OUT))
        self.composer = Composer(
            Sprites(folder / f"people{ending}"),
            Sprites(folder / f"things{ending}"),
            Backgrounds(
                Environments(environments, used), Textures(folder / "textures", keep, HELD_OUT)
            ),
        )
        self.size = size
        self.seed = seed
        self.numbers = np.arange(count)
        super().__init__(
            name="scenes",
            ids=[f"{split}-{seed}-{i:06d}" for i in range(count)],
            poses=np.zeros((count, 3), np.float32),
            boxes=np.zeros((count, 4)),
            margins=NONE,
            protocol=f"rendered scenes ({split}, seed {seed}, {count} of {size} pixels)",
        )

    def scene(
        self, index: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Picture (size, size, 3) uint8 and targets (24, 11); without `rng` always the same."""
        if rng is None:
            rng = np.random.default_rng((self.seed, 41, int(self.numbers[index])))
        return self.composer.draw(self.size, rng)

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        super().select(keep)
        self.numbers = self.numbers[keep]


def open_dataset(
    folder: Path | None = None,
    filename_list: Path | None = None,
    train: bool = False,
    seed: int = 0,
    samples: int | None = None,
    input_size: int = 320,
    **_: Any,
) -> SceneSet:
    """Scenes for training or, by default, validation.

    Args:
        folder: see `SceneSet`.
        filename_list: must be None; scenes are composed, not listed.
        train: scenes that are others in every epoch.
        seed: of the training; the validation scenes are always the same.
        samples: scenes in an epoch; None means 8000 for training, 240 for validation.
        input_size: side of the scenes in pixels.

    Raises:
        InputError: the folder is missing, or a list is given.
    """
    if filename_list is not None:
        raise InputError("scenes are composed, not listed; leave --filename_list out")
    if folder is None:
        raise InputError("scenes are made of sprites; give their folder as --data_dir")
    split = "train" if train else "val"
    count = samples or (8000 if train else 240)
    return SceneSet(folder, count, split, seed if train else 0, input_size)
