"""From an annotated or detected box to the network's square.

A `Crop` holds the box that a method is trained and tested on, and the margins around it; `cut`
scales what is inside to the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import InputError

if TYPE_CHECKING:
    from .preprocessing import Preprocessing

# What an annotated box may hold.
BOXES = {
    "points": "all annotated points",
    "visible": "the visible points",
    "landmarks": "the 68 landmarks",
    "head": "the whole head",
}
MAX_MARGIN = 10.0
# How a crop is scaled: PIL's filters, with antialiasing, and OpenCV's linear one, without.
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "linear": Image.Resampling.BILINEAR,
}
# A face may fill the largest images; a larger crop would exhaust the memory.
MAX_CROP_PIXELS = 80_000_000
LONGEST = 50  # times the shorter side; no head is that long, but boxes at the border may be
# What a margin is a share of, and how a box is rounded before.
SHARES = ("sides", "start", "swapped", "longer")
ROUNDINGS = ("none", "truncate", "outward")


def finite(value: object) -> bool:
    """Whether a value, perhaps of a file, is a number and neither infinite nor NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class Margins:
    """What is added to a box, side by side.

    Each side moves outwards by k times its factor times a length of the box, in the order x_min,
    y_min, x_max, y_max.

    Attributes:
        factors: factors for (x_min, y_min, x_max, y_max).
        k: the margin, or its range where training samples it uniformly.
        of: length of the box: "sides", its width or height, where each side sees the box that the
            sides before it changed, as in most published loaders; "start", the same of the box as
            it was; "swapped", the height for x and the width for y of the box as it was, whole
            pixels, as in 6DRepNet's demo; "longer", the longer side of the box as it was.
        rounding: what is done to the box before: "none"; "truncate", its sides to whole pixels;
            "outward", its sides to the nearest whole pixel and one more for x_max and y_max
            (`cv2.boundingRect` of rounded points).
        square: side of the square around the box's centre that replaces the box at the end, as a
            multiple of its longer side; 0 for none.

    Raises:
        InputError: a value is not finite, or moves a side by more than ten times the box.
    """

    factors: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    k: tuple[float, ...] = (0.2, 0.2)
    of: str = "sides"
    rounding: str = "none"
    square: float = 0.0

    def __post_init__(self) -> None:
        values = (*self.factors, *self.k)
        if len(self.factors) != 4 or len(self.k) != 2 or not all(map(finite, values)):
            raise InputError(f"margins need four finite factors and two k, not {values}")
        if (
            max(map(abs, self.factors)) * max(map(abs, self.k)) > MAX_MARGIN
            or self.k[0] > self.k[1]
        ):
            raise InputError(f"margins of {self.factors} with k in {self.k} are impossible")
        if self.of not in SHARES or self.rounding not in ROUNDINGS:
            raise InputError(
                f"margins of {self.of!r} with rounding {self.rounding!r} are unknown; choose from "
                f"{', '.join(SHARES)} and {', '.join(ROUNDINGS)}"
            )
        if not finite(self.square) or not 0 <= self.square <= MAX_MARGIN:
            raise InputError(f"a square of {self.square} times the box is impossible")

    def apply(self, box: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """(4,) box with its margins; without `rng`, k is the middle of its range."""
        low, high = self.k
        k = float(rng.uniform(low, high)) if rng is not None and low < high else (low + high) / 2
        x_min, y_min, x_max, y_max = self._rounded(box)
        if self.of == "sides":
            x_min -= self.factors[0] * k * abs(x_max - x_min)
            y_min -= self.factors[1] * k * abs(y_max - y_min)
            x_max += self.factors[2] * k * abs(x_max - x_min)
            y_max += self.factors[3] * k * abs(y_max - y_min)
        else:
            left, top, right, bottom = self._outwards(k, x_max - x_min, y_max - y_min)
            x_min, y_min, x_max, y_max = x_min - left, y_min - top, x_max + right, y_max + bottom
        if self.square:
            half = self.square / 2 * max(x_max - x_min, y_max - y_min)
            x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
            x_min, y_min, x_max, y_max = x - half, y - half, x + half, y + half
        return np.array([x_min, y_min, x_max, y_max], np.float64)

    def _rounded(self, box: np.ndarray) -> list[float]:
        sides = [float(v) for v in box]
        if self.rounding == "truncate":
            return [float(int(v)) for v in sides]
        if self.rounding == "outward":
            return [float(round(v) + extra) for v, extra in zip(sides, (0, 0, 1, 1), strict=True)]
        return sides

    def _outwards(self, k: float, width: float, height: float) -> list[float]:
        """By how much each side moves, where that depends on the box as it was."""
        if self.of == "swapped":
            lengths = height, width
        else:
            lengths = (width, height) if self.of == "start" else (max(width, height),) * 2
        moves = [f * k * n for f, n in zip(self.factors, 2 * lengths, strict=True)]
        return [float(int(move)) for move in moves] if self.of == "swapped" else moves

    def with_k(self, k: float | None) -> Margins:
        """The same factors with a fixed k; None changes nothing."""
        return self if k is None else replace(self, k=(k, k))

    def __str__(self) -> str:
        """Such as "k = 0.2" or "k = 0.2 to 0.4"."""
        low, high = self.k
        text = f"k = {low:g}" if low == high else f"k = {low:g} to {high:g}"
        if not any(self.factors):
            text = "no margins"
        return f"{text}, a square of {self.square:g} longer sides" if self.square else text


NONE = Margins()


@dataclass(frozen=True)
class Crop:
    """How a method cuts heads out of images; saved with the weights.

    Attributes:
        box: annotated box that the margins are for, one of `BOXES`.
        test: margins around that box in evaluation.
        train: margins around that box in training.
        face: margins around a detected face.
        head: margins around a detected head.

    Raises:
        InputError: there is no such box.
    """

    box: str = "points"
    test: Margins = NONE
    train: Margins = NONE
    face: Margins = NONE
    head: Margins = NONE

    def __post_init__(self) -> None:
        if self.box not in BOXES:
            raise InputError(f"unknown box {self.box!r}; choose one of: {', '.join(BOXES)}")

    def around(
        self, name: str, boxes: Iterable[str], train: bool, k: float | None = None
    ) -> BoxMargins:
        """The box of a dataset that this crop is cut around, and its margins.

        A dataset without the wanted kind offers another one: margins that are meant for loose
        points are replaced around landmarks, and `CONVERSIONS` has the rest.

        Args:
            name: name of the dataset, for the error.
            boxes: kinds that the dataset has.
            train: whether for training.
            k: margin in place of the published one.

        Raises:
            InputError: the dataset has no box that can replace it.
        """
        boxes = list(boxes)
        for kind, conversion in ((self.box, None), *CONVERSIONS[self.box].items()):
            if kind in boxes:
                margins = conversion or (self.test, self.train)
                return BoxMargins(kind, margins[train].with_k(k))
        raise InputError(
            f"{name} has boxes of {' and '.join(BOXES[kind] for kind in boxes)}, from which the "
            f"network's crop ({BOXES[self.box]}) cannot be made; choose another dataset"
        )

    def around_detected(self, finds: str, k: float | None = None) -> Margins:
        """Margins around a detector's boxes.

        Args:
            finds: what the boxes bound: "faces" as YuNet has them, "heads", or "landmarks".
            k: margin in place of this crop's own; around heads that this crop takes as they are,
                the same on all sides.
        """
        if finds == "landmarks":
            return self.around("the detector", ("landmarks",), train=False, k=k).margins
        if finds != "heads":
            return self.face.with_k(k)
        margins = self.head
        if k is not None and not any(margins.factors):
            margins = replace(margins, factors=(1.0, 1.0, 1.0, 1.0), of="start")
        return margins.with_k(k)


@dataclass(frozen=True)
class BoxMargins:
    """One kind of box and the margins around it."""

    kind: str
    margins: Margins

    def __str__(self) -> str:
        """Such as "box of the 68 landmarks, k = 0.2"."""
        return f"box of {BOXES[self.kind]}, {self.margins}"


# Margins of the published loaders (docs/protocols.md). AFLW2000's points include the −1 of hidden
# ones, so their box is loose. In training on 300W-LP all loaders sample k.
LOOSE = Margins((2.0, 2.0, 2.0, 0.6))
CLOSE = Margins((0.6, 2.0, 0.6, 0.6))
TRAINING = Margins((0.6, 2.0, 0.6, 0.6), (0.2, 0.4))
# Where the face is in a head's box: on 1000 rendered heads over the full circle, the median box of
# the landmarks with `CLOSE` margins was 0.69 of the head's longer side, and 0.09 of its height
# below its middle. Here (0.15, 0.24) to (0.85, 0.94) of the box.
FACE_OF_HEAD = Margins((-0.75, -1.2, -0.15 / 0.17, -0.06 / 0.152))

# wanted box → box that replaces it → margins around that one in testing and training. None means
# the same margins.
CONVERSIONS: dict[str, dict[str, tuple[Margins, Margins] | None]] = {
    # A loose box holds most of the head, and a head's box is about as large.
    "points": {"landmarks": (CLOSE, TRAINING), "head": (NONE, NONE)},
    "visible": {"landmarks": None, "points": None, "head": (NONE, NONE)},
    "landmarks": {"head": (FACE_OF_HEAD, FACE_OF_HEAD)},
    "head": {"points": (LOOSE, TRAINING), "landmarks": (CLOSE, TRAINING)},
}

# A detected face has the sides and the chin of the box around 68 landmarks, and reaches a quarter
# of its height higher, to the hairline (medians over AFLW2000).
AROUND_POINTS = Crop(
    "points",
    test=LOOSE,
    train=TRAINING,
    # k calibrated on every second image of AFLW2000: bench/accuracy/end_to_end.py.
    face=Margins((1.0, 1.0, 1.0, 1.0), (0.15, 0.15)),
)
AROUND_LANDMARKS = Crop(
    "landmarks",
    test=CLOSE,
    train=TRAINING,
    # `CLOSE`, carried over by those medians.
    face=Margins((0.6, 0.275, 0.6, 0.6)),
)
AROUND_HEAD = Crop(
    "head",
    # Medians of the head on rendered heads (sides 0.11, top 0.23, bottom 0.05 of the face box) lie
    # below, and those of WHENet's sample (0.3, 0.4, 0.2) above.
    face=Margins((1.0, 1.5, 1.0, 0.4)),
)


def cut(picture: Image.Image, box: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Cut a box out of an image exactly as the published evaluations do.

    The box is truncated to whole pixels, but for the resize rule "warp"; what lies outside the
    image is black, unless `preprocessing.clip` ends the crop at the border. Of a box that is over
    `LONGEST` times as long as wide, the middle is taken.

    Args:
        picture: RGB image.
        box: (4,) x_min, y_min, x_max, y_max in pixels.
        preprocessing: target size, resize rule, filter, and whether to clip.

    Returns:
        (size, size, 3) uint8; for the resize rule "whole" one side may be longer.
    """
    size = preprocessing.size
    if preprocessing.resize == "warp":
        return _warped(picture, box, size, preprocessing.filter)
    left, top, right, bottom = (int(v) for v in box)
    if preprocessing.clip:
        left, right = max(left, 0), min(right, picture.width)
        top, bottom = max(top, 0), min(bottom, picture.height)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    if preprocessing.resize == "pad":
        more = (bottom - top) - (right - left)
        across, down = max(more, 0), max(-more, 0)
        left, right = left - across // 2, right + across - across // 2
        top, bottom = top - down // 2, bottom + down - down // 2
    if preprocessing.resize in ("short_side", "whole"):
        # A line of pixels would become an image of hundreds of megabytes, whose middle is wanted.
        width, height = right - left, bottom - top
        across, down = max(width - LONGEST * height, 0), max(height - LONGEST * width, 0)
        left, right = left + across // 2, right - (across - across // 2)
        top, bottom = top + down // 2, bottom - (down - down // 2)
    crop = part_of(picture, (left, top, right, bottom))
    short = preprocessing.resize_to or size
    width, height = crop.size
    # As torchvision does: the longer side is truncated, the centre rounded.
    if preprocessing.resize in ("squash", "pad"):
        scaled = (short, short)
    elif width <= height:
        scaled = (short, int(short * height / width))
    else:
        scaled = (int(short * width / height), short)
    if preprocessing.filter == "linear":
        crop = Image.fromarray(_linear(np.asarray(crop), scaled))
    else:
        # First across, then down: Pillow from 13 on chooses the order by the sizes, and bytes
        # differ.
        for one in ((scaled[0], height), scaled):
            crop = crop.resize(one, FILTERS[preprocessing.filter])
    if preprocessing.resize == "whole":
        return np.asarray(crop)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return np.asarray(crop.crop((left, top, left + size, top + size)))


def part_of(picture: Image.Image, area: tuple[int, int, int, int]) -> Image.Image:
    """A part of a picture, black beyond it; one of over `MAX_CROP_PIXELS` at a half, a third, ....

    Args:
        picture: of any mode.
        area: left, top, right, bottom in pixels.
    """
    left, top, right, bottom = area
    times = math.ceil(math.sqrt((right - left) * (bottom - top) / MAX_CROP_PIXELS))
    if times > 1:  # Pillow refuses to make it whole
        picture = picture.reduce(times)
        left, top = left // times, top // times
        right, bottom = max(right // times, left + 1), max(bottom // times, top + 1)
    return picture.crop((left, top, right, bottom))


def _warped(picture: Image.Image, box: np.ndarray, size: int, name: str) -> np.ndarray:
    """(size, size, 3) of a box with fractions, each pixel read where its centre falls."""
    coefficients = []
    for low, high in zip(box[:2].tolist(), box[2:].tolist(), strict=True):
        # The inverse of the map to the square, as published: where a centre falls on the border of
        # two pixels, the last bit decides.
        scale = size / max(high - low, 1e-3)
        shift = size / 2 - scale * (low + (high - low) / 2)
        coefficients.append((1 / scale, -(1 / scale * shift)))
    (across, left), (down, top) = coefficients
    return np.asarray(
        picture.transform(
            (size, size),
            Image.Transform.AFFINE,
            (across, 0.0, left, 0.0, down, top),
            FILTERS[name],
        )
    )


def _linear(image: np.ndarray, scaled: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 scaled to (width, height) between the nearest pixels, without antialiasing.

    OpenCV's INTER_LINEAR, but for its rounding: some values differ by 1.
    """
    result = image.astype(np.float32)
    for axis, wanted in ((0, scaled[1]), (1, scaled[0])):
        count = image.shape[axis]
        where = np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)
        before = where.astype(int)
        share = (where - before).astype(np.float32).reshape(-1, *[1] * (2 - axis))
        after = np.minimum(before + 1, count - 1)
        result = (1 - share) * result.take(before, axis) + share * result.take(after, axis)
    return np.rint(result).astype(np.uint8)
