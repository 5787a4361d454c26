"""A folder of environments from panoramas of high dynamic range, as Poly Haven publishes them.

`environments.py` says what the folder holds. Radiance x is stored in 8 bits as
255 · log1p(x / scale) / log1p(maximum / scale), where `scale` is a quarter of the median.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files import atomic_folder
from .environments import FIELDS, LIGHTING, LIST, USES

SIZE = (1024, 512)  # of what is seen behind heads
LIGHT = (128, 64)  # of what lights them
ASPECT = 0.01  # by how much a panorama's width may differ from twice its height
QUALITY = 95
_LEAST = 1e-6


def read_panorama(path: Path) -> np.ndarray:
    """(H, W, 3) float32 linear RGB of a Radiance file (.hdr), W being 2·H.

    Raises:
        InputError: it is missing, damaged, no such file, or no panorama; or OpenCV is missing.
    """
    try:
        import cv2
    except ImportError:
        raise InputError(
            f"{path}: reading panoramas needs OpenCV; run `pip install opencv-python`"
        ) from None
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if pixels is None or pixels.dtype != np.float32 or pixels.shape[2:] != (3,):
        raise InputError(f"{path}: no Radiance file (.hdr); download the panorama again")
    height, width = pixels.shape[:2]
    if abs(width / height - 2) > 2 * ASPECT or width < LIGHT[0]:
        raise InputError(
            f"{path}: {width}×{height} pixels are no panorama; its width must be twice its height,"
            f" and at least {LIGHT[0]}"
        )
    return np.ascontiguousarray(np.nan_to_num(np.maximum(pixels[..., ::-1], 0), posinf=0.0))


def encoded(radiance: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Radiance of any shape → uint8, and the scale and maximum that `environments.csv` needs."""
    maximum = max(float(radiance.max()), _LEAST)
    scale = max(float(np.median(radiance)) / 4, 1e-7 * maximum)
    stored = 255 * np.log1p(radiance / scale) / np.log1p(maximum / scale)
    return np.rint(stored).astype(np.uint8), scale, maximum


def write_environments(
    panoramas: Iterable[Path], folder: Path, light_only: Sequence[str] = ()
) -> int:
    """Make a folder of environments, or replace it.

    Args:
        panoramas: Radiance files.
        folder: what `Environments` reads.
        light_only: names, without an ending, of those that never are behind a head, such as
            panoramas with people.

    Returns:
        How many panoramas there are.

    Raises:
        InputError: a panorama cannot be read, two have one name, `light_only` names none of them,
            or the folder cannot be written.
    """
    rows, names, lighting = [], [], []
    unknown = set(light_only)
    with atomic_folder(folder) as place:
        place.mkdir()
        for path in panoramas:
            name = path.stem
            if name in names:
                raise InputError(f"{path}: a second panorama of this name; rename one of them")
            radiance = read_panorama(path)
            pixels, scale, maximum = encoded(_reduced(radiance, SIZE))
            Image.fromarray(pixels).save(place / f"{name}.jpg", quality=QUALITY, subsampling=0)
            use = USES[name in light_only]
            rows.append((f"{name}.jpg", f"{scale:.6g}", f"{maximum:.6g}", use))
            names.append(name)
            lighting.append(_reduced(radiance, LIGHT))
            unknown.discard(name)
        if unknown:
            raise InputError(f"{sorted(unknown)[0]}: no panorama has this name; see --light_only")
        with (place / LIST).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([FIELDS, *rows])
        np.savez_compressed(
            place / LIGHTING, names=np.array(names), radiance=np.array(lighting, np.float32)
        )
    return len(names)


def _reduced(radiance: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 → of (width, height) `size`, each pixel the mean of those it covers."""
    planes = [
        Image.fromarray(np.ascontiguousarray(radiance[..., i])).resize(size, Image.Resampling.BOX)
        for i in range(3)
    ]
    return np.stack([np.asarray(plane) for plane in planes], -1)
