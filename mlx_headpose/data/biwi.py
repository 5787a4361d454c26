"""BIWI Kinect head pose: 24 sequences of 20 people, in the three forms in which people have it.

Fanelli et al., "Random Forests for Real Time 3D Face Analysis" (IJCV 2013). As released, frames
with a rotation each; as FSA-Net packs it, one `.npz` of crops; as the pyramid network's authors
prepare it, one `.npz` a crop. docs/biwi.md says which protocol is which.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..core.crop import AROUND_POINTS, Crop, Margins
from ..errors import InputError
from ..files import visible
from ..pose import biwi_angles_to_pose, biwi_matrix_to_pose, wrap
from ..readers.npy import member_shape, read_member, read_rows
from ..readers.numbers import is_rotation, require_box
from ..readers.pictures import open_upright
from .base import Dataset, refuse_broken, refuse_useless_margin
from .listing import cached_table, csv_rows, read_list, require_folder, those_there, walk
from .protocols import BIWI_MARGINS

# Our fixed split: 8 of the 24 sequences test, 16 train. Four people were recorded twice (03 and 15,
# 05 and 18, 02 and 21, 07 and 22); both of a person's sequences are on one side.
TEST_SEQUENCES = ("01", "05", "08", "12", "16", "18", "20", "24")
# The published lists of the pyramid network number 13,219 crops from 0: these train, the rest test.
PYRAMID_TRAINING = 9888

SPLITS = ("all", "sequence", "pyramid")
RELEASED_FOLDERS = ("", "hpdb", "faces_0")

BoxFinder = Callable[[Image.Image], np.ndarray | None]


def open_dataset(
    folder: Path | None,
    filename_list: Path | None,
    crop: Crop = AROUND_POINTS,
    ad: float | None = None,
    split: str | None = None,
    train: bool = False,
    boxes: Path | BoxFinder | None = None,
    skip_bad: bool = False,
    **_: Any,
) -> Dataset:
    """List BIWI's samples, in whichever form they are.

    Args:
        folder: the folder of the released sequences, or of one `.npz` a crop, or FSA-Net's `.npz`.
        filename_list: names to take; None takes all.
        crop: crop of the network; `BIWI_MARGINS` has those that go with it. Packed crops are
            taken whole.
        ad: margin k of released frames, if the crop has margins; None means the published one.
        split: "sequence" (ours), "pyramid" (by position, of the prepared crops), or "all".
        train: whether to take the split's training part rather than its test part.
        boxes: face boxes of released frames: a CSV file with the columns frame, x, y, width and
            height, or a function that finds the box (x_min, y_min, x_max, y_max) in a picture;
            None looks for `boxes.csv` in the folder.
        skip_bad: count broken files instead of stopping.
    """
    split = split or "all"
    if split not in SPLITS:
        raise InputError(f"BIWI has no split {split!r}; choose one of: {', '.join(SPLITS)}")
    if folder is not None and folder.is_file():
        _refuse_cut(folder, ad, boxes)
        return _whole(PackedBiwi(folder, filename_list, skip_bad), split)
    folder = require_folder(folder, "BIWI")
    sequences = _find_sequences(folder)
    if sequences is not None:
        whose, margins = BIWI_MARGINS[crop.box]
        refuse_useless_margin(ad, margins, "BIWI")
        margins = margins.with_k(ad)
        boxes = boxes or folder / "boxes.csv"
        return ReleasedBiwi(sequences, filename_list, margins, whose, split, train, boxes, skip_bad)
    _refuse_cut(folder, ad, boxes)
    packs = visible(folder, "*.npz")
    if packs and len(member_shape(packs[0], "image")) == 4:
        if len(packs) > 1:
            raise InputError(
                f"{folder}: holds several packed sets; give one of them as --data_dir, such as "
                f"{packs[0]}"
            )
        return _whole(PackedBiwi(packs[0], filename_list, skip_bad), split)
    return PreparedBiwi(folder, filename_list, split, train, skip_bad)


def _find_sequences(folder: Path) -> Path | None:
    """The folder of the released sequences 01 to 24, if they are here."""
    for name in RELEASED_FOLDERS:
        if any((folder / name).glob("[0-9][0-9]/frame_*_rgb.png")):
            return folder / name
    return None


def _refuse_cut(path: Path, ad: float | None, boxes: Path | BoxFinder | None) -> None:
    """Refuse what says how to cut crops that are cut already."""
    given = [name for name, value in (("--ad", ad), ("--boxes", boxes)) if value is not None]
    if given:
        raise InputError(
            f"{path}: holds no released frames; crops are taken whole, so leave "
            f"{' and '.join(given)} out"
        )


def _whole(dataset: Dataset, split: str) -> Dataset:
    if split != "all":
        raise InputError(
            f"{dataset.name}: a packed set does not say which sequence a crop is of, so --split "
            f"{split} cannot divide it; FSA-Net publishes separate files for training and testing"
        )
    return dataset


def _finite(poses: np.ndarray, ids: Sequence[str], skip_bad: bool) -> np.ndarray:
    """Which poses are numbers; an InputError names the first that is none, unless skipped."""
    good = np.isfinite(poses).all(axis=1)
    if not good.all() and not skip_bad:
        raise InputError(f"BIWI: the pose of {ids[int(np.argmin(good))]} is broken; replace it")
    return good


class PackedBiwi(Dataset):
    """FSA-Net's form: one `.npz` with `image` (N, H, W, 3) BGR and `pose` (N, 3)."""

    def __init__(self, path: Path, filename_list: Path | None, skip_bad: bool = False):
        self.file = path
        self.images = read_rows(path, "image")
        poses = read_member(path, "pose")
        count = len(self.images) if self.images.ndim else 0
        if self.images.ndim != 4 or self.images.shape[3] != 3 or poses.shape != (count, 3):
            raise InputError(
                f"{path}: is no packed BIWI; `image` is {self.images.shape} and `pose` "
                f"{poses.shape}, not (N, H, W, 3) and (N, 3)"
            )
        height, width = self.images.shape[1:3]
        super().__init__(
            name="BIWI",
            ids=[str(i) for i in range(count)],
            poses=poses.astype(np.float32),
            boxes=np.tile(np.array([0.0, 0.0, width, height]), (count, 1)),
        )
        if filename_list is not None:
            names = set(read_list(filename_list))
            keep = np.array([name in names for name in self.ids])
            if keep.sum() != len(names):
                raise InputError(f"{filename_list}: numbers a crop that {path} does not hold")
            self.select(keep)
        self.drop(~_finite(self.poses, self.ids, skip_bad), "a broken pose")
        chosen = f"those that {filename_list.name} lists" if filename_list else "all"
        self.protocol = f"BIWI as FSA-Net packs it ({path.name}), {chosen}, crops taken whole"

    def image(self, index: int) -> Image.Image:
        """Crop `index` as an RGB picture."""
        return _from_bgr(self.images[int(self.ids[index])], self.file)


