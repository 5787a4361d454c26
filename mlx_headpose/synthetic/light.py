"""Light on the head: a lamp that casts shadows, light from all around, a rim from behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shape import head_model


@dataclass(frozen=True)
class Light:
    """A lamp or sun, and light from all around that changes from above to below.

    Attributes:
        direction: (3,) towards the lamp.
        lamp, above, below: (3,) colours.
        rim: (3,) colour of a light from behind.
        exposure: multiplies everything.
    """

    direction: np.ndarray
    lamp: np.ndarray
    above: np.ndarray
    below: np.ndarray
    rim: np.ndarray
    exposure: float


def draw_tint(rng: np.random.Generator, strength: float) -> np.ndarray:
    """(3,) colour near white, warmer or cooler."""
    warm = rng.normal(0, strength)
    green = rng.normal(0, strength / 3)
    return np.exp(np.array([warm, green, -warm])).astype(np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw one, anywhere in front of or above the head."""
    azimuth, elevation = np.radians(rng.uniform(-110, 110)), np.radians(rng.uniform(-15, 75))
    direction = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            -np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    ambient = rng.uniform(0.12, 0.7)
    rim = rng.uniform(0, 0.5) if rng.random() < 0.35 else 0.0
    return Light(
        direction.astype(np.float32),
        (1 - 0.6 * ambient) * 1.3 * draw_tint(rng, 0.09),
        ambient * draw_tint(rng, 0.09),
        ambient * rng.uniform(0.3, 0.9) * draw_tint(rng, 0.08),
        rim * draw_tint(rng, 0.1),
        float(np.exp(rng.normal(0.15, 0.3))),
    )


def shadows(vertices: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(V,) share of the lamp that reaches each vertex: seen from the lamp, is another before it?"""
    across = np.cross(direction, np.array([0.0, 1.0, 0.1]))
    across /= np.linalg.norm(across)
    up = np.cross(direction, across)
    axes = np.stack((across, up, direction), -1).astype(np.float32)
    seen = vertices @ axes
    cells = 48
    place = np.clip((seen[:, :2] + 150) * (cells / 300), 0, cells - 1).astype(np.intp)
    cell = place[:, 0] * cells + place[:, 1]
    nearest = np.full(cells * cells, -1e9, np.float32)
    np.maximum.at(nearest, cell, seen[:, 2])
    reached = 1 - np.clip((nearest[cell] - seen[:, 2] - 14) / 12, 0, 1)
    # The head's vertices, which come first, form a grid: soften the shadows' edges over it.
    head = reached[: head_model().occlusion.size].reshape(head_model().occlusion.shape)
    for _ in range(2):
        head[1:-1] = 0.5 * head[1:-1] + 0.25 * (head[2:] + head[:-2])
        head[:, 1:-1] = 0.5 * head[:, 1:-1] + 0.25 * (head[:, 2:] + head[:, :-2])
    return reached


Normals = tuple[np.ndarray, np.ndarray, np.ndarray]


def facing(normals: Normals, direction: np.ndarray) -> np.ndarray:
    """Cosines between unit normals x, y, z, (P,) each, and a (3,) direction."""
    x, y, z = normals
    return x * direction[0] + y * direction[1] + z * direction[2]


def highlight(normals: Normals, direction: np.ndarray) -> np.ndarray:
    """(P,) how much of a lamp in that direction is mirrored to the viewer (Blinn's model)."""
    half = direction + np.array([0, 0, 1], np.float32)
    shine = np.maximum(facing(normals, half / (np.linalg.norm(half) + 1e-6)), 0)
    for _ in range(4):
        shine *= shine
    return shine


def shade(
    attributes: np.ndarray, albedo: np.ndarray, gloss: np.ndarray, light: Light
) -> np.ndarray:
    """(3, P) float32 colours 0..255 of fragments.

    Pshards of one channel each are several times faster in numpy than rows of three.

    Args:
        attributes: (5 or more, P): normal, occlusion, share of the lamp's light.
        albedo: (3, P); gloss: (P,).
        light: what shines.
    """
    x, y, z = attributes[:3]
    scale = 1 / (np.sqrt(x * x + y * y + z * z) + 1e-6)
    x, y, z = x * scale, y * scale, z * scale
    occlusion, reached = attributes[3], attributes[4]

    normals = (x, y, z)
    lamp = np.maximum(0.9 * facing(normals, light.direction) + 0.1, 0)
    lamp *= reached * (0.4 + 0.6 * occlusion)
    above = (0.5 - 0.5 * y) * occlusion
    below = occlusion - above
    shine = highlight(normals, light.direction)
    shine *= reached * gloss
    colour = np.empty_like(albedo)
    for channel in range(3):
        light_on = lamp * light.lamp[channel]
        light_on += above * light.above[channel]
        light_on += below * light.below[channel]
        if light.rim[channel]:
            light_on += np.clip(1 - z, 0, 1) ** 3 * light.rim[channel]
        light_on *= albedo[channel]
        light_on += shine * light.lamp[channel]
        light_on *= light.exposure
        colour[channel] = light_on
    np.sqrt(colour, out=colour)
    # A soft shoulder instead of burnt-out highlights.
    np.minimum(colour, 0.7 + 0.3 * colour, out=colour)
    np.minimum(colour, 1, out=colour)
    colour *= 255
    return colour
