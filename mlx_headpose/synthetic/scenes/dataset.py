"""Scenes as a dataset, composed when they are first asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.crop import NONE
from ...data.base import Dataset
from ...errors import InputError
from ..environments import HELD_OUT, Environments
from .backgrounds import Backgrounds
from .compose import Composer
from .sprites import Sprites
from .textures import Textures

KEPT_BYTES = 2 << 30
COUNTS = {"train": 8000, "val": 240}  # scenes in a set, where nobody says how many


class SceneSet(Dataset):
    """Scenes of the sprites, panoramas and textures in a folder.

    Args:
        folder: holds `people`, `things` (and `people-val` and `things-val`, see
            `mlx-headpose render --kind people`), `environments` and `textures`.
        count: number of scenes.
        split: "train" or "val", which show other people and things before other places and
            textures. All panoramas light the sprites of both, and all textures paint their things.
        seed: random seed of the scenes.
        size: side of the scenes in pixels.

    Raises:
        InputError: one of the folders is missing or damaged.
    """

    shows_scenes = True

    def __init__(self, folder: Path, count: int, split: str, seed: int, size: int):
        ending = "" if split == "train" else "-val"
        keep = (0,) if split == "val" else tuple(range(1, HELD_OUT))
        names = (f"people{ending}", f"things{ending}", "environments", "textures")
        self.folders = [folder / name for name in names]
        people, things, environments, textures = self.folders
        self.composer = Composer(
            Sprites(people),
            Sprites(things),
            Backgrounds(
                Environments.of_split(environments, split), Textures(textures, keep, HELD_OUT)
            ),
        )
        self.size = size
        self.seed = seed
        self.numbers = np.arange(count)
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
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
        """Picture (size, size, 3) uint8 and targets (12, 11) of scene `index`.

        It is composed once and kept, or, beyond `KEPT_BYTES`, composed anew at each call; threads
        may call at the same time.

        Args:
            index: which scene.
            rng: mirrors every second one; None mirrors none.
        """
        number = int(self.numbers[index])
        scene = self._kept.get(number)
        if scene is None:
            scene = self.posed(index)[:2]
            if (number + 1) * scene[0].nbytes <= KEPT_BYTES:
                self._kept[number] = scene
        mirrored = rng is not None and rng.random() < 0.5
        return _mirrored(*scene) if mirrored else scene

    def posed(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scene `index`, composed anew, as `Composer.draw` returns it."""
        own = np.random.default_rng((self.seed, 41, int(self.numbers[index])))
        return self.composer.draw(self.size, own)

    def files(self) -> list[Path]:
        """What the scenes are composed of, in the same order on every machine."""
        return [
            path
            for folder in self.folders
            for path in sorted(folder.iterdir())
            if path.is_file() and path.name[0] != "."
        ]

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        super().select(keep)
        self.numbers = self.numbers[keep]


def _mirrored(image: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scene and its targets, left and right exchanged."""
    there = targets[:, 10] != 0
    targets = targets.copy()
    for first in (0, 4):
        sides = targets[:, [first + 2, first]]
        targets[:, [first, first + 2]] = np.where(there[:, None], image.shape[1] - sides, 0)
    targets[:, 9] *= -1
    return np.ascontiguousarray(image[:, ::-1]), targets


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
        train: the training split, whose scenes are mirrored at random.
        seed: random seed of the training; the validation scenes are always the same.
        samples: scenes in an epoch; None means that of `COUNTS`.
        input_size: side of the scenes in pixels.

    Raises:
        InputError: the folder is missing, or a list is given.
    """
    if filename_list is not None:
        raise InputError("scenes are composed, not listed; leave --filename_list out")
    if folder is None:
        raise InputError("scenes are made of sprites; give their folder as --data_dir")
    split = "train" if train else "val"
    return SceneSet(folder, samples or COUNTS[split], split, seed if train else 0, input_size)
