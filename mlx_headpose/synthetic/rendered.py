"""Synthetic heads that were rendered to disk: JPEGs and one list of boxes and poses.

`mlx-headpose render` makes such a folder. Anything else may make one too: a folder `train`, a
folder `val`, and in each a `heads.csv` whose columns are `COLUMNS`; the three angles of what is no
head are empty, and training alone reads it. Folders beside these whose names begin with `train-` or
`val-` are further parts of the same split.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..core.crop import AROUND_POINTS, BoxMargins, Crop
from ..data.annotated import LIMIT
from ..data.base import Dataset
from ..data.listing import csv_rows, require_folder, stays_inside
from ..errors import InputError
from ..files import atomic_path
from ..readers.numbers import MAX_COORDINATE
from ..readers.pictures import open_upright
from .people import disturbed

LIST = "heads.csv"
# 300W's landmarks in pixels and whether they are seen, (N, 68, 3) float32; optional. Row i is that
# of the image whose name is the number i.
LANDMARKS = "landmarks.npy"
# The first box holds the whole head, the second 300W's 68 landmarks, seen or hidden, as the
# published sets draw it; both in pixels. Angles in degrees.
BOXES = ("landmarks", "head")
BOX = ("x", "y", "width", "height")
FACE = ("face_x", "face_y", "face_width", "face_height")
COLUMNS = ("image", *BOX, "yaw", "pitch", "roll", *FACE)
_ANGLES = slice(4, 7)  # of a row's numbers


class RenderedHeads(Dataset):
    """The heads of a list.

    Args:
        lists: beginning of the ids → (folder of the pictures, their list). The beginnings tell
            parts and splits apart; where there is one list it may be "".
        around: which box is cut out ("landmarks" or "head"), and its margins.
        yaw: largest yaw in degrees; heads that turn further are left out and counted.
        samples: number of heads at the lists' beginning to take; None takes all.
        seed: random seed of the boxes' jitter.
        jitter, loose: see `SyntheticHeads`.
    """

    def __init__(
        self,
        lists: dict[str, tuple[Path, Path]],
        around: BoxMargins,
        yaw: float = 180,
        samples: int | None = None,
        seed: tuple[int, ...] = (0,),
        jitter: float = 0.0,
        loose: float = 0.0,
    ):
        ids, rows = [], []
        for beginning, (_, path) in lists.items():
            names, numbers = read_list(path)
            ids += [f"{beginning}/{name}" if beginning else name for name in names]
            rows.append(numbers)
        ids, values = ids[:samples], np.concatenate(rows)[:samples]
        x, y, width, height = (values[:, :4] if around.kind == "head" else values[:, 7:]).T
        boxes = np.stack((x, y, x + width, y + height), axis=1)
        super().__init__(
            name="rendered",
            ids=ids,
            poses=values[:, 4:7].astype(np.float32),
            boxes=disturbed(boxes, seed, jitter, loose),
            margins=around.margins,
            protocol=f"rendered heads of {', '.join(lists) or 'a list'}, {around}",
        )
        self._landmarks: dict[Path, np.ndarray | None] = {}
        self.folders = {beginning: folder for beginning, (folder, _) in lists.items()}
        self.drop(np.abs(self.poses[:, 0]) > yaw, f"a yaw outside ±{yaw:g}°")
        if not self.ids:
            listed = ", ".join(str(path) for _, path in lists.values())
            raise InputError(f"{listed}: no head has a yaw within ±{yaw:g}°; render others")

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB picture."""
        return open_upright(self.path(index))

    def path(self, index: int) -> Path:
        """The picture file of sample `index`."""
        name = self.ids[index]
        if "" in self.folders:
            return self.folders[""] / name
        beginning, _, name = name.partition("/")
        return self.folders[beginning] / name

    def image_landmarks(self, index: int) -> np.ndarray:
        """See `Dataset.image_landmarks`.

        Raises:
            InputError: the file of landmarks is damaged.
        """
        path = self.path(index)
        place = path.parent.parent / LANDMARKS
        if place not in self._landmarks:
            self._landmarks[place] = open_landmarks(place) if place.exists() else None
        rows = self._landmarks[place]
        row = int(path.stem) if path.stem.isdecimal() else -1
        if rows is None or not 0 <= row < len(rows):
            return super().image_landmarks(index)
        return np.array(rows[row])


