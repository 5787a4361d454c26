"""What is no head, as sprites: things that are round, on poles, furry, or have eyes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..grid import smooth_noise
from ..light import Light, sample_light
from ..person import linear
from ..rasterize import Camera, facing, rasterize
from .rendering import SpriteSource
from .solids import (
    Solid,
    cylinder,
    disc,
    lathe,
    rough,
    rounded_box,
    sphere,
    torus,
    tube,
)
from .sprites import Sprite, cut_out, headless
from .textures import Textures

SIDE = 192
SUPERSAMPLING = 1.4
_DISTANCE = 5.0  # of the camera, in radii of what is rendered


@dataclass(frozen=True)
class Paint:
    """How a solid looks.

    Attributes:
        colour: (3,) linear.
        texture: (128, 128, 3) linear in 0..1, or None.
        repeat: how often the texture is on the solid, across and down.
        gloss: 0..1.
        fur: strength of streaks, 0..1.
        pattern: (u, v) → share of `second` at places, or None.
        second: (3,) linear.
    """

    colour: np.ndarray
    texture: np.ndarray | None = None
    repeat: tuple[float, float] = (1.0, 1.0)
    gloss: float = 0.1
    fur: float = 0.0
    pattern: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    second: np.ndarray | None = None

    def at(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(P, 3) albedo at (P,) places in 0..1."""
        albedo = np.broadcast_to(self.colour, (len(u), 3)).astype(np.float32)
        if self.texture is not None:
            column = (u * self.repeat[0] * 128).astype(np.intp) % 128
            row = (v * self.repeat[1] * 128).astype(np.intp) % 128
            albedo = albedo * self.texture[row, column]
        if self.pattern is not None and self.second is not None:
            share = self.pattern(u, v)[:, None]
            albedo = albedo * (1 - share) + self.second * share
        if self.fur:
            streaks = smooth_noise(u * 700, v * 60) + smooth_noise(u * 300 + 9, v * 40)
            albedo = albedo * np.exp(0.35 * self.fur * streaks)[:, None].astype(np.float32)
        return albedo


Thing = list[tuple[Solid, Paint]]


class ThingSprites(SpriteSource):
    """Sprites of things.

    Args:
        textures: folder of swatches.
        environments, seed: see `SpriteSource`.
    """

    def __init__(self, textures: Path, environments: Path | None, seed: tuple[int, ...]):
        super().__init__(environments, seed)
        self.textures = Textures(textures)

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


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour, at times grey, dark or like skin or wood."""
    kind = rng.random()
    if kind < 0.35:
        rgb = rng.uniform(0, 255, 3)
    elif kind < 0.65:
        rgb = np.full(3, rng.uniform(5, 250)) + rng.normal(0, 8, 3)
    else:
        rgb = np.array((200, 150, 120)) * rng.uniform(0.15, 1.2) + rng.normal(0, 18, 3)
    return np.asarray(linear(np.clip(rgb, 2, 255)), np.float32)


def _paint(rng: np.random.Generator, textures: Textures, *kinds: str, plain: float = 0.4) -> Paint:
    """Any paint: plain with a chance of `plain`, or textured."""
    gloss = float(rng.choice((0.0, 0.05, 0.3, 0.8)))
    if rng.random() < plain:
        return Paint(_colour(rng), gloss=gloss)
    texture = np.asarray(textures.some(rng, *kinds), np.float32) / 255
    tint = np.ones(3, np.float32)
    if rng.random() < 0.4:
        tint = 2 * _colour(rng)
    repeat = float(np.exp(rng.uniform(np.log(0.4), np.log(6))))
    return Paint(np.minimum(tint, 2), texture**2, (repeat, repeat), gloss)


def _stripes(rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Segments, bands, dots or seams."""
    kind = int(rng.integers(5))
    across, down = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    shift, width = rng.uniform(0, 1), rng.uniform(0.02, 0.5)
    if kind == 0:
        return lambda u, v: ((u * across + shift) % 1 < width).astype(np.float32)
    if kind == 1:
        return lambda u, v: ((v * down + shift) % 1 < width).astype(np.float32)
    if kind == 2:
        return lambda u, v: (
            ((u * 2 * across) % 1 - 0.5) ** 2 + ((v * 2 * down) % 1 - 0.5) ** 2 < 0.3 * width
        ).astype(np.float32)
    if kind == 3:
        return lambda u, v: (
            np.abs((u * 2 + 0.1 * np.sin(12 * v)) % 1 - 0.5) < 0.06 + 0 * v
        ).astype(np.float32)
    return lambda u, v: (((u * across) % 1 < 0.5) ^ ((v * down) % 1 < 0.5)).astype(np.float32)