def _from_bgr(image: np.ndarray, path: Path) -> Image.Image:
    """A picture of (H, W, 3) grey levels; those of 0 to 1 would become black without a word."""
    grey_levels = (
        image.dtype == np.uint8 or ((image >= 0) & (image <= 255) & (image == np.rint(image))).all()
    )
    if not grey_levels:
        raise InputError(
            f"{path}: its pixels are not whole numbers of 0 to 255; save them as uint8"
        )
    return Image.fromarray(np.ascontiguousarray(image[..., ::-1]).astype(np.uint8))


class PreparedBiwi(Dataset):
    """The pyramid network's form: `<number>.npz` with `image` (H, W, 3) BGR and `pose` (3)."""

    def __init__(
        self, folder: Path, filename_list: Path | None, split: str, train: bool, skip_bad: bool
    ):
        self.folder = folder
        names = read_list(filename_list, folder) if filename_list else walk(folder, ".npz")
        ids = [name.removesuffix(".npz") for name in names]
        if all(name.isdecimal() for name in ids):
            ids.sort(key=int)
        dropped: dict[str, int] = {}
        if skip_bad:
            ids, dropped = those_there(ids, lambda name: [folder / f"{name}.npz"])
        table = cached_table(
            folder,
            f"BIWI-{filename_list.stem if filename_list else 'all'}",
            [folder / f"{name}.npz" for name in ids],
            lambda: self._parse(ids, skip_bad),
        )
        super().__init__(
            name="BIWI",
            ids=ids,
            poses=table["poses"],
            boxes=table["boxes"],
            dropped=dropped,
        )
        self.drop(~_finite(self.poses, ids, skip_bad), "file broken")
        chosen = f"those that {filename_list.name} lists" if filename_list else "all crops"
        if split == "sequence":
            raise InputError(
                f"{folder}: these crops do not say which sequence they are of; use --split pyramid,"
                " or the released frames"
            )
        if split == "pyramid":
            chosen = self._divide(train)
        self.protocol = f"BIWI as the pyramid network's authors prepare it, {chosen}, taken whole"

    def _divide(self, train: bool) -> str:
        if not all(name.isdecimal() for name in self.ids):
            raise InputError(
                f"{self.folder}: --split pyramid goes by the crops' numbers, and "
                f"{next(name for name in self.ids if not name.isdecimal())} is none"
            )
        training = np.array([int(name) < PYRAMID_TRAINING for name in self.ids])
        self.select(training if train else ~training)
        part = f"training part, 0 to {PYRAMID_TRAINING - 1}"
        if not train:
            part = f"test part, from {PYRAMID_TRAINING} on"
        if not self.ids:
            raise InputError(f"{self.folder}: holds no crop of the pyramid split's {part}")
        return f"split pyramid by position ({part})"

    def image(self, index: int) -> Image.Image:
        """Crop `index` as an RGB picture."""
        path = self.folder / f"{self.ids[index]}.npz"
        image = read_member(path, "image")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"{path}: its image is {image.shape}, not (height, width, 3)")
        return _from_bgr(image, path)

    def _parse(self, ids: list[str], skip_bad: bool) -> dict[str, np.ndarray]:
        poses = np.full((len(ids), 3), np.nan, np.float32)
        boxes = np.zeros((len(ids), 4))
        for row, name in enumerate(tqdm(ids, "poses", unit="file", disable=None, leave=False)):
            path = self.folder / f"{name}.npz"
            try:
                pose, shape = read_member(path, "pose"), member_shape(path, "image")
                if pose.shape != (3,) or len(shape) != 3:
                    raise InputError(
                        f"{path}: is no prepared crop of BIWI; `pose` is {pose.shape} and `image` "
                        f"{shape}, not (3,) and (height, width, 3)"
                    )
                poses[row] = pose
                boxes[row] = 0, 0, shape[1], shape[0]
            except InputError:
                if not skip_bad:
                    raise
        return {"poses": poses, "boxes": boxes}


