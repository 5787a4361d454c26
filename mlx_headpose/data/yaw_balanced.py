"""300W-LP and Panoptic together, balanced over yaw: what WHENet's authors trained on.

300W-LP has few heads turned far and none seen from behind. Panoptic heads are added at random,
bin of yaw by bin, until every bin holds as many as the fullest bin of 300W-LP, or all there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.crop import AROUND_HEAD, Crop
from ..errors import InputError
from ..pose import Bins
from . import open_dataset as open_one
from .base import Dataset

YAW_BINS = Bins(36, 10, -180)


class YawBalanced(Dataset):
    """Samples of two datasets as one list; each keeps its own boxes and margins."""

    def __init__(self, first: Dataset, second: Dataset, seed: int = 0):
        keep = balance(first.poses[:, 0], second.poses[:, 0], np.random.default_rng(seed))
        second.select(keep)
        self.parts = (first, second)
        super().__init__(
            name=f"{first.name} and {second.name}",
            ids=[*first.ids, *second.ids],
            poses=np.concatenate([first.poses, second.poses]),
            boxes=np.concatenate([first.boxes, second.boxes]),
            protocol=f"{first.name}, balanced over yaw with {second.name}; each by its own boxes",
            dropped={**first.dropped, **second.dropped},
        )
        if not keep.all():
            self.dropped["not needed to balance the yaws"] = int((~keep).sum())
        self.places = [(part, i) for part in self.parts for i in range(len(part))]

    def image(self, index: int) -> Image.Image:
        part, i = self.places[index]
        return part.image(i)

    def path(self, index: int) -> Path | None:
        part, i = self.places[index]
        return part.path(i)

    def crop_box(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        part, i = self.places[index]
        return part.crop_box(i, rng)

    def sources(self) -> np.ndarray:
        return np.array([part is self.parts[1] for part, _ in self.places], int)

    def select(self, keep: np.ndarray) -> None:
        super().select(keep)
        self.places = [place for place, kept in zip(self.places, keep, strict=True) if kept]


def balance(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which of the second yaws to add to the first, so that no bin of yaw exceeds their fullest.

    Args:
        first: (N,) degrees, all kept.
        second: (M,) degrees.
        rng: samples from bins that have more than are needed.

    Returns:
        (M,) boolean.
    """
    counts = np.bincount(YAW_BINS.encode(first), minlength=YAW_BINS.count)
    keep = np.zeros(len(second), bool)
    bins = YAW_BINS.encode(second)
    for index, missing in enumerate(counts.max(initial=0) - counts):
        candidates = np.flatnonzero(bins == index)
        keep[rng.permutation(candidates)[:missing]] = True
    return keep


def open_dataset(
    folder: Path | None,
    filename_list: Path | None = None,
    crop: Crop = AROUND_HEAD,
    train: bool = False,
    seed: int = 0,
    skip_bad: bool = False,
    **_: Any,
) -> YawBalanced:
    """The folders `300W_LP` and `panoptic` in `folder`.

    Args:
        folder: holds both.
        filename_list: 300W-LP's samples.
        crop: crop of the network.
        train: whether margins are sampled.
        seed: random seed of the choice in each epoch.
        skip_bad: count 300W-LP's broken files instead of stopping.
    """
    if folder is None:
        raise InputError("panoptic+300W_LP needs the folder that holds both; give --data_dir")
    first = open_one(
        "300W_LP", folder / "300W_LP", filename_list, crop=crop, train=train, skip_bad=skip_bad
    )
    second = open_one("panoptic", folder / "panoptic", crop=crop, train=train)
    return YawBalanced(first, second, seed)
