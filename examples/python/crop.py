"""From a face box to an exported network's input, byte by byte as mlx-headpose cuts it.

Copy this file into a program of your own: it needs Pillow and NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

BILINEAR = Image.Resampling.BILINEAR
LONGEST = 50  # times the shorter side of a crop
MAX_CROP_PIXELS = 80_000_000  # of which larger crops keep a quarter, a ninth, ...


def cut(
    image: Image.Image, box: Sequence[float], fed: dict[str, Any], around: str = "face"
) -> np.ndarray:
    """A network's input.

    Args:
        image: upright (`ImageOps.exif_transpose`).
        box: x_min, y_min, x_max, y_max in pixels.
        fed: "input" of the network's metadata.
        around: what the box is drawn around, "face" or "head".

    Returns:
        (side, side, 3) uint8.

    Raises:
        ValueError: the network's crop follows another rule, which only mlx-headpose has.
    """
    margins, side, short = fed[f"{around}_margins"], fed["side"], fed["resize_to"]
    usual = (
        fed["resize"] in ("short_side", "squash") and fed.get("filter", "bilinear") == "bilinear"
    )
    if margins is None or not usual or fed.get("clip", False):
        raise ValueError(f"this network's crop of a {around} follows a rule of its own")
    # Detectors give float32, and a box in float64 can be cut one pixel beside.
    left, top, right, bottom = (float(np.float32(value)) for value in box)
    # Each side sees the box that the sides before it moved.
    left -= margins[0] * (right - left)
    top -= margins[1] * (bottom - top)
    right += margins[2] * (right - left)
    bottom += margins[3] * (bottom - top)
    # A box far outside must not make a crop of unbounded size.
    left, right = np.clip([left, right], -image.width, 2 * image.width)
    top, bottom = np.clip([top, bottom], -image.height, 2 * image.height)
    left, top, right, bottom = (int(value) for value in (left, top, right, bottom))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    if fed["resize"] == "short_side":
        # Of a line of pixels, the middle.
        width, height = right - left, bottom - top
        across, down = max(width - LONGEST * height, 0), max(height - LONGEST * width, 0)
        left, right = left + across // 2, right - (across - across // 2)
        top, bottom = top + down // 2, bottom - (down - down // 2)
    picture = rgb(image)
    times = math.ceil(math.sqrt((right - left) * (bottom - top) / MAX_CROP_PIXELS))
    if times > 1:
        picture = picture.reduce(times)
        left, top = left // times, top // times
        right, bottom = max(right // times, left + 1), max(bottom // times, top + 1)
    crop = picture.crop((left, top, right, bottom))
    width, height = crop.size if fed["resize"] == "short_side" else (1, 1)
    width, height = max(short, short * width // height), max(short, short * height // width)
    # First across, then down: Pillow from 13 on chooses the order by the sizes, and bytes differ.
    crop = crop.resize((width, crop.height), BILINEAR).resize((width, height), BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(crop.crop((left, top, left + side, top + side)))


def rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB: what is transparent is white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
