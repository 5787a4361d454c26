"""What lens, sensor and file do to a scene."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

MOST_LEFT = 256  # pixels by which a scene's grain is moved
_BILINEAR = Image.Resampling.BILINEAR


def develop(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Blur, exposure, colours, noise and compression: an RGB picture → (H, W, 3) uint8."""
    size = picture.size
    if rng.random() < 0.4:  # a good photo
        return np.asarray(picture)
    if rng.random() < 0.15:
        low = rng.uniform(0.45, 0.85)
        small = picture.resize((int(size[0] * low), int(size[1] * low)), _BILINEAR)
        picture = small.resize(size, Image.Resampling.BICUBIC)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.BoxBlur(float(rng.uniform(0.2, 1.3))))
    elif rng.random() < 0.2:
        picture = picture.filter(ImageFilter.SHARPEN)
    if rng.random() < 0.12:
        picture = Image.merge("RGB", [picture.convert("L")] * 3)
    elif rng.random() < 0.5:
        grey = np.array((0.3, 0.59, 0.11))
        saturation = rng.uniform(0.3, 1.35)
        mixing = saturation * np.eye(3) + (1 - saturation) * grey
        picture = picture.convert("RGB", np.pad(mixing, ((0, 0), (0, 1))).ravel().tolist())
    picture = picture.point(_exposure(rng))
    if rng.random() < 0.45:
        pixels = np.asarray(picture).astype(np.int16)
        strength = np.abs(rng.normal(0, 5))
        grain = _grain()
        repeats = -(-(max(size) + MOST_LEFT) // len(grain))  # one up to 1344 pixels
        grain = np.tile(grain, (repeats, repeats, 1)) if repeats > 1 else grain
        top, left = rng.integers(0, grain.shape[0] - size[1]), rng.integers(0, MOST_LEFT)
        part = grain[top : top + size[1], left : left + size[0]]
        if rng.random() < 0.4:
            part = part[..., :1]
        pixels += (part * np.float32(strength)).astype(np.int16)
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.uniform(25, 95)))
        picture = Image.open(file)
    return np.asarray(picture)


def _exposure(rng: np.random.Generator) -> list[int]:
    """A table from dark to blown, with a cast."""
    x = np.arange(256) / 255
    gamma = np.exp(rng.normal(0, 0.22))
    contrast = np.exp(rng.normal(0, 0.15))
    brightness = rng.normal(0, 0.07)
    if rng.random() < 0.08:  # a bad photo
        brightness += rng.uniform(-0.35, 0.35)
    tables = []
    for cast in rng.normal(0, 0.04, 3):
        y = 0.5 + contrast * (x**gamma - 0.5) + brightness + cast * x
        tables.append(np.clip(255 * y, 0, 255).astype(int))
    return np.concatenate(tables).tolist()


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1600, 1600, 3), np.float32)
