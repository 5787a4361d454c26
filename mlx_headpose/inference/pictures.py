"""Pictures as people have them → (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..data.base import FORMATS, opened
from ..errors import InputError

Picture = str | Path | Image.Image | np.ndarray

# What iPhones write; Pillow reads it with a plugin.
HEIF_SUFFIXES = {".heic", ".heif"}


@cache
def suffixes() -> set[str]:
    """The endings of image files, in small letters; asks Pillow for its formats."""
    known = Image.registered_extensions()
    return HEIF_SUFFIXES | {suffix for suffix, form in known.items() if form in FORMATS}


def open_picture(source: Picture) -> np.ndarray:
    """Read a picture in any of the forms that people have.

    Args:
        source: a path; a PIL image; or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of
            uint8, uint16, bool, or floats in 0..1, in the order red, green, blue, alpha.

    Returns:
        (H, W, 3) uint8 RGB: turned upright by its EXIF orientation, what is transparent shown on
        white, 16 bits scaled to 8, the first frame of an animation.

    Raises:
        InputError: it is missing, truncated, too large, or no picture.
    """
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, Image.Image):
        return from_pil(source)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"{type(source).__name__} is no picture; give a path, a PIL image or a NumPy array"
        )
    path = Path(source)
    if path.suffix.lower() in HEIF_SUFFIXES:
        _register_heif(path)
    with opened(path) as picture:
        # In place, so that a large picture is not held twice.
        ImageOps.exif_transpose(picture, in_place=True)
        return from_pil(picture)


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            f"{path}: HEIC pictures need a package; run `pip install pillow-heif`"
        ) from None
    pillow_heif.register_heif_opener()


def from_pil(picture: Image.Image) -> np.ndarray:
    """A PIL image → (H, W, 3) uint8 RGB; see `open_picture`."""
    if min(picture.size) < 1:
        raise InputError("the picture is empty")
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return from_array(_grey_levels(np.asarray(picture)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        picture = white
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _grey_levels(values: np.ndarray) -> np.ndarray:
    """PIL's wide grey modes, which do not say their range → uint16 or floats in 0..1."""
    if values.dtype.kind == "f":
        top = float(np.nanmax(values))
        return np.nan_to_num(values) / (1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0)
    return np.clip(values, 0, 65535).astype(np.uint16)


def from_array(values: np.ndarray) -> np.ndarray:
    """An array → (H, W, 3) uint8 RGB; see `open_picture`."""
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or 0 in values.shape:
        raise InputError(
            f"an array of shape {values.shape} is no picture; give (height, width, 3) in RGB"
        )
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint16:
        levels = values.astype(np.uint32)
        levels += 128
        levels //= 257
        values = levels.astype(np.uint8)
    elif values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError("an array of floats must lie in 0..1 to be a picture")
        values = (values * 255).round().astype(np.uint8)
    elif values.dtype != np.uint8:
        raise InputError(f"an array of {values.dtype} is no picture; give uint8")
    if values.shape[2] == 4:
        return from_pil(Image.fromarray(np.ascontiguousarray(values)))
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