def _ball(rng: np.random.Generator, textures: Textures) -> Thing:
    paint = _paint(rng, textures, plain=0.7)
    if rng.random() < 0.6:
        paint = replace(paint, pattern=_stripes(rng), second=_colour(rng))
    ball = sphere().turned(*rng.uniform(-180, 180, 3))
    return [(ball.scaled(1, float(rng.uniform(0.75, 1.1)), 1), paint)]


def _fruit(rng: np.random.Generator, textures: Textures) -> Thing:
    polar = np.linspace(0.02, np.pi - 0.02, 24)
    dent, waist, belly = rng.uniform(0, 0.35), rng.uniform(-0.35, 0.3), rng.uniform(0.7, 1.4)
    radius = np.sin(polar) * (1 + waist * np.cos(polar))
    height = -belly * np.cos(polar) * (1 - dent * np.exp(-(radius**2) * 12))
    body = lathe(radius, height, 49)
    if rng.random() < 0.35:  # ribs
        angle = np.arctan2(body.vertices[:, 0], body.vertices[:, 2])
        depth = 1 - rng.uniform(0.03, 0.15) * np.abs(np.sin(angle * int(rng.integers(4, 9))))
        body = replace(body, vertices=body.vertices * np.stack((depth, 0 * depth + 1, depth), -1))
    paint = replace(_paint(rng, textures, "Leather", "Plaster", "Rock", plain=0.7), gloss=0.3)
    paint = replace(paint, pattern=lambda u, v: 0.5 * (1 - v), second=_colour(rng))
    stem = tube(
        np.array(((0, -belly * 0.8, 0), (0.03, -belly - 0.1, 0), (0.1, -belly - 0.35, 0))),
        np.array((0.06, 0.05, 0.05)),
    )
    brown = Paint(np.asarray(linear((70, 60, 30)), np.float32))
    return [(body, paint), (stem, brown)]


def _vessel(rng: np.random.Generator, textures: Textures) -> Thing:
    knots = np.linspace(0, 1, 7)
    radii = np.abs(np.cumsum(rng.normal(0, 0.28, 7)) + rng.uniform(0.3, 1.0)) + 0.12
    t = np.linspace(0, 1, 26)
    radius = np.interp(t, knots, radii)
    radius = np.convolve(np.pad(radius, 2, "edge"), np.full(5, 0.2), "valid")
    height = (2 * t - 1) * rng.uniform(0.6, 2.2)
    radius, height = (
        np.concatenate(((ends[0],), values, (ends[1],)))
        for values, ends in ((radius, (1e-3, 1e-3)), (height, (height[0], height[-1])))
    )
    paint = _paint(rng, textures)
    if rng.random() < 0.4:
        paint = replace(paint, pattern=_stripes(rng), second=_colour(rng))
    thing = [(lathe(radius, height), paint)]
    if rng.random() < 0.3:
        handle = torus(0.12).scaled(*np.full(3, rng.uniform(0.3, 0.7)))
        thing.append((handle.moved((float(radius.max()), 0, 0)), paint))
    if rng.random() < 0.35:  # a knob or a bulb on top
        knob = sphere().scaled(*np.full(3, rng.uniform(0.15, 0.9)))
        thing.append((knob.moved((0, float(height[0]), 0)), _paint(rng, textures)))
    return thing


