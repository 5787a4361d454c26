"""Pictures in every form that callers have → (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import os
from typing import BinaryIO

import mlx.core as mx
import numpy as np
from PIL import Image

from ..errors import InputError
from ..readers.pictures import file_of, from_array, open_upright, to_rgb

Picture = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray | mx.array


def open_picture(source: Picture) -> np.ndarray:
    """Read a picture in any of the forms that people have.

    Args:
        source: a path; an encoded file as bytes, or an open binary file; a PIL image; or a NumPy
            or MLX array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or
            floats in 0..1, in the order red, green, blue, alpha.

    Returns:
        (H, W, 3) uint8 RGB: turned upright by its EXIF orientation, what is transparent shown on
        white, 16 bits scaled to 8, the first frame of an animation.

    Raises:
        InputError: it is missing, truncated, too large, or no picture.
    """
    if isinstance(source, mx.array):
        if mx.issubdtype(source.dtype, mx.floating):
            source = source.astype(mx.float32)  # NumPy has no bfloat16
        source = np.array(source)
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, Image.Image):
        try:
            return np.asarray(to_rgb(source))
        except (OSError, ValueError) as error:  # of a file that is damaged or closed
            raise InputError(f"the picture cannot be decoded ({error}); open it again") from None
    file = file_of(source)
    if file is None:
        raise InputError(
            f"{type(source).__name__} is no picture; give a path, bytes, an open file, a PIL image"
            " or an array"
        )
    return np.asarray(open_upright(file))


def is_one_picture(value: object) -> bool:
    """Whether a value is a picture itself, and not a list of some."""
    one = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, np.ndarray, mx.array)
    return isinstance(value, one) or callable(getattr(value, "read", None))
