"""What a dataset is: a list of (picture, face box, pose), made once and indexed by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.crop import CropRule
from ..errors import InputError


@dataclass
class Dataset:
    """Samples of one annotated set, in our conventions.

    Attributes:
        name: what reports call it.
        ids: one name per sample, for reports and error messages.
        poses: (N, 3) float32 yaw, pitch, roll in degrees.
        boxes: (N, 4) float64 x_min, y_min, x_max, y_max around the face, before any margin.
        rule: how a box becomes a crop.
        protocol: one sentence that says which samples and which box and crop these are.
        dropped: reason → number of listed samples that are left out.
        identities: (N,) number of each sample's person, of a set that shows every person at every
            pose of a grid; None for all others.
    """

    name: str
    ids: Sequence[str]
    poses: np.ndarray
    boxes: np.ndarray
    rule: CropRule
    protocol: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    identities: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, np.float64)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB picture.

        Raises:
            InputError: the file is missing or broken.
        """
        raise NotImplementedError

    def path(self, index: int) -> Path | None:
        """The picture file of sample `index`, where it has one of its own.

        Training then decodes large JPEGs at reduced scale instead of calling `image`.
        """
        return None

    def landmarks(self, index: int) -> np.ndarray:
        """(L, 3) float32 landmarks of sample `index`, in image axes."""
        raise InputError(f"{self.name} has no 3D landmarks; use a set that has, such as synthetic")

    def crop_box(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """(4,) box to cut, margins added; `rng` draws them where the rule is random."""
        return self.rule.apply(self.boxes[index], rng)

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        self.ids = [name for name, kept in zip(self.ids, keep, strict=True) if kept]
        self.poses = self.poses[keep]
        self.boxes = self.boxes[keep]
        if self.identities is not None:
            self.identities = self.identities[keep]

    def drop(self, bad: np.ndarray, reason: str) -> None:
        """Leave out, and count, the samples where the (N,) boolean `bad` is true."""
        if bad.any():
            self.dropped[reason] = int(bad.sum())
            self.select(~bad)