def _wheel(rng: np.random.Generator, textures: Textures) -> Thing:
    count, hub, rim = int(rng.integers(3, 25)), rng.uniform(0.05, 0.4), rng.uniform(0.55, 0.95)
    width = rng.uniform(0.1, 0.6)

    def spokes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        x, y = 2 * u - 1, 2 * v - 1
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        between = (radius > hub) & (radius < rim)
        return (between & ((angle * count / (2 * np.pi)) % 1 > width)).astype(np.float32)

    def rings(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        radius = np.hypot(2 * u - 1, 2 * v - 1)
        return ((radius * count) % 1 < width).astype(np.float32)

    pattern = spokes if rng.random() < 0.7 else rings
    face = replace(_paint(rng, textures), pattern=pattern, second=_colour(rng))
    rim_paint = _paint(rng, textures, "Rubber", "Metal", "Plastic")
    depth = float(rng.uniform(0.03, 0.4))
    around = cylinder().turned(x=90).scaled(1, 1, depth)
    thing = [(around, rim_paint), (disc().moved((0, 0, depth * 1.02)), face)]
    thing.append((disc().turned(y=180).moved((0, 0, -depth * 1.02)), face))
    if rng.random() < 0.5:
        thing.append((torus(float(rng.uniform(0.05, 0.3))), rim_paint))
    turn = rng.uniform(-50, 50)  # mostly seen from the front, whatever the common turn
    return [(solid.turned(y=turn), paint) for solid, paint in thing]


def _box(rng: np.random.Generator, textures: Textures) -> Thing:
    roundness = float(rng.choice((0.12, 0.2, 0.4, 0.7)))
    size = rng.uniform(0.4, 1.4, 3)
    paint = _paint(rng, textures)
    thing = [(rounded_box(roundness).scaled(*size), paint)]
    if rng.random() < 0.4:  # a bag's or a kettle's handle
        handle = torus(0.06, 0.5).turned(x=180).scaled(0.6 * size[0], rng.uniform(0.3, 1), 1)
        thing.append((handle.moved((0, -size[1], 0)), _paint(rng, textures)))
    for _ in range(int(rng.integers(0, 4))):  # knobs, lenses, lids
        knob = sphere(10, 17).scaled(*(rng.uniform(0.1, 0.4, 3)))
        place = rng.uniform(-0.6, 0.6, 3) * size
        place[2] = size[2]
        thing.append((knob.moved(place), _paint(rng, textures)))
    return thing


def _fur(rng: np.random.Generator) -> tuple[Paint, Paint]:
    """The paint of a coat, and of its lighter or darker parts."""
    base = linear(
        np.clip(
            np.array(
                ((150, 110, 75), (60, 45, 35), (225, 215, 200), (120, 115, 110), (200, 150, 90))[
                    int(rng.integers(5))
                ]
            )
            * rng.uniform(0.5, 1.25),
            5,
            255,
        )
    )
    fur = float(rng.uniform(0.3, 1.2))
    coat = Paint(np.asarray(base, np.float32), gloss=0.02, fur=fur)
    if rng.random() < 0.4:
        coat = replace(coat, pattern=_stripes(rng), second=_colour(rng))
    other = Paint(np.asarray(base * rng.uniform(0.3, 2.2), np.float32), gloss=0.02, fur=fur)
    return coat, other


def _animal(rng: np.random.Generator, textures: Textures) -> Thing:
    """Four legs, a body, and a head with a snout, ears and eyes."""
    coat, other = _fur(rng)
    dark = Paint(np.full(3, 0.01, np.float32), gloss=0.9)
    bumps = float(rng.uniform(0, 0.06))

    def furred(solid: Solid) -> Solid:
        return rough(solid, rng, bumps, 9)

    wide, tall = rng.uniform(0.8, 1.1), rng.uniform(0.8, 1.15)
    skull = furred(sphere()).scaled(wide, tall, rng.uniform(0.8, 1.2))
    head: Thing = [(skull, coat)]
    snout = rng.uniform(0.1, 1.6)
    thick = rng.uniform(0.3, 0.6)
    muzzle = sphere().scaled(thick, thick * rng.uniform(0.6, 1), 0.4 + snout / 2)
    muzzle = muzzle.moved((0, rng.uniform(0.1, 0.4), 0.6 + snout / 2))
    head.append((muzzle, other if rng.random() < 0.6 else coat))
    nose = sphere(10, 17).scaled(0.18, 0.13, 0.12)
    head.append((nose.moved((0, 0.15, 1.0 + snout)), dark))
    eye = rng.uniform(0.09, 0.2)
    ear = rng.uniform(0.25, 1.1)
    floppy = rng.uniform(-30, 150) if rng.random() < 0.5 else rng.uniform(-20, 20)
    for sign in (-1, 1):
        place = (sign * rng.uniform(0.35, 0.5) * wide, -0.15 * tall, 0.85)
        head.append((sphere(10, 17).scaled(eye, eye, eye).moved(place), dark))
        cone = cylinder(0.1 if rng.random() < 0.6 else 0.8).scaled(0.35, ear, 0.12)
        cone = cone.moved((0, -ear, 0)).turned(z=sign * (25 + floppy))
        head.append((cone.moved((sign * 0.6 * wide, -0.6 * tall, 0)), coat))
    if rng.random() < 0.3:
        return head
    length, girth = rng.uniform(1.4, 3), rng.uniform(0.8, 1.5)
    body = furred(sphere()).scaled(girth, girth * rng.uniform(0.8, 1.1), length)
    thing: Thing = [(body, coat)]
    look = Rotation.from_euler("yx", (rng.uniform(-70, 70), rng.uniform(-20, 20)), degrees=True)
    turn = look.as_euler("xyz", degrees=True)
    place = (0, -girth * rng.uniform(0.3, 1.4), length * rng.uniform(0.8, 1.1))
    thing += [(solid.turned(*turn).moved(place), paint) for solid, paint in head]
    leg = rng.uniform(0.6, 2)
    for x in (-0.6, 0.6):
        for z in (-0.7, 0.7):
            limb = cylinder(1.4).scaled(0.22, leg / 2, 0.22)
            thing.append((limb.moved((x * girth, girth * 0.6 + leg / 2, z * length)), coat))
    tail = np.stack(
        (0 * np.arange(4), -0.3 * np.arange(4) * rng.uniform(-1, 1), -0.5 * np.arange(4)), -1
    )
    thing.append((tube(tail + np.array((0, -0.3, -length)), np.full(4, 0.18)), coat))
    return thing


def _bird(rng: np.random.Generator, textures: Textures) -> Thing:
    coat, other = _fur(rng)
    coat = replace(coat, colour=_colour(rng))
    beak = Paint(np.asarray(linear((230, 150, 40)), np.float32) * rng.uniform(0.1, 1.1), gloss=0.3)
    dark = Paint(np.full(3, 0.01, np.float32), gloss=0.9)
    neck = rng.uniform(0.6, 2.2)
    thing: Thing = [(sphere().scaled(0.8, 0.75, rng.uniform(1, 1.6)), coat)]
    place = np.array((0, -neck, 0.9))
    thing.append((sphere().scaled(0.5, 0.5, 0.55).moved(place), other))
    curve = np.linspace((0, -0.1, 0.6), place, 6)
    thing.append((tube(curve, np.linspace(0.5, 0.35, 6)), coat))
    cone = cylinder(0.05).scaled(0.16, rng.uniform(0.15, 0.6), 0.13).turned(x=90)
    thing.append((cone.moved(place + np.array((0, 0.05, 0.8))), beak))
    for sign in (-1, 1):
        thing.append(
            (
                sphere(8, 13).scaled(*[0.09] * 3).moved(place + np.array((0.4 * sign, -0.1, 0.3))),
                dark,
            )
        )
    wing = sphere().scaled(0.2, 0.5, 1.1)
    thing += [(wing.moved((sign * 0.7, 0, -0.3)), other) for sign in (-1, 1)]
    return thing


def _hand(rng: np.random.Generator, textures: Textures) -> Thing:
    skin = np.asarray(linear(np.array((226, 184, 158)) * rng.uniform(0.25, 1.05)), np.float32)
    paint = Paint(skin, gloss=0.08)
    if rng.random() < 0.2:
        paint = _paint(rng, textures, "Fabric")  # a glove
    thing: Thing = [(rounded_box(0.7).scaled(0.9, 1, 0.32), paint)]
    bend = rng.uniform(-0.2, 1.6)
    for finger in range(5):
        x, length = -0.7 + 0.47 * finger, (1.2, 1.5, 1.6, 1.4, 1.1)[finger]
        joint = np.linspace(0, 1, 6)
        angle = bend * joint * rng.uniform(0.7, 1.2)
        y, z = -0.9 - length * np.cumsum(np.cos(angle)) / 6, length * np.cumsum(np.sin(angle)) / 6
        if finger == 4:
            points = np.stack((0.8 + 0.9 * joint, 0.3 - 0.8 * joint, 0.4 * bend * joint), -1)
        else:
            points = np.stack((x + 0 * joint, y, z), -1)
        thing.append((tube(points, np.linspace(0.23, 0.17, 6)), paint))
        thing.append((sphere(8, 13).scaled(*[0.18] * 3).moved(points[-1]), paint))
    if rng.random() < 0.7:  # the arm
        arm = tube(
            np.linspace((0, 0.8, 0), (0, rng.uniform(1.5, 5), 0), 4), np.linspace(0.6, 0.8, 4)
        )
        thing.append((arm, paint if rng.random() < 0.5 else _paint(rng, textures, "Fabric")))
    return thing


def _lump(rng: np.random.Generator, textures: Textures) -> Thing:
    """A bush, a stone, a heap of cloth, a cushion, a wig of leaves."""
    solid = rough(sphere(30, 49), rng, float(rng.uniform(0.1, 0.5)), float(rng.uniform(2, 7)))
    kinds = ("Grass", "Moss", "Rock", "Fabric", "ScatteredLeaves", "Bark", "ThatchedRoof", "Carpet")
    paint = _paint(rng, textures, *kinds, plain=0.2)
    paint = replace(paint, fur=float(rng.choice((0, 0.6))))
    return [(solid.scaled(*rng.uniform(0.6, 1.3, 3)), paint)]


def _furniture(rng: np.random.Generator, textures: Textures) -> Thing:
    """Boxes and poles: chairs, shelves, signs, machines."""
    thing: Thing = []
    paints = [_paint(rng, textures) for _ in range(3)]
    for _ in range(int(rng.integers(2, 8))):
        size = np.exp(rng.uniform(np.log(0.06), np.log(1.2), 3))
        place = rng.uniform(-1, 1, 3)
        if rng.random() < 0.5:
            solid = rounded_box(float(rng.choice((0.12, 0.3)))).scaled(*size)
        else:
            solid = cylinder(float(rng.uniform(0.4, 1))).scaled(size[0], 2 * size[1], size[0])
        thing.append((solid.moved(place), paints[int(rng.integers(3))]))
    return thing


def _post(rng: np.random.Generator, textures: Textures) -> Thing:
    """A round or square thing on a pole or on shoulder-like feet, as lamps and signs are."""
    top = (_ball, _box, _wheel, _vessel, _lump)[int(rng.integers(5))](rng, textures)
    highest = max(float(solid.vertices[:, 1].max()) for solid, _ in top)
    width = float(np.exp(rng.uniform(np.log(0.06), np.log(0.4))))
    length = float(rng.uniform(0.3, 3))
    pole = cylinder().scaled(width, length / 2, width).moved((0, highest - 0.1 + length / 2, 0))
    paint = _paint(rng, textures)
    thing = [*top, (pole, paint)]
    if rng.random() < 0.6:
        foot = rounded_box(float(rng.uniform(0.3, 1))).scaled(
            *rng.uniform((0.5, 0.2, 0.4), (2.2, 1, 1))
        )
        thing.append((foot.moved((0, highest + length, 0)), _paint(rng, textures, "Fabric")))
    return thing


def _flower(rng: np.random.Generator, textures: Textures) -> Thing:
    petals, paint = int(rng.integers(5, 16)), _paint(rng, textures, plain=0.8)
    thing: Thing = [(sphere().scaled(0.4, 0.4, 0.2), _paint(rng, textures))]
    for petal in range(petals):
        leaf = sphere(10, 17).scaled(0.2, 0.55, 0.06).moved((0, -0.8, 0))
        thing.append((leaf.turned(z=360 * petal / petals), paint))
    stem = tube(np.linspace((0, 0, -0.1), (0.3, 3, -0.2), 5), np.full(5, 0.06))
    return [*thing, (stem, Paint(np.asarray(linear((60, 110, 40)), np.float32)))]


def _vehicle(rng: np.random.Generator, textures: Textures) -> Thing:
    paint, glass = (
        _paint(rng, textures, "Metal", plain=0.9),
        Paint(np.full(3, 0.03, np.float32), gloss=0.9),
    )
    tyre = Paint(np.full(3, 0.015, np.float32))
    thing: Thing = [(rounded_box(0.3).scaled(0.8, 0.35, 2), paint)]
    thing.append((rounded_box(0.5).scaled(0.7, 0.4, 1.1).moved((0, -0.55, -0.1)), glass))
    thing.append((rounded_box(0.4).scaled(0.68, 0.06, 0.9).moved((0, -0.92, -0.1)), paint))
    for x in (-0.8, 0.8):
        for z in (-1.2, 1.2):
            wheel = cylinder().turned(z=90).scaled(0.12, 0.38, 0.38)
            thing.append((wheel.moved((x, 0.35, z)), tyre))
        lamp = sphere(8, 13).scaled(0.16, 0.16, 0.08)
        thing.append((lamp.moved((0.7 * x, 0, 2)), _paint(rng, textures)))
    return thing


Maker = Callable[[np.random.Generator, Textures], Thing]
# Kind → what makes one, how often, and how far it may be tilted (degrees).
KINDS: dict[str, tuple[Maker, float, float]] = {
    "ball": (_ball, 1.0, 60),
    "fruit": (_fruit, 0.8, 50),
    "vessel": (_vessel, 1.2, 30),
    "wheel": (_wheel, 0.9, 30),
    "box": (_box, 1.0, 40),
    "animal": (_animal, 3.0, 25),
    "bird": (_bird, 1.0, 25),
    "hand": (_hand, 0.8, 120),
    "lump": (_lump, 1.0, 40),
    "furniture": (_furniture, 1.0, 25),
    "post": (_post, 1.4, 15),
    "flower": (_flower, 0.4, 60),
    "vehicle": (_vehicle, 0.4, 15),
}
