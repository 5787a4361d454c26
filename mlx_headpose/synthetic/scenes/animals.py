"""Animals, and hands without a body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from ..person import linear
from .paints import Paint, Thing, any_coat, any_colour, any_paint
from .solids import (
    Solid,
    cylinder,
    rough,
    rounded_box,
    sphere,
    tube,
)
from .textures import Textures


def animal(rng: np.random.Generator, textures: Textures) -> Thing:
    """Four legs, a body, and a head with a snout, ears and eyes."""
    coat, other = any_coat(rng)
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


def bird(rng: np.random.Generator, textures: Textures) -> Thing:
    coat, other = any_coat(rng)
    coat = replace(coat, colour=any_colour(rng))
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


def hand(rng: np.random.Generator, textures: Textures) -> Thing:
    skin = np.asarray(linear(np.array((226, 184, 158)) * rng.uniform(0.25, 1.05)), np.float32)
    paint = Paint(skin, gloss=0.08)
    if rng.random() < 0.2:
        paint = any_paint(rng, textures, "Fabric")  # a glove
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
        thing.append((arm, paint if rng.random() < 0.5 else any_paint(rng, textures, "Fabric")))
    return thing
