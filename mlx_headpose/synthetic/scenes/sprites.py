"""Cut-out pictures on disk: shards of JPEGs with what is known about each.

A sprite's JPEG holds its colours above and its opacity below, so that it decodes at a half, a
quarter or an eighth of its size in a fraction of the time.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ...errors import InputError
from ...files import atomic_path, visible

QUALITY = 93
DIRECTIONS = 32  # in which an outline has one extreme point each
LANDMARKS = 68


@dataclass
class Sprite:
    """One cut-out picture.

    Attributes:
        pixels: (H, W, 4) uint8 colours, not multiplied by the opacity, and opacity.
        outline: (32, 2) float32 extreme points of the head in pixels; NaN without a head.
        landmarks: (68, 2) float32 300W's landmarks in pixels, seen or hidden; NaN without a head.
        pose: (3,) float32 yaw, pitch, roll of the head in degrees; NaN without a head.
    """

    pixels: np.ndarray
    outline: np.ndarray
    landmarks: np.ndarray
    pose: np.ndarray


def headless(pixels: np.ndarray) -> Sprite:
    """A sprite that shows no head."""
    return Sprite(
        pixels,
        np.full((DIRECTIONS, 2), np.nan, np.float32),
        np.full((LANDMARKS, 2), np.nan, np.float32),
        np.full(3, np.nan, np.float32),
    )


def cut_out(colours: np.ndarray, opaque: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Rendered pixels scaled down to (width, height), with soft edges.

    Args:
        colours: (H, W, 3) uint8.
        opaque: (H, W) bool.
        size: size of the result.

    Returns:
        (height, width, 4) uint8; the colours go on beyond the edge.
    """
    alpha = Image.fromarray(opaque.astype(np.uint8) * np.uint8(255))
    premultiplied = Image.fromarray(colours * opaque[..., None].astype(np.uint8))
    small = premultiplied.resize(size, Image.Resampling.BOX)
    alpha = alpha.resize(size, Image.Resampling.BOX)
    share = np.asarray(alpha, np.float32)[..., None] / 255
    wide = np.asarray(small.filter(ImageFilter.BoxBlur(4)), np.float32)
    wide_share = np.asarray(alpha.filter(ImageFilter.BoxBlur(4)), np.float32)[..., None] / 255
    outside = np.where(wide_share > 0.02, wide / np.maximum(wide_share, 0.02), 110)
    inside = np.asarray(small, np.float32) / np.maximum(share, 0.04)
    rgb = np.clip(np.where(share > 0.04, inside, outside), 0, 255)
    return np.concatenate([rgb.astype(np.uint8), np.asarray(alpha)[..., None]], -1)


def extremes(points: np.ndarray) -> np.ndarray:
    """(P, 2) points → (32, 2) those furthest in 32 directions, which bound them at any turn."""
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    direction = np.stack((np.cos(angle), np.sin(angle)))
    return points[(points @ direction).argmax(0)].astype(np.float32)


def encode(pixels: np.ndarray) -> bytes:
    """(H, W, 4) uint8 → JPEG."""
    alpha = np.repeat(pixels[..., 3:], 3, -1)
    both = Image.fromarray(np.concatenate([pixels[..., :3], alpha]))
    file = io.BytesIO()
    both.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def write_shard(path: Path, sprites: list[Sprite]) -> None:
    """Write sprites to one file, atomically."""
    files = [np.frombuffer(encode(sprite.pixels), np.uint8) for sprite in sprites]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            jpeg=np.concatenate(files),
            start=np.cumsum([0, *map(len, files)]),
            size=np.array([sprite.pixels.shape[:2] for sprite in sprites], np.int32),
            outline=np.stack([sprite.outline for sprite in sprites]),
            landmarks=np.stack([sprite.landmarks for sprite in sprites]),
            pose=np.stack([sprite.pose for sprite in sprites]),
        )


class Sprites:
    """The sprites of a folder, in memory as JPEGs.

    Attributes:
        size: (N, 2) height and width.
        outline, landmarks, pose: of each, see `Sprite`.

    Raises:
        InputError: the folder holds none, or a damaged one.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        paths = visible(folder, "*.npz")
        if not paths:
            raise InputError(
                f"{folder}: holds no sprites; `mlx-headpose render --kind people` (or things) "
                "renders some"
            )
        self.files: list[bytes] = []
        parts: dict[str, list[np.ndarray]] = {
            k: [] for k in ("size", "outline", "landmarks", "pose")
        }
        for path in paths:
            try:
                with np.load(path) as shard:
                    content, start = shard["jpeg"].tobytes(), shard["start"].tolist()
                    self.files += [content[a:b] for a, b in pairwise(start)]
                    for name, part in parts.items():
                        part.append(shard[name])
            except Exception as error:  # numpy and zipfile raise nearly anything on damaged files
                raise InputError(
                    f"{path}: no shard of sprites ({error}); render it again"
                ) from None
        self.size, self.outline, self.landmarks, self.pose = map(np.concatenate, parts.values())

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, scale: float) -> tuple[Image.Image, Image.Image, float]:
        """Colours and opacity of a sprite, decoded at a size of at least `scale`.

        Returns:
            RGB and L pictures and the scale that they have.
        """
        height, width = self.size[index].tolist()
        file = Image.open(io.BytesIO(self.files[index]), formats=("JPEG",))
        if scale <= 0.5:
            file.draft("RGB", (int(width * scale), int(2 * height * scale)))
        picture = file.convert("RGB")
        half = picture.height // 2
        colours = picture.crop((0, 0, picture.width, half))
        alpha = picture.crop((0, half, picture.width, 2 * half)).getchannel(1)
        return colours, alpha, picture.width / width
