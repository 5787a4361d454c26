"""Folders in the layout of NLML-HPE's FaceScape renderings: every person in every pose of a grid.

`<id>/ID<id>_(<yaw>_<pitch>_<roll>).jpg` (or .png), angles in whole degrees, one folder per person.
The tensor of NLML-HPE needs every combination of the angles that occur, so one that is missing is
named. The angles are taken as the names say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..readers.pictures import open_upright, upright_size
from .base import Dataset
from .listing import read_list, require_folder

NAME = re.compile(r"ID(\d+)_\( *(-?\d+)_(-?\d+)_(-?\d+)\)")
SUFFIXES = (".jpg", ".jpeg", ".png")
NAMED = 20  # missing combinations that a message lists


class FaceScape(Dataset):
    """The photos of a FaceScape-style folder.

    Args:
        folder: holds one folder per person.
        people: names of the persons' folders to take; None takes all.
        complete: stop where a combination is missing, instead of counting.
    """

    def __init__(self, folder: Path, people: list[str] | None = None, complete: bool = False):
        self.folder = folder
        found = people or [path.name for path in folder.iterdir() if _is_person(path)]
        found.sort(key=lambda name: (len(name), name))  # numbers in their order
        samples: dict[tuple[int, tuple[int, int, int]], Path] = {}
        strange = 0
        for person, name in enumerate(found):
            for path in sorted(require_folder(folder / name, "facescape").iterdir()):
                match = NAME.fullmatch(path.stem)
                if path.name.startswith("."):
                    continue
                if path.suffix.lower() not in SUFFIXES or match is None:
                    strange += path.suffix.lower() in SUFFIXES
                    continue
                yaw, pitch, roll = (int(angle) for angle in match.groups()[1:])
                samples[person, (yaw, pitch, roll)] = path
        if not samples:
            raise InputError(f"{folder}: holds no <id>/ID<id>_(<yaw>_<pitch>_<roll>).jpg")
        self.files = list(samples.values())
        self.missing = missing_combinations(list(samples), found)
        if self.missing and complete:
            more = len(self.missing) - NAMED
            raise InputError(
                f"{folder}: {len(self.missing)} combinations of its angles are missing: "
                f"{', '.join(self.missing[:NAMED])}{f' and {more} more' if more > 0 else ''}; "
                "add them, or pass --skip_bad to fill them by turning the person's front"
            )
        dropped = {"name without angles": strange, "combination missing": len(self.missing)}
        super().__init__(
            name="facescape",
            ids=[path.relative_to(folder).with_suffix("").as_posix() for path in self.files],
            poses=np.array([pose for _, pose in samples], np.float32),
            boxes=np.array([_whole(path) for path in self.files], np.float32),
            protocol=f"FaceScape-style folder, {len(found)} people, whole pictures",
            dropped={reason: count for reason, count in dropped.items() if count},
            columns={"person": np.array([person for person, _ in samples])},
        )

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB picture; see `Dataset.image`."""
        return open_upright(self.files[index])

    def path(self, index: int) -> Path:
        """The picture file of sample `index`."""
        return self.files[index]

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        super().select(keep)
        self.files = [path for path, kept in zip(self.files, keep, strict=True) if kept]


def missing_combinations(
    samples: list[tuple[int, tuple[int, int, int]]], people: list[str]
) -> list[str]:
    """`ID<id>_(<yaw>_<pitch>_<roll>)` of every cell of the grid that has no sample."""
    angles = [sorted({pose[k] for _, pose in samples}) for k in range(3)]
    there = set(samples)
    return [
        f"ID{name}_({yaw}_{pitch}_{roll})"
        for person, name in enumerate(people)
        for yaw in angles[0]
        for pitch in angles[1]
        for roll in angles[2]
        if (person, (yaw, pitch, roll)) not in there
    ]


def _is_person(path: Path) -> bool:
    """Whether a path is a person's folder, and none of a cache or of other things beside them."""
    if path.name.startswith(".") or not path.is_dir():
        return False
    return any(NAME.fullmatch(file.stem) for file in path.iterdir())


def _whole(path: Path) -> tuple[float, float, float, float]:
    """The box of a whole picture; its header alone is read."""
    width, height = upright_size(path)
    return 0.0, 0.0, float(width), float(height)


def open_dataset(
    folder: Path | None,
    filename_list: Path | None,
    train: bool = False,
    skip_bad: bool = False,
    **_: Any,
) -> FaceScape:
    """List a FaceScape-style folder.

    Args:
        folder: holds one folder per person.
        filename_list: names of persons' folders to take; None takes all.
        skip_bad: count missing combinations instead of stopping.
    """
    people = read_list(filename_list) if filename_list else None
    return FaceScape(require_folder(folder, "facescape"), people, train and not skip_bad)
