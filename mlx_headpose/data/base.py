"""What a dataset is: a list of (image, box, pose), made once and accessed by index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
from PIL import Image

from ..core.crop import MAX_CROP_PIXELS, NONE, Margins
from ..core.landmarks import POINTS
from ..errors import InputError
from ..readers.pictures import open_reduced

BROKEN = "picture broken"  # why a sample is left out
SKIP = ", or leave it out by --skip_bad"  # what a message about it adds


def refuse_broken(name: str, read: Callable[[], object]) -> NoReturn:
    """Say what is wrong with a picture that an earlier pass could not read.

    Args:
        name: of the picture.
        read: reads it, and raises what the pass passed over.

    Raises:
        InputError: always.
    """
    try:
        read()
    except InputError as error:
        raise InputError(f"{error}{SKIP}") from None
    raise InputError(f"{name}: could not be read; replace it{SKIP}")


def refuse_useless_margin(ad: float | None, margins: Margins, name: str) -> None:
    """Stop if a margin k is given for a crop that has none around a dataset's boxes.

    Raises:
        InputError: it is.
    """
    if ad is not None and not any(margins.factors):
        raise InputError(
            f"--ad changes nothing: this crop has no margins around the boxes of {name}; leave it "
            "out"
        )


@dataclass
class Dataset:
    """Samples of one annotated set, in our conventions.

    Attributes:
        name: name in reports.
        ids: one name per sample, for reports and error messages.
        poses: (N, 3) float32 yaw, pitch, roll in degrees; NaN where a crop shows no head.
        boxes: (N, 4) float64 x_min, y_min, x_max, y_max before `margins`: of the kind
            that these are for.
        margins: margins that make a crop of a box.
        protocol: one sentence that names the samples, the box and the crop.
        dropped: reason → number of listed samples that are left out.
        columns: further values of the samples, (N, ...) each, such as FaceScape's "person".
    """

    name: str
    ids: Sequence[str]
    poses: np.ndarray
    boxes: np.ndarray
    margins: Margins = NONE
    protocol: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    # Whether samples are scenes of many heads, for training detectors.
    shows_scenes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, np.float64)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB image.

        Raises:
            InputError: the file is missing or broken.
        """
        raise NotImplementedError

    def path(self, index: int) -> Path | None:
        """The image file of sample `index`, where it has one of its own.

        Training then decodes large JPEGs at reduced scale instead of calling `image`.
        """
        return None

    def landmarks(self, index: int) -> np.ndarray:
        """(L, 3) float32 landmarks of sample `index`, in image axes."""
        raise InputError(f"{self.name} has no 3D landmarks; use a set that has, such as synthetic")

    def image_landmarks(self, index: int) -> np.ndarray:
        """300W's landmarks in sample `index`.

        Returns:
            (68, 3) float32 x and y in pixels of the image, and 1 where a landmark is seen or 0; NaN
            where they are not known.
        """
        return np.full((POINTS, 3), np.nan, np.float32)

    def scene(
        self, index: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 and targets (M, 11) of sample `index`, to train detectors on."""
        raise NotImplementedError

    def crop_box(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """(4,) box to cut, margins added; `rng` samples them where they are random.

        Raises:
            InputError: it is so large that its annotation must be wrong.
        """
        box = self.margins.apply(self.boxes[index], rng)
        width, height = box[2:] - box[:2]
        if not width * height <= MAX_CROP_PIXELS:
            raise InputError(
                f"{self.ids[index]}: a box of {width:.0f}×{height:.0f} pixels; fix its annotation"
            )
        return box

    def cut(
        self, index: int, box: np.ndarray, size: int, turn: float = 0.0, extend: bool = False
    ) -> np.ndarray:
        """Cut a box out of a sample's image and scale it, as one resampling.

        A JPEG is decoded at a half, quarter or eighth where the crop still has at least `size`
        pixels: the decoder's own scaling then does what the resampling's antialiasing would.

        Args:
            index: index of the sample.
            box: (4,) x_min, y_min, x_max, y_max in pixels, with fractions; outside is black.
            size: side of the result in pixels.
            turn: degrees clockwise by which the image is turned about the middle of the box.
            extend: stretch the image's edge outwards, in place of black.

        Returns:
            (size, size, 3) uint8.
        """
        path = self.path(index)
        if path is None:
            return resample(self.image(index), box, size, turn, extend)
        reduction = max(1.0, min(box[2] - box[0], box[3] - box[1]) / size)
        picture, scale = open_reduced(path, reduction)
        return resample(picture, box * scale, size, turn, extend)

    def sources(self) -> np.ndarray:
        """(N,) number of the set that each sample is from, where several are joined."""
        return np.zeros(len(self), int)

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        self.ids = [name for name, kept in zip(self.ids, keep, strict=True) if kept]
        self.poses = self.poses[keep]
        self.boxes = self.boxes[keep]
        self.columns = {name: values[keep] for name, values in self.columns.items()}

    def drop_absent(self) -> None:
        """Leave out, and count, the samples that show no head.

        Raises:
            InputError: no other is left.
        """
        self.drop(np.isnan(self.poses).any(axis=1), "no head")
        if not self.ids and "no head" in self.dropped:
            raise InputError(f"{self.name}: none of its crops shows a head; add some that do")

    def drop(self, bad: np.ndarray, reason: str) -> None:
        """Leave out, and count, the samples where the (N,) boolean `bad` is true."""
        if bad.any():
            self.dropped[reason] = self.dropped.get(reason, 0) + int(bad.sum())
            self.select(~bad)


def turned_about(picture: Image.Image, box: np.ndarray, turn: float) -> Image.Image:
    """An image turned clockwise, by degrees, about the middle of a (4,) box; black outside."""
    middle = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    return picture.rotate(-turn, Image.Resampling.BILINEAR, center=middle)


def extended(picture: Image.Image, box: np.ndarray, turned: bool) -> tuple[Image.Image, np.ndarray]:
    """An image whose edge pixels go on as far as a (4,) box reaches, and the box in it.

    Args:
        picture: an image.
        box: may reach outside it, by twice its size at most.
        turned: whether the image will be turned about the middle of the box.
    """
    low, high = box[:2], box[2:]
    if turned:
        middle, reach = (low + high) / 2, float(np.hypot(*(high - low))) / 2
        low, high = middle - reach, middle + reach
    size = np.array(picture.size)
    before, after = (
        np.clip(np.ceil(beyond), 0, 2 * size).astype(int) for beyond in (-low, high - size)
    )
    if not (before.any() or after.any()):
        return picture, box
    rows, columns = zip(before[::-1], after[::-1], strict=True)
    pixels = np.pad(np.asarray(picture), (rows, columns, (0, 0)), mode="edge")
    return Image.fromarray(pixels), box + np.tile(before, 2)


def resample(
    picture: Image.Image, box: np.ndarray, size: int, turn: float = 0.0, extend: bool = False
) -> np.ndarray:
    """The (4,) box of an RGB image as (size, size, 3) uint8, bilinear with antialiasing.

    `turn` turns the image before, clockwise by degrees about the middle of the box. `extend`
    stretches the image's edge outwards, in place of black.
    """
    if extend:
        picture, box = extended(picture, box, turn != 0)
    if turn:
        picture = turned_about(picture, box, turn)
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = max(math.ceil(box[2]), left + 1), max(math.ceil(box[3]), top + 1)
    patch = picture.crop((left, top, right, bottom))
    inner = (
        max(float(box[0]) - left, 0.0),
        max(float(box[1]) - top, 0.0),
        min(max(float(box[2]) - left, float(box[0]) - left + 1e-3), right - left),
        min(max(float(box[3]) - top, float(box[1]) - top + 1e-3), bottom - top),
    )
    return np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR, box=inner))