class ReleasedBiwi(Dataset):
    """The released frames: `01/frame_00003_rgb.png` and `01/frame_00003_pose.txt` (or `.bin`)."""

    def __init__(
        self,
        folder: Path,
        filename_list: Path | None,
        margins: Margins,
        whose: str,
        split: str,
        train: bool,
        boxes: Path | BoxFinder,
        skip_bad: bool,
    ):
        if split == "pyramid":
            raise InputError(
                "--split pyramid numbers the crops of a prepared archive, which cannot be told from"
                " the released frames; use --split sequence"
            )
        self.folder = folder
        names = read_list(filename_list, folder) if filename_list else _frames(folder)
        ids = [name.removesuffix("_rgb") for name in names]
        protocol = f"those that {filename_list.name} lists" if filename_list else "all sequences"
        if split == "sequence":
            testing = [PurePosixPath(name).parts[0] in TEST_SEQUENCES for name in ids]
            ids = [name for name, test in zip(ids, testing, strict=True) if test != train]
            protocol = f"split by sequence, {'training' if train else 'test'} sequences"
            if not ids:
                raise InputError(f"{folder}: holds none of the split's sequences")
        dropped: dict[str, int] = {}
        if skip_bad:
            ids, dropped = those_there(
                ids, lambda name: [self._pose_file(name), self._picture(name)]
            )
        cache = f"BIWI-{filename_list.stem if filename_list else 'all'}-{split}-{train}"
        pose_files = [self._pose_file(name) for name in ids]
        table = cached_table(
            folder, cache, pose_files, lambda: self._parse(ids, pose_files, skip_bad)
        )
        super().__init__(
            name="BIWI",
            ids=ids,
            poses=table["poses"],
            boxes=self._read_boxes(boxes, ids, cache, skip_bad),
            margins=margins,
            dropped=dropped,
        )
        self.drop(~_finite(self.poses, ids, skip_bad), "a broken pose")
        self.drop(~np.isfinite(self.boxes).all(axis=1), "no face box")
        if not self.ids:
            raise InputError(f"{folder}: no frame has a face box")
        source = f"boxes of {boxes.name}" if isinstance(boxes, Path) else "detected boxes"
        self.protocol = (
            f"BIWI as released, {protocol}, {source}, {whose} margins (k = {margins.k[0]:g})"
        )

    def image(self, index: int) -> Image.Image:
        """Frame `index` as an RGB picture."""
        return open_upright(self.path(index))

    def path(self, index: int) -> Path:
        """The PNG of frame `index`."""
        return self._picture(self.ids[index])

    def _picture(self, name: str) -> Path:
        return self.folder / f"{name}_rgb.png"

    def _pose_file(self, name: str) -> Path:
        text = self.folder / f"{name}_pose.txt"
        binary = text.with_suffix(".bin")
        return binary if binary.exists() and not text.exists() else text

    def _parse(self, ids: list[str], files: list[Path], skip_bad: bool) -> dict[str, np.ndarray]:
        poses = np.full((len(ids), 3), np.nan, np.float32)
        for row, path in enumerate(tqdm(files, "poses", unit="file", disable=None, leave=False)):
            try:
                poses[row] = read_pose(path)
            except InputError:
                if not skip_bad:
                    raise
        return {"poses": poses}

    def _read_boxes(
        self, boxes: Path | BoxFinder, ids: list[str], cache: str, skip_bad: bool
    ) -> np.ndarray:
        """(N, 4) x_min, y_min, x_max, y_max; NaN where a frame has none."""
        if isinstance(boxes, Path):
            found = read_boxes(boxes)
            return np.array([found.get(name, [np.nan] * 4) for name in ids], np.float64)
        pictures = [self._picture(name) for name in ids]
        table = cached_table(
            self.folder, f"{cache}-faces", pictures, lambda: _find_all(boxes, pictures)
        )
        if table["broken"].any() and not skip_bad:
            first = pictures[int(np.argmax(table["broken"]))]
            refuse_broken(str(first), lambda: open_upright(first))
        return table["boxes"]


