"""Things that people make or eat, and plants: round ones and ones on poles above all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..person import linear
from .paints import Paint, Thing, any_colour, any_paint, any_pattern
from .solids import (
    cylinder,
    disc,
    lathe,
    rough,
    rounded_box,
    sphere,
    torus,
    tube,
)
from .textures import Textures


def ball(rng: np.random.Generator, textures: Textures) -> Thing:
    paint = any_paint(rng, textures, plain=0.7)
    if rng.random() < 0.6:
        paint = replace(paint, pattern=any_pattern(rng), second=any_colour(rng))
    ball = sphere().turned(*rng.uniform(-180, 180, 3))
    return [(ball.scaled(1, float(rng.uniform(0.75, 1.1)), 1), paint)]


def fruit(rng: np.random.Generator, textures: Textures) -> Thing:
    polar = np.linspace(0.02, np.pi - 0.02, 24)
    dent, waist, belly = rng.uniform(0, 0.35), rng.uniform(-0.35, 0.3), rng.uniform(0.7, 1.4)
    radius = np.sin(polar) * (1 + waist * np.cos(polar))
    height = -belly * np.cos(polar) * (1 - dent * np.exp(-(radius**2) * 12))
    body = lathe(radius, height, 49)
    if rng.random() < 0.35:  # ribs
        angle = np.arctan2(body.vertices[:, 0], body.vertices[:, 2])
        depth = 1 - rng.uniform(0.03, 0.15) * np.abs(np.sin(angle * int(rng.integers(4, 9))))
        body = replace(body, vertices=body.vertices * np.stack((depth, 0 * depth + 1, depth), -1))
    paint = replace(any_paint(rng, textures, "Leather", "Plaster", "Rock", plain=0.7), gloss=0.3)
    paint = replace(paint, pattern=lambda u, v: 0.5 * (1 - v), second=any_colour(rng))
    stem = tube(
        np.array(((0, -belly * 0.8, 0), (0.03, -belly - 0.1, 0), (0.1, -belly - 0.35, 0))),
        np.array((0.06, 0.05, 0.05)),
    )
    brown = Paint(np.asarray(linear((70, 60, 30)), np.float32))
    return [(body, paint), (stem, brown)]


def vessel(rng: np.random.Generator, textures: Textures) -> Thing:
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
    paint = any_paint(rng, textures)
    if rng.random() < 0.4:
        paint = replace(paint, pattern=any_pattern(rng), second=any_colour(rng))
    thing = [(lathe(radius, height), paint)]
    if rng.random() < 0.3:
        handle = torus(0.12).scaled(*np.full(3, rng.uniform(0.3, 0.7)))
        thing.append((handle.moved((float(radius.max()), 0, 0)), paint))
    if rng.random() < 0.35:  # a knob or a bulb on top
        knob = sphere().scaled(*np.full(3, rng.uniform(0.15, 0.9)))
        thing.append((knob.moved((0, float(height[0]), 0)), any_paint(rng, textures)))
    return thing


def wheel(rng: np.random.Generator, textures: Textures) -> Thing:
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
    face = replace(any_paint(rng, textures), pattern=pattern, second=any_colour(rng))
    rim_paint = any_paint(rng, textures, "Rubber", "Metal", "Plastic")
    depth = float(rng.uniform(0.03, 0.4))
    around = cylinder().turned(x=90).scaled(1, 1, depth)
    thing = [(around, rim_paint), (disc().moved((0, 0, depth * 1.02)), face)]
    thing.append((disc().turned(y=180).moved((0, 0, -depth * 1.02)), face))
    if rng.random() < 0.5:
        thing.append((torus(float(rng.uniform(0.05, 0.3))), rim_paint))
    turn = rng.uniform(-50, 50)  # mostly seen from the front, whatever the common turn
    return [(solid.turned(y=turn), paint) for solid, paint in thing]


def fitting(rng: np.random.Generator, textures: Textures) -> Thing:
    """What is turned on a lathe, seen from its end: connectors, valves, knobs, lenses, buttons."""
    steps = int(rng.integers(2, 7))
    radii = -np.sort(-rng.uniform(0.1, 1, steps))
    rises = rng.uniform(0.05, 0.5, steps) * rng.choice((1, 1, -0.7), steps)
    rises[0] = abs(rises[0])
    front = np.cumsum(rises)
    back = np.concatenate(((0,), front[:-1]))
    bevel = rng.uniform(0.01, 0.05)
    # Each step is a side and the bevelled edge before its front.
    radius = np.stack((radii, radii, radii - bevel), 1).ravel()
    height = np.stack((back, front - bevel, front), 1).ravel()
    radius = np.concatenate((radius, (1e-3,)))
    height = np.concatenate((height, height[-1:]))
    paint = replace(
        any_paint(rng, textures, "Metal", "Plastic", "Rubber"), gloss=float(rng.choice((0.3, 0.9)))
    )
    if rng.random() < 0.5:  # painted steps
        paint = replace(
            paint, pattern=lambda u, v: ((v * steps) % 2 < 1).astype(float), second=any_colour(rng)
        )
    thing = [(lathe(radius, height).turned(x=90), paint)]
    if rng.random() < 0.4:  # a lens or a lamp
        glass = sphere(10, 17).scaled(*np.full(3, rng.uniform(0.3, 1) * radii[-1]))
        thing.append((glass.moved((0, 0, float(front[-1]))), Paint(any_colour(rng), gloss=0.9)))
    for _ in range(int(rng.choice((0, 0, 1, 4)))):  # screws and levers
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.1) * radii[0]
        screw = rounded_box(0.4).scaled(*rng.uniform(0.05, 0.3, 3))
        place = (far * np.cos(angle), far * np.sin(angle), float(front[0]))
        thing.append((screw.moved(place), any_paint(rng, textures, "Metal")))
    turn = rng.uniform(-50, 50)  # mostly seen from its end, whatever the common turn
    return [(solid.turned(y=turn), paint) for solid, paint in thing]


def box(rng: np.random.Generator, textures: Textures) -> Thing:
    roundness = float(rng.choice((0.12, 0.2, 0.4, 0.7)))
    size = rng.uniform(0.4, 1.4, 3)
    paint = any_paint(rng, textures)
    thing = [(rounded_box(roundness).scaled(*size), paint)]
    if rng.random() < 0.4:  # a bag's or a kettle's handle
        handle = torus(0.06, 0.5).turned(x=180).scaled(0.6 * size[0], rng.uniform(0.3, 1), 1)
        thing.append((handle.moved((0, -size[1], 0)), any_paint(rng, textures)))
    for _ in range(int(rng.integers(0, 4))):  # knobs, lenses, lids
        knob = sphere(10, 17).scaled(*(rng.uniform(0.1, 0.4, 3)))
        place = rng.uniform(-0.6, 0.6, 3) * size
        place[2] = size[2]
        thing.append((knob.moved(place), any_paint(rng, textures)))
    return thing


def lump(rng: np.random.Generator, textures: Textures) -> Thing:
    """A bush, a stone, a heap of cloth, a cushion, a wig of leaves."""
    solid = rough(sphere(30, 49), rng, float(rng.uniform(0.1, 0.5)), float(rng.uniform(2, 7)))
    kinds = ("Grass", "Moss", "Rock", "Fabric", "ScatteredLeaves", "Bark", "ThatchedRoof", "Carpet")
    paint = any_paint(rng, textures, *kinds, plain=0.2)
    paint = replace(paint, fur=float(rng.choice((0, 0.6))))
    return [(solid.scaled(*rng.uniform(0.6, 1.3, 3)), paint)]


def furniture(rng: np.random.Generator, textures: Textures) -> Thing:
    """Boxes and poles: chairs, shelves, signs, machines."""
    thing: Thing = []
    paints = [any_paint(rng, textures) for _ in range(3)]
    for _ in range(int(rng.integers(2, 8))):
        size = np.exp(rng.uniform(np.log(0.06), np.log(1.2), 3))
        place = rng.uniform(-1, 1, 3)
        if rng.random() < 0.5:
            solid = rounded_box(float(rng.choice((0.12, 0.3)))).scaled(*size)
        else:
            solid = cylinder(float(rng.uniform(0.4, 1))).scaled(size[0], 2 * size[1], size[0])
        thing.append((solid.moved(place), paints[int(rng.integers(3))]))
    return thing


def post(rng: np.random.Generator, textures: Textures) -> Thing:
    """A round or square thing on a pole or on shoulder-like feet, as lamps and signs are."""
    top = (ball, box, wheel, vessel, lump)[int(rng.integers(5))](rng, textures)
    highest = max(float(solid.vertices[:, 1].max()) for solid, _ in top)
    width = float(np.exp(rng.uniform(np.log(0.06), np.log(0.4))))
    length = float(rng.uniform(0.3, 3))
    pole = cylinder().scaled(width, length / 2, width).moved((0, highest - 0.1 + length / 2, 0))
    paint = any_paint(rng, textures)
    thing = [*top, (pole, paint)]
    if rng.random() < 0.6:
        foot = rounded_box(float(rng.uniform(0.3, 1))).scaled(
            *rng.uniform((0.5, 0.2, 0.4), (2.2, 1, 1))
        )
        thing.append((foot.moved((0, highest + length, 0)), any_paint(rng, textures, "Fabric")))
    return thing


def flower(rng: np.random.Generator, textures: Textures) -> Thing:
    petals, paint = int(rng.integers(5, 16)), any_paint(rng, textures, plain=0.8)
    thing: Thing = [(sphere().scaled(0.4, 0.4, 0.2), any_paint(rng, textures))]
    for petal in range(petals):
        leaf = sphere(10, 17).scaled(0.2, 0.55, 0.06).moved((0, -0.8, 0))
        thing.append((leaf.turned(z=360 * petal / petals), paint))
    stem = tube(np.linspace((0, 0, -0.1), (0.3, 3, -0.2), 5), np.full(5, 0.06))
    return [*thing, (stem, Paint(np.asarray(linear((60, 110, 40)), np.float32)))]


def vehicle(rng: np.random.Generator, textures: Textures) -> Thing:
    paint, glass = (
        any_paint(rng, textures, "Metal", plain=0.9),
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
        thing.append((lamp.moved((0.7 * x, 0, 2)), any_paint(rng, textures)))
    return thing
