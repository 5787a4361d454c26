"""What is behind the heads of a scene: views of real places, textured rooms, collages, blurs."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..environments import Environments
from ..photo import Photo, natural
from .emblems import emblem
from .textures import TILE, Textures

_PLAIN = Photo()
_NEAREST, _SMOOTH = Image.Resampling.NEAREST, Image.Resampling.BILINEAR


class Backgrounds:
    """Backgrounds of one split.

    Args:
        environments: panoramas.
        textures: swatches.
    """

    def __init__(self, environments: Environments, textures: Textures):
        self.textures = textures
        self.environments = environments

    def draw(self, size: int, rng: np.random.Generator) -> Image.Image:
        """A background of `size` × `size` pixels."""
        kind = rng.random()
        if kind < 0.5:
            picture = self.environments.view(size, rng)
        elif kind < 0.72:
            picture = self.room(size, rng)
        elif kind < 0.88:
            picture = self.surface(size, rng)
        else:
            picture = _PLAIN.background(size, rng)
        for _ in range(int(rng.choice((0, 1, 3, 8), p=(0.4, 0.25, 0.2, 0.15)))):
            self._panel(picture, rng)
        if rng.random() < 0.3:
            picture = picture.filter(ImageFilter.BoxBlur(float(rng.uniform(0.3, 5) * size / 320)))
        return picture

    def surface(self, size: int, rng: np.random.Generator, *kinds: str) -> Image.Image:
        """A wall, floor or cloth that fills the picture, seen at some angle."""
        tile = self.textures.some(rng, *kinds)
        repeat = int(rng.choice((1, 2, 4, 6)))
        sheet = Image.fromarray(np.tile(tile, (repeat, repeat, 1)))
        side = TILE * repeat
        corner = rng.uniform(0, 0.3, 8) * side
        x0, y0, x1, y1, x2, y2, x3, y3 = corner
        quad = (x0, y0, x1, side - y1, side - x2, side - y2, side - x3, y3)
        smooth = _SMOOTH if side < 3 * size else _NEAREST
        picture = sheet.transform((size, size), Image.Transform.QUAD, quad, smooth)
        if rng.random() < 0.5:
            picture = picture.point(levels(rng))
        return picture

    def room(self, size: int, rng: np.random.Generator) -> Image.Image:
        """A wall above a floor, or sky above ground."""
        horizon = int(rng.uniform(0.25, 0.85) * size)
        indoors = rng.random() < 0.6
        if indoors:
            wall = self.surface(size, rng, "Plaster", "Paint", "Bricks", "WoodSiding", "Wallpaper",
                                "Concrete", "Tiles", "Planks", "Marble", "Fabric")  # fmt: skip
        else:
            wall = self.environments.view(size, rng)
        tile = self.textures.some(rng, *(() if indoors else ("Grass", "Ground", "Asphalt", "Gravel",
                                  "PavingStones", "Snow", "Road", "Rocks")))  # fmt: skip
        repeat = int(rng.integers(2, 8))
        sheet = Image.fromarray(np.tile(tile, (4, 4, 1)))
        side = TILE * 4
        near = side / repeat
        quad = (0, 0, side / 2 - near / 2, side, side / 2 + near / 2, side, side, 0)
        floor = sheet.transform((size, max(size - horizon, 1)), Image.Transform.QUAD, quad, _SMOOTH)
        if rng.random() < 0.5:
            floor = floor.point(levels(rng))
        wall.paste(floor, (0, horizon))
        return wall

    def _panel(self, picture: Image.Image, rng: np.random.Generator) -> None:
        """A rectangle, disc or bar, plain or textured, as windows, doors and stripes, or a sign."""
        size = picture.width
        width, height = (int(v) for v in np.exp(rng.uniform(np.log(4), np.log(0.7 * size), 2)))
        left, top = (int(v) for v in rng.uniform(-0.2, 0.95, 2) * size)
        if rng.random() < 0.15:
            sign = emblem(width, height, rng)
            picture.paste(sign, (left, top), sign)
            return
        if rng.random() < 0.4:
            tile = Image.fromarray(self.textures.some(rng))
            patch = tile.resize((width, height), _SMOOTH)
        else:
            colour = tuple(int(v) for v in np.clip(natural(rng), 0, 255))
            patch = Image.new("RGB", (width, height), colour)
        kind = rng.random()
        if kind < 0.65:
            picture.paste(patch, (left, top))
            return
        mask = Image.new("L", (width, height))
        draw = ImageDraw.Draw(mask)
        if kind < 0.85:
            draw.ellipse((0, 0, width - 1, height - 1), fill=255)
        else:
            draw.polygon([tuple(p) for p in rng.uniform(0, 1, (4, 2)) * (width, height)], fill=255)
        picture.paste(patch, (left, top), mask)


def levels(rng: np.random.Generator) -> list[int]:
    """A table for `Image.point` that changes brightness, contrast and tint."""
    x = np.arange(256) / 255
    gamma, gain = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.12, 3) * (1, 0.6, 1))
    table = [np.clip(255 * g * x**gamma, 0, 255).astype(int) for g in gain]
    return np.concatenate(table).tolist()
