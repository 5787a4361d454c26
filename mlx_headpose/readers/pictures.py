"""Images as people have them → upright RGB: the one reader of training, tests and prediction."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import InputError

# Decoding takes up to 18 bytes a pixel; phones take 108 megapixels.
MAX_PIXELS = 108_000_000
MAX_SCANS = 100
# What photos come as. PIL knows more, and hands some of it (PostScript) to other programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA", "AVIF", "HEIF")
# What iPhones write; Pillow reads it with a plugin. Told by its content, whatever its name.
HEIF_SUFFIXES = {".heic", ".heif"}
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Wide grey images do not say how many of their bits they use: cameras have 10, 12 or 14.
LEVELS = (255, 1023, 4095, 16383, 65535)
_WARNINGS = threading.Lock()


@cache
def suffixes() -> set[str]:
    """The endings of image files, in small letters; asks Pillow for its formats."""
    known = Image.registered_extensions()
    return HEIF_SUFFIXES | {suffix for suffix, form in known.items() if form in FORMATS}


def written_suffixes() -> set[str]:
    """Those of `suffixes` that Pillow writes."""
    forms = Image.registered_extensions()
    return {suffix for suffix in suffixes() if forms.get(suffix) in Image.SAVE}


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """An image file of one of `FORMATS`, to be decoded within.

    Args:
        source: a path, or an open file whose position may be set.

    Raises:
        InputError: it is missing, damaged, too large, or no image.
    """
    name = source if isinstance(source, Path) else "the picture"
    try:
        with _recognised(source) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            # Each scan goes over the whole picture, and may take no more than 20 bytes.
            if "progressive" in picture.info and scans(source) > MAX_SCANS:
                raise InputError(f"a JPEG of over {MAX_SCANS} scans; save it again")
            yield picture
    except FileNotFoundError:
        raise InputError(f"{name}: no such picture; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder; give a picture") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{name}: over {MAX_PIXELS // 1_000_000} megapixels; scale it down first"
        ) from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except Exception as error:  # PIL's decoders raise nearly anything on damaged files
        raise InputError(f"{name}: no picture that can be read ({error}); replace it") from None


def _recognised(source: Path | BinaryIO) -> Image.Image:
    """An image file of one of `FORMATS`, its header read."""
    Image.init()
    if _start(source)[4:12] in {b"ftyp" + brand for brand in HEIF_BRANDS}:
        _register_heif()
    # Filters of warnings are the whole process's: threads would put back one another's.
    with _WARNINGS, warnings.catch_warnings():
        # PIL warns of large pictures on the screen; `MAX_PIXELS` refuses them.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(source, formats=[f for f in FORMATS if f in Image.OPEN])


def _start(source: Path | BinaryIO, count: int = 12) -> bytes:
    """The first bytes of a file, or all (−1)."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(count)
    position = source.tell()
    start = source.read(count)
    source.seek(position)
    return start


def _register_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise InputError("HEIC pictures need a package; run `pip install pillow-heif`") from None
    pillow_heif.register_heif_opener()


def scans(source: Path | BinaryIO) -> int:
    """The scans of a progressive JPEG; usual ones have 10."""
    return _start(source, -1).count(b"\xff\xda")


def frame_count(path: Path) -> int:
    """The frames of an animation or the pages of a TIFF; 1 for other images.

    The second image of a phone's MPO shows the same again and does not count.
    """
    with opened(path) as picture:
        return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)


def open_reduced(source: Path | BinaryIO, reduction: float) -> tuple[Image.Image, float]:
    """An image file as upright RGB, perhaps decoded smaller, and its scale.

    Args:
        source: a path, or an open file.
        reduction: how much smaller it may be. A JPEG then comes at the nearest of 1, 1/2, 1/4 and
            1/8 that is not smaller; other formats come at full size.

    Raises:
        InputError: it is missing, truncated, or no image.
    """
    with opened(source) as picture:
        scale = 1.0
        if reduction >= 2:
            width, height = picture.size
            smaller = max(1, int(width / reduction)), max(1, int(height / reduction))
            drafted = picture.draft("RGB", smaller)
            scale = drafted[1][2] / width if drafted else 1.0
        # In place, so that a large picture is not held twice.
        ImageOps.exif_transpose(picture, in_place=True)
        return to_rgb(picture), scale


def open_upright(source: Path | BinaryIO) -> Image.Image:
    """An image file as upright RGB: what is transparent on white, 16 bits scaled to 8.

    Raises:
        InputError: it is missing, truncated, or no image.
    """
    return open_reduced(source, 1.0)[0]


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as `open_upright` has it, from its header alone."""
    with opened(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)


def to_rgb(picture: Image.Image) -> Image.Image:
    """A PIL image of any mode as upright RGB.

    Raises:
        InputError: it has no pixels.
    """
    if min(picture.size) < 1:
        raise InputError("the picture is empty")
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray(from_array(_grey_levels(np.asarray(picture))))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _grey_levels(values: np.ndarray) -> np.ndarray:
    """PIL's wide grey modes, which do not say their range → floats in 0..1."""
    fractions = values.dtype.kind == "f"
    values = np.nan_to_num(np.asarray(values, np.float32), posinf=0, neginf=0)
    top = float(values.max())
    if fractions and top <= 1:
        return np.clip(values, 0, 1)
    return np.clip(values / next((level for level in LEVELS if top <= level), top), 0, 1)


def from_array(values: np.ndarray) -> np.ndarray:
    """An array of pixels → (H, W, 3) uint8 RGB.

    Args:
        values: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or floats in
            0..1, in the order red, green, blue, alpha.

    Raises:
        InputError: it is of another shape or type.
    """
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
        return np.asarray(to_rgb(Image.fromarray(np.ascontiguousarray(values))))
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def file_of(source: Any) -> Path | BinaryIO | None:
    """A path, bytes, or an open binary file as `opened` takes it; None for anything else."""
    if isinstance(source, str | os.PathLike):
        return Path(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if callable(getattr(source, "read", None)):
        try:
            content = source.read()
        except (OSError, ValueError) as error:
            raise InputError(f"the picture cannot be read from its file ({error})") from None
        if not isinstance(content, bytes):
            raise InputError("a picture's file must be opened in binary mode ('rb')")
        return io.BytesIO(content)
    return None
