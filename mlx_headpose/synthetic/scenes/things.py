"""What is no head, as sprites: things that are round, on poles, furry, or have eyes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..light import Light, sample_light
from ..rasterize import Camera, facing, rasterize
from ..render_set import digest
from .animals import animal, bird, hand
from .objects import (
    ball,
    box,
    fitting,
    flower,
    fruit,
    furniture,
    lump,
    post,
    vehicle,
    vessel,
    wheel,
)
from .paints import Thing
from .rendering import SpriteSource
from .sprites import Sprite, cut_out, headless
from .textures import Textures

SIDE = 192
SUPERSAMPLING = 1.4
_DISTANCE = 5.0  # of the camera, in radii of what is rendered


class ThingSprites(SpriteSource):
    """Sprites of things.

    Args:
        textures: folder of swatches.
        environments, seed: see `SpriteSource`.
    """

    def __init__(self, textures: Path, environments: Path | None, seed: tuple[int, ...]):
        super().__init__(environments, seed)
        self.textures = Textures(textures)

    def record(self) -> dict[str, str | None]:
        """See `SpriteSource.record`."""
        return super().record() | {"textures": digest(*self.textures.files)}

    def draw(self, number: int) -> Sprite:
        """Sprite `number`."""
        rng = np.random.default_rng((*self.seed, 31, number))
        names = list(KINDS)
        weights = np.array([KINDS[name][1] for name in names])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        maker, _, tilt = KINDS[name]
        thing = maker(rng, self.textures)
        if self.environments is not None and rng.random() < 0.5:
            light = self.environments.light(rng)
        else:
            light = sample_light(rng)
        return headless(_render(thing, light, tilt, rng))


def _render(thing: Thing, light: Light, tilt: float, rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 4) pixels of a thing, turned at random, by up to `tilt` degrees from upright."""
    side = round(SIDE * SUPERSAMPLING)
    turn = Rotation.from_euler(
        "yxz", (rng.uniform(-180, 180), rng.normal(12, tilt / 2), rng.normal(0, tilt / 3)),
        degrees=True,
    ).as_matrix()  # fmt: skip
    vertices = np.concatenate([solid.vertices for solid, _ in thing])
    middle = (vertices.min(0) + vertices.max(0)) / 2
    vertices = ((vertices - middle) @ turn.T).astype(np.float32)
    radius = np.linalg.norm(vertices, axis=1).max()
    vertices /= np.float32(radius)
    counts = [len(solid.vertices) for solid, _ in thing]
    part = np.repeat(np.arange(len(thing), dtype=np.float32), counts)
    normals = np.concatenate([solid.normals for solid, _ in thing]) @ turn.T
    uv = np.concatenate([solid.uv for solid, _ in thing])
    attributes = np.concatenate([normals, uv, part[:, None]], 1).astype(np.float32)
    firsts = np.cumsum([0, *counts[:-1]])
    triangles = np.concatenate(
        [solid.triangles + first for (solid, _), first in zip(thing, firsts, strict=True)], 1
    )
    low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
    camera = Camera(
        _DISTANCE,
        float(0.94 * side / ((high - low).max() * (1 + 1 / _DISTANCE))),
        (side / 2, side / 2),
    )
    projected = camera.project(vertices)
    fragments = rasterize(projected, facing(triangles, projected), side, side)
    values = fragments.interpolate(attributes)
    which = part[fragments.corners[0]].astype(np.intp)
    normal = values[:, :3]
    normal = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6)
    normal = np.where(normal[:, 2:] < 0, -normal, normal)
    albedo = np.empty((len(which), 3), np.float32)
    gloss = np.empty(len(which), np.float32)
    for number, (_, paint) in enumerate(thing):
        own = np.flatnonzero(which == number)
        albedo[own] = paint.at(values[own, 3], values[own, 4])
        gloss[own] = paint.gloss
    lamp = np.maximum(0.9 * (normal @ light.direction) + 0.1, 0)[:, None] * light.lamp
    above = (0.5 - 0.5 * normal[:, 1:2]) * light.above
    below = (0.5 + 0.5 * normal[:, 1:2]) * light.below
    half = light.direction + np.array((0, 0, 1), np.float32)
    half = half / (np.linalg.norm(half) + 1e-6)
    glint = (np.maximum(normal @ half, 0) ** rng.choice((8, 24, 60)) * gloss)[:, None] * light.lamp
    rim = np.maximum(1 - normal[:, 2:], 0) ** 3 * light.rim
    colour = (albedo * (lamp + above + below + rim) + glint) * light.exposure
    colour = np.sqrt(np.maximum(colour, 0))
    high_part = np.maximum(colour - 0.65, 0)
    colour = np.minimum(colour - high_part + high_part / (1 + 2.2 * high_part), 1) * 255
    pixels = np.zeros((side * side, 3), np.uint8)
    pixels[fragments.pixel] = colour.astype(np.uint8)
    opaque = np.zeros(side * side, bool)
    opaque[fragments.pixel] = True
    return cut_out(pixels.reshape(side, side, 3), opaque.reshape(side, side), (SIDE, SIDE))


Maker = Callable[[np.random.Generator, Textures], Thing]


# Kind → what makes one, how often, and how far it may be tilted (degrees).
KINDS: dict[str, tuple[Maker, float, float]] = {
    "ball": (ball, 1.0, 60),
    "fruit": (fruit, 0.8, 50),
    "vessel": (vessel, 1.2, 30),
    "wheel": (wheel, 0.9, 30),
    "fitting": (fitting, 1.0, 60),
    "box": (box, 1.0, 40),
    "animal": (animal, 3.0, 25),
    "bird": (bird, 1.0, 25),
    "hand": (hand, 0.8, 120),
    "lump": (lump, 1.0, 40),
    "furniture": (furniture, 1.0, 25),
    "post": (post, 1.4, 15),
    "flower": (flower, 0.4, 60),
    "vehicle": (vehicle, 0.4, 15),
}
