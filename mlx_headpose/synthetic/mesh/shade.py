"""Light on the head model: lamps with cast shadows, skin that lets light through, shining hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..light import Light, draw_tint, facing, highlight
from .occlusion import depth_map, towards
from .paint import DOUBLE, Material

_CELLS, _HALF = 72, 240.0


@dataclass(frozen=True)
class Lamps:
    """Further lamps, without shadows.

    Attributes:
        directions: (L, 3) towards each.
        colours: (L, 3).
    """

    directions: np.ndarray
    colours: np.ndarray


def draw_lamps(rng: np.random.Generator, light: Light) -> Lamps:
    """None, one or two weaker lamps beside the main one."""
    count = int(rng.choice(3, p=(0.45, 0.4, 0.15)))
    azimuth, elevation = np.radians(rng.uniform((-160, -20), (160, 70), (count, 2))).T
    directions = np.stack(
        (
            np.sin(azimuth) * np.cos(elevation),
            -np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ),
        -1,
    ).astype(np.float32)
    colours = [light.lamp * rng.uniform(0.15, 0.7) * draw_tint(rng, 0.12) for _ in range(count)]
    return Lamps(directions, np.reshape(colours, (count, 3)).astype(np.float32))


def shadows(vertices: np.ndarray, triangles: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(V,) share of the lamp that reaches each vertex."""
    nearest, placed = depth_map(vertices, triangles, towards(direction), _CELLS, _HALF)
    reached = np.zeros(len(vertices), np.float32)
    for across in (-0.8, 0.8):
        for down in (-0.8, 0.8):
            column = np.clip(placed[:, 0] + across, 0, _CELLS - 1).astype(np.intp)
            row = np.clip(placed[:, 1] + down, 0, _CELLS - 1).astype(np.intp)
            reached += np.clip(2.5 - (nearest[row, column] - placed[:, 2]) / 6, 0, 1)
    return reached / 4


def shade(
    attributes: np.ndarray,
    albedo: np.ndarray,
    gloss: np.ndarray,
    material: np.ndarray,
    light: Light,
    lamps: Lamps,
) -> np.ndarray:
    """(3, P) float32 colours 0..255 of fragments.

    Args:
        attributes: (5 or more, P): normal, share of the sky, share of the lamp's light.
        albedo: (3, P); gloss and material: (P,).
        light, lamps: what shines.
    """
    x, y, z = attributes[:3]
    scale = 1 / (np.sqrt(x * x + y * y + z * z) + 1e-6)
    back = (z < 0) & np.isin(material, DOUBLE)
    scale = np.where(back, -scale, scale)
    x, y, z = x * scale, y * scale, z * scale
    sky, reached = attributes[3], attributes[4]
    skin = (material == Material.SKIN).astype(np.float32)

    normals = (x, y, z)
    towards_lamp = facing(normals, light.direction)
    above = (0.5 - 0.5 * y) * sky
    below = sky - above
    shine = highlight(normals, light.direction)
    glint = shine.copy()
    eye = np.flatnonzero(material == Material.EYE)
    glint[eye] = 2 * shine[eye] ** 12
    glint *= reached * gloss * (0.3 + 0.7 * sky)
    rim = np.maximum(1 - z, 0)
    rim *= rim * rim * sky
    others = [
        np.maximum(0.9 * facing(normals, d) + 0.1, 0) * (0.2 + 0.8 * sky) for d in lamps.directions
    ]
    colour = np.empty_like(albedo)
    # Red light travels furthest under the skin: shadows have red edges.
    exposure = np.float32(light.exposure)
    for channel, spread in ((1, 0.12), (0, 0.24), (2, 0.09)):
        wrap = spread * skin + 0.06
        lamp = np.maximum((towards_lamp + wrap) / (1 + wrap), 0)
        lamp *= reached + (1 - reached) * spread * 0.4 * skin
        lamp *= 0.35 + 0.65 * sky
        light_on = lamp * light.lamp[channel]
        light_on += above * light.above[channel]
        light_on += below * light.below[channel]
        for other, tint in zip(others, lamps.colours, strict=True):
            light_on += other * tint[channel]
        if light.rim[channel]:
            light_on += rim * light.rim[channel]
        if channel == 1:
            # A photographer exposes for the skin, most of the way.
            on_skin = float(light_on @ skin) / max(float(skin.sum()), 1.0)
            exposure *= np.float32((0.62 / max(on_skin, 0.05)) ** 0.8)
        light_on *= albedo[channel]
        light_on += glint * light.lamp[channel]
        light_on += 0.035 * gloss * rim * (light.above[channel] + light.lamp[channel])
        light_on *= exposure
        colour[channel] = light_on
    np.sqrt(np.maximum(colour, 0), out=colour)
    # A soft shoulder instead of burnt-out highlights.
    high = np.maximum(colour - np.float32(0.65), 0)
    colour -= high
    high /= 1 + high * np.float32(2.2)
    colour += high
    np.minimum(colour, 1, out=colour)
    colour *= 255
    return colour