def _frames(folder: Path) -> list[str]:
    frames = (name for name in walk(folder, ".png") if name.endswith("_rgb"))
    return [name.removesuffix("_rgb") for name in frames]


def _find_all(find: BoxFinder, pictures: list[Path]) -> dict[str, np.ndarray]:
    """The face boxes of pictures, NaN where there is none, and which of them are broken."""
    boxes, broken = np.full((len(pictures), 4), np.nan), np.zeros(len(pictures), bool)
    for row, path in enumerate(tqdm(pictures, "faces", unit="picture", disable=None)):
        try:
            picture = open_upright(path)
        except InputError:
            broken[row] = True
            continue
        box = find(picture)
        if box is not None:
            boxes[row] = box
    return {"boxes": boxes, "broken": broken}


def read_pose(path: Path) -> np.ndarray:
    """(3,) yaw, pitch, roll in degrees from `frame_*_pose.txt` or `frame_*_pose.bin`.

    The text holds a 3×3 rotation and then the head's centre; the angles are HopeNet's. The binary
    holds six float32: the centre, then pitch with the opposite sign, yaw and roll.

    Raises:
        InputError: the file is missing or holds no rotation.
    """
    try:
        content = path.read_bytes()[:4096]
        if path.suffix == ".bin":
            angles = np.frombuffer(content, "<f4", count=6)[3:].astype(np.float64)
            pose = biwi_angles_to_pose(angles)
        else:
            matrix = np.array(content.decode("ascii").split()[:9], np.float64).reshape(3, 3)
            if not is_rotation(matrix):
                raise ValueError("its first nine numbers are no rotation")
            pose = biwi_matrix_to_pose(matrix)
    except FileNotFoundError:
        raise InputError(f"{path}: no such pose; check the folder and the list") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a pose of BIWI ({error}); get it again") from None
    if not np.isfinite(pose).all() or np.abs(pose).max() > 360:
        raise InputError(f"{path}: not a pose of BIWI; get it again")
    return np.asarray(wrap(pose))


def read_boxes(path: Path) -> dict[str, list[float]]:
    """Frame → x_min, y_min, x_max, y_max of a CSV file with frame, x, y, width and height.

    Raises:
        InputError: the file is missing or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows, boxes = csv_rows(file), {}
            columns = next(rows, [])
            for cells in rows:
                row = dict(zip(columns, cells, strict=False))
                x, y, width, height = (float(row[c]) for c in ("x", "y", "width", "height"))
                box = [x, y, x + width, y + height]
                require_box(box)
                boxes[row["frame"].removesuffix("_rgb")] = box
    except FileNotFoundError:
        raise InputError(
            f"{path}: no face boxes; give a CSV file as --boxes, or --boxes detect to find them"
        ) from None
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(
            f"{path}: not a CSV file with frame, x, y, width and height ({error})"
        ) from None
    return boxes