def open_landmarks(path: Path, mode: Literal["r", "r+"] = "r") -> np.ndarray:
    """(N, 68, 3) float32 of a file of landmarks, mapped into memory.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        values = np.load(path, mmap_mode=mode)
        if values.shape[1:] != (68, 3) or values.dtype != np.float32:
            raise ValueError(f"shape {values.shape}, {values.dtype}")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; render the heads with mlx-headpose render"
        ) from None
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise InputError(
            f"{path}: no file of landmarks ({error}); render the heads again"
        ) from None
    return values


def read_list(path: Path) -> tuple[list[str], np.ndarray]:
    """The pictures of a list and their (N, 11) float64 numbers, in the order of `COLUMNS`.

    Three empty angles, of a crop that shows no head, become NaN.

    Raises:
        InputError: it is missing, empty, no such list, or a row is broken.
    """
    names, rows, absent = [], [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv_rows(file)
            if tuple(next(reader, ())) != COLUMNS:
                raise InputError(f"{path}: its first line must be {','.join(COLUMNS)}")
            for name, *numbers in reader:
                if not name or not stays_inside(PurePosixPath(name)):
                    raise ValueError(f"{name!r} is no picture inside the folder")
                if len(numbers) != len(COLUMNS) - 1:
                    raise ValueError(f"it has {1 + len(numbers)} columns, not {len(COLUMNS)}")
                absent.append(not any(numbers[_ANGLES]))
                if absent[-1]:
                    numbers[_ANGLES] = ["0"] * 3
                rows.append([float(number) for number in numbers])
                names.append(name)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such list; check --data_dir, or render the heads with mlx-headpose render"
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: row {len(rows) + 1} is broken ({error}); fix it") from None
    if not rows:
        raise InputError(f"{path}: lists no head; render some")
    values = np.array(rows)
    broken = ~np.isfinite(values).all(axis=1)
    broken |= (np.abs(values) > MAX_COORDINATE).any(axis=1)
    broken |= (values[:, [2, 3, 9, 10]] <= 0).any(axis=1) | (np.abs(values[:, 4:7]) > 180).any(1)
    if broken.any():
        row = int(np.argmax(broken)) + 1
        raise InputError(f"{path}: row {row} has an impossible box or angle; fix it")
    values[np.array(absent), _ANGLES] = np.nan
    return names, values


def write_list(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a list, atomically; `rows` are in the order of `COLUMNS`."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def open_dataset(
    folder: Path | None,
    filename_list: Path | None = None,
    crop: Crop = AROUND_POINTS,
    train: bool = False,
    seed: int = 0,
    samples: int | None = None,
    yaw: float | None = None,
    absent: bool = False,
    **_: Any,
) -> RenderedHeads:
    """Rendered heads for training or, by default, validation.

    Args:
        folder: holds a folder `train` and a folder `val` with a list each and perhaps further
            parts of them (`train-around`), or a list itself.
        filename_list: another list; its pictures are relative to `folder`.
        crop: crop of the network.
        train: the training split, a third of whose boxes are loose.
        seed: random seed of the training boxes' jitter.
        samples: number of heads; None means all.
        yaw: largest yaw in degrees; None means 99, as in the photo sets, and the full circle for
            crops of the whole head.
        absent: whether validation keeps the crops without a head, whose poses are NaN; training
            always does.
    """
    folder = require_folder(folder, "rendered")
    split = "train" if train else "val"
    if filename_list is not None:
        lists = {"": (folder, filename_list)}
    elif (folder / LIST).is_file():
        lists = {"": (folder, folder / LIST)}
    else:
        further = sorted(path for path in folder.glob(f"{split}-*") if path.is_dir())
        parts = [folder / split, *further]
        lists = {part.name: (part, part / LIST) for part in parts}
    around = crop.around("rendered", BOXES, train)
    whole = around.kind == "head"
    heads = RenderedHeads(
        lists,
        around,
        yaw=yaw or (180 if whole else LIMIT),
        samples=samples,
        seed=(seed, 0) if train else (0, 1),
        jitter=0.03,
        loose=0.35 if train and not whole else 0.0,
    )
    if not train and not absent:
        heads.drop_absent()
    return heads
