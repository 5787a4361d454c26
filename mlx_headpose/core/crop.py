"""From a face box to the network's square: the published crop and resize rules, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import InputError
from .preprocessing import Preprocessing


@dataclass(frozen=True)
class CropRule:
    """Margins of a published loader, added side by side to a face box.

    Each side moves by k times its factor times the width or height, and, as in the published
    loaders, each line sees the box that the lines before it changed: x_min −, y_min −, x_max +,
    y_max +.

    Attributes:
        name: the rule's name, such as "hopenet".
        points: which annotation the box is drawn around ("pt2d", "pt3d_68", "box", ...).
        factors: of (x_min, y_min, x_max, y_max).
        k: the margin, or its range where training draws it uniformly.
    """

    name: str
    points: str = "box"
    factors: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    k: tuple[float, float] = (0.2, 0.2)

    def apply(self, box: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """(4,) box with its margins; without `rng`, k is the middle of its range."""
        low, high = self.k
        k = float(rng.uniform(low, high)) if rng is not None and low < high else (low + high) / 2
        x_min, y_min, x_max, y_max = (float(v) for v in box)
        x_min -= self.factors[0] * k * abs(x_max - x_min)
        y_min -= self.factors[1] * k * abs(y_max - y_min)
        x_max += self.factors[2] * k * abs(x_max - x_min)
        y_max += self.factors[3] * k * abs(y_max - y_min)
        return np.array([x_min, y_min, x_max, y_max], np.float64)


# What the methods' published loaders do. A dataset's file says which of them apply to it.
HOPENET_TEST = CropRule("hopenet", "pt2d", (2.0, 2.0, 2.0, 0.6), (0.2, 0.2))
HOPENET_TRAIN = CropRule("hopenet", "pt2d", (0.6, 2.0, 0.6, 0.6), (0.2, 0.4))
PYRAMID_TEST = CropRule("pyramid", "pt3d_68", (0.6, 2.0, 0.6, 0.6), (0.2, 0.2))
AS_GIVEN = CropRule("box")
# TokenHPE and HopeNet-in-MLX cut as another method does and only scale differently.
SAME_CROP = {"tokenhpe": "hopenet"}


def choose_rule(name: str, rules: dict[str, CropRule]) -> CropRule:
    """The rule of a name among those that a dataset has.

    Raises:
        InputError: it has none of that name.
    """
    name = SAME_CROP.get(name, name)
    if name == AS_GIVEN.name and name not in rules:
        name = "hopenet"  # a set without head boxes: HopeNet's loose box holds most of the head
    if name not in rules:
        raise InputError(f"unknown crop rule {name!r}; choose one of: {', '.join(rules)}")
    return rules[name]


def drawn_rule(name: str, train: bool) -> CropRule:
    """The rule of a name for synthetic heads, drawn or rendered: HopeNet's margins in training.

    Raises:
        InputError: there is none of that name.
    """
    return choose_rule(
        name,
        {
            "hopenet": HOPENET_TRAIN,
            "pyramid": HOPENET_TRAIN if train else PYRAMID_TEST,
            AS_GIVEN.name: AS_GIVEN,
        },
    )


def cut(picture: Image.Image, box: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Cut a box out of a picture exactly as the published evaluations do.

    The box is truncated to whole pixels; what lies outside the picture is black; the crop is
    scaled by PIL's bilinear filter with antialiasing.

    Args:
        picture: RGB.
        box: (4,) x_min, y_min, x_max, y_max in pixels.
        preprocessing: target size and resize rule.

    Returns:
        (size, size, 3) uint8.
    """
    left, top, right, bottom = (int(v) for v in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    crop = picture.crop((left, top, right, bottom))
    size = preprocessing.size
    short = preprocessing.resize_to or size
    width, height = crop.size
    # As torchvision does: the longer side is truncated, the centre rounded.
    if preprocessing.resize == "squash":
        scaled = (short, short)
    elif width <= height:
        scaled = (short, int(short * height / width))
    else:
        scaled = (int(short * width / height), short)
    # First across, then down: Pillow from 13 on chooses the order by the sizes, and bytes differ.
    for one in ((scaled[0], height), scaled):
        crop = crop.resize(one, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return np.asarray(crop.crop((left, top, left + size, top + size)))
