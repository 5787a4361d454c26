"""CMU Panoptic heads: pictures with head boxes and poses over the full circle of yaw.

The recordings (http://domedb.perception.cs.cmu.edu) have no head poses of their own;
`panoptic_labels.py` makes them as WHENet's authors describe. Here they are read.
"""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ..core.crop import AROUND_HEAD, FACE_OF_HEAD, Crop
from ..errors import InputError
from ..pose import wrap
from ..readers.numbers import require_box
from ..readers.pictures import open_upright
from .base import Dataset
from .listing import csv_rows, stays_inside

COLUMNS = ("image", "x", "y", "width", "height", "yaw", "pitch", "roll")
# So close to yaw ±90° pitch and roll turn about nearly the same axis, and noise in the landmarks
# enters each of them 28-fold and more: they say nothing.
GIMBAL_LOCK_MARGIN = 2.0


class Panoptic(Dataset):
    """The heads of a list `image,x,y,width,height,yaw,pitch,roll`.

    Args:
        folder: which the list's pictures are relative to.
        annotations: the list.
        crop: crop of the network.
        train: whether the samples are for training.
    """

    def __init__(
        self, folder: Path, annotations: Path, crop: Crop = AROUND_HEAD, train: bool = False
    ):
        rows = read_list(annotations)
        values = np.array([numbers for _, numbers in rows], np.float32).reshape(
            -1, len(COLUMNS) - 1
        )
        # Lists may count on beyond ±180, which bands, bins and the filter below do not.
        values[:, 4:] = wrap(values[:, 4:])
        x, y, width, height = values[:, :4].T
        boxes = "the listed head boxes as given, squashed to a square"
        cut = crop.around("panoptic", ["head"], train)
        if cut.margins == FACE_OF_HEAD:
            boxes = "where a face would be in the listed head boxes"
        super().__init__(
            name="panoptic",
            ids=[name for name, _ in rows],
            poses=values[:, 4:],
            boxes=np.stack([x, y, x + width, y + height], axis=1),
            margins=cut.margins,
            protocol=f"{boxes}; heads within {GIMBAL_LOCK_MARGIN:g} degrees of yaw ±90 left out",
        )
        self.folder = folder
        locked = np.abs(np.abs(self.poses[:, 0]) - 90) < GIMBAL_LOCK_MARGIN
        self.drop(locked, "near gimbal lock (yaw ±90), where pitch and roll are undefined")

    def image(self, index: int) -> Image.Image:
        return open_upright(self.path(index))

    def path(self, index: int) -> Path:
        return self.folder / self.ids[index]


def read_list(path: Path) -> list[tuple[str, tuple[float, ...]]]:
    """The rows of a list of heads: picture and seven numbers.

    Raises:
        InputError: it is missing, or a row is not what the header says.
    """
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv_rows(file)
            if tuple(next(reader, ())) != COLUMNS:
                raise InputError(f"{path}: its first line must be {','.join(COLUMNS)}")
            for cells in reader:
                row = dict(zip(COLUMNS, cells, strict=False))
                numbers = tuple(float(row.get(column) or "nan") for column in COLUMNS[1:])
                x, y, width, height = numbers[:4]
                require_box([x, y, x + width, y + height])
                if not (np.isfinite(numbers[4:]).all() and np.abs(numbers[4:]).max() <= 360):
                    raise ValueError("an angle is missing or impossible")
                name = PurePosixPath(row["image"] or "/")
                if not stays_inside(name):
                    raise ValueError(f"{name} is no picture inside the folder")
                rows.append((str(name), numbers))
    except FileNotFoundError:
        raise InputError(f"{path}: no such list; check the folder and the list") from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: row {len(rows) + 1} is broken ({error}); fix it") from None
    return rows


def open_dataset(
    folder: Path | None,
    filename_list: Path | None = None,
    crop: Crop = AROUND_HEAD,
    train: bool = False,
    **_: Any,
) -> Panoptic:
    """The heads of `filename_list`, or of annotations.csv in the folder."""
    if folder is None:
        raise InputError("the dataset panoptic needs its folder; give --data_dir")
    return Panoptic(folder, filename_list or folder / "annotations.csv", crop, train)
