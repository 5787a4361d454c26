"""DAD-3DHeads: 44,898 heads in the wild with fitted 3D heads (Martyniuk et al., CVPR 2022)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ..core.crop import AROUND_LANDMARKS, Crop
from ..errors import InputError
from ..files import read_json
from ..pose import dad_matrix_to_pose
from ..readers.numbers import is_rotation, require_box
from ..readers.pictures import open_upright
from .annotated import LIMIT
from .base import Dataset
from .listing import require_folder, stays_inside


class DAD3DHeads(Dataset):
    """Samples of a `train.json`: a list of objects with `img_path`, `bbox` and `R`."""

    def __init__(self, folder: Path, annotations: Path, crop: Crop, train: bool, skip_bad: bool):
        self.folder = folder
        ids, poses, boxes, broken = [], [], [], 0
        for number, entry in enumerate(read_entries(annotations)):
            try:
                name, pose, box = parse_entry(entry)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                if not skip_bad:
                    raise InputError(
                        f"{annotations}: entry {number} is broken ({error}); fix it or pass "
                        "--skip_bad"
                    ) from None
                broken += 1
                continue
            ids.append(name)
            poses.append(pose)
            boxes.append(box)
        # The published loaders cut around `bbox` as they do around the landmarks of 300W-LP.
        cut = crop.around("DAD-3DHeads", ["landmarks"], train)
        super().__init__(
            name="DAD-3DHeads",
            ids=ids,
            poses=np.array(poses, np.float32).reshape(-1, 3),
            boxes=np.array(boxes, np.float64).reshape(-1, 4),
            margins=cut.margins,
            protocol=f"DAD-3DHeads, {annotations.name}, bbox, {cut.margins}",
        )
        if broken:
            self.dropped["a broken annotation"] = broken
        outside = (np.abs(self.poses) > LIMIT).any(axis=1)
        self.drop(outside, f"an angle outside ±{LIMIT:.0f}°")
        if not self.ids:
            raise InputError(f"{annotations}: no usable sample is left")

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB picture."""
        return open_upright(self.path(index))

    def path(self, index: int) -> Path:
        """The picture file of sample `index`."""
        return self.folder / self.ids[index]


def read_entries(path: Path) -> list[Any]:
    """The list in an annotation file.

    Raises:
        InputError: the file is missing, or holds no JSON list.
    """
    entries = read_json(path, "no such annotations; give train.json as --filename_list")
    if not isinstance(entries, list):
        raise InputError(f"{path}: holds no list; give DAD-3DHeads' train.json")
    return entries


def parse_entry(entry: Any) -> tuple[str, np.ndarray, list[float]]:
    """Picture, (3,) pose in degrees, and box x_min, y_min, x_max, y_max of an annotation.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it is malformed.
    """
    name = PurePosixPath(entry["img_path"])
    if not stays_inside(name):
        raise ValueError(f"img_path {str(name)!r} lies outside the data folder")
    rotation = np.array(entry["R"], np.float64)
    if rotation.shape != (3, 3) or not is_rotation(rotation):
        raise ValueError("R is no rotation")
    x, y, width, height = (float(value) for value in entry["bbox"])
    box = [x, y, x + width, y + height]
    require_box(box)
    return str(name), dad_matrix_to_pose(rotation), box


def open_dataset(
    folder: Path | None,
    filename_list: Path | None,
    crop: Crop = AROUND_LANDMARKS,
    train: bool = False,
    skip_bad: bool = False,
    **_: Any,
) -> DAD3DHeads:
    """List DAD-3DHeads' samples.

    Args:
        folder: the folder that `img_path` is relative to.
        filename_list: the annotations; None means `train.json` in the folder.
        crop: crop of the network.
        train: whether margins are sampled.
        skip_bad: count broken annotations instead of stopping.
    """
    folder = require_folder(folder, "DAD-3DHeads")
    return DAD3DHeads(folder, filename_list or folder / "train.json", crop, train, skip_bad)
