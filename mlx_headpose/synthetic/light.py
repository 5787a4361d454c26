"""Light on a person: lamps, light from all around, a rim from behind, and how surfaces take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .material import Material


@dataclass(frozen=True)
class Light:
    """A lamp or sun, and light from all around that changes from above to below.

    Attributes:
        direction: (3,) towards the lamp.
        lamp, above, below: (3,) colours.
        rim: (3,) colour of a light from behind.
        exposure: factor of everything.
        others: (direction, colour) of further lamps, which cast no shadows; (3,) each.
    """

    direction: np.ndarray
    lamp: np.ndarray
    above: np.ndarray
    below: np.ndarray
    rim: np.ndarray
    exposure: float
    others: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


@dataclass(frozen=True)
class Finish:
    """How the surfaces of a person take light.

    Attributes:
        cosine, wrap: weights of a lamp's angle and of a constant, so that light reaches somewhat
            beyond the edge of the shadow.
        spread: (3,) how far red, green and blue go on under the skin.
        crevice: share of the lamp's light where nothing of the sky is seen.
        glint: the same of mirrored light.
        rim: greatest strength of the rim's light.
        rim_hidden: whether crevices get less of it.
        sheen: mirrored light at grazing angles.
        metering: how far the exposure follows the skin's brightness, 0..1.
        shoulder: brightness 0..1 from which highlights roll off.
    """

    cosine: float
    wrap: float
    spread: tuple[float, float, float]
    crevice: float
    glint: float
    rim: float
    rim_hidden: bool
    sheen: float
    metering: float
    shoulder: float


def sample_tint(rng: np.random.Generator, strength: float) -> np.ndarray:
    """(3,) colour near white, warmer or cooler."""
    warm = rng.normal(0, strength)
    green = rng.normal(0, strength / 3)
    return np.exp(np.array([warm, green, -warm])).astype(np.float32)


def towards(azimuth: np.ndarray | float, elevation: np.ndarray | float) -> np.ndarray:
    """(..., 3) unit vectors of directions in radians, 0 to the viewer, elevation upwards."""
    level = np.cos(elevation)
    vector = np.sin(azimuth) * level, -np.sin(elevation), np.cos(azimuth) * level
    return np.stack(np.broadcast_arrays(*vector), -1)


def sample_light(rng: np.random.Generator) -> Light:
    """A random light, from anywhere in front of or above the head."""
    azimuth, elevation = np.radians(rng.uniform(-110, 110)), np.radians(rng.uniform(-15, 75))
    ambient = rng.uniform(0.12, 0.7)
    rim = rng.uniform(0, 0.5) if rng.random() < 0.35 else 0.0
    return Light(
        towards(azimuth, elevation).astype(np.float32),
        (1 - 0.6 * ambient) * 1.3 * sample_tint(rng, 0.09),
        ambient * sample_tint(rng, 0.09),
        ambient * rng.uniform(0.3, 0.9) * sample_tint(rng, 0.08),
        rim * sample_tint(rng, 0.1),
        float(np.exp(rng.normal(0.15, 0.3))),
    )


def sample_lamps(
    rng: np.random.Generator, light: Light
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """None, one or two weaker lamps beside the main one, see `Light.others`."""
    count = int(rng.choice(3, p=(0.45, 0.4, 0.15)))
    azimuth, elevation = np.radians(rng.uniform((-160, -20), (160, 70), (count, 2))).T
    directions = towards(azimuth, elevation).astype(np.float32)
    colours = [light.lamp * rng.uniform(0.15, 0.7) * sample_tint(rng, 0.12) for _ in range(count)]
    return tuple((d, c.astype(np.float32)) for d, c in zip(directions, colours, strict=True))


def shade(
    attributes: np.ndarray,
    albedo: np.ndarray,
    gloss: np.ndarray,
    material: np.ndarray,
    light: Light,
    finish: Finish,
) -> np.ndarray:
    """(3, P) float32 colours 0..255 of visible points.

    Planes of one channel each are several times faster in numpy than rows of three.

    Args:
        attributes: (5 or more, P): normal, share of the sky, share of the lamp's light.
        albedo: (3, P); gloss and material: (P,).
        light: what shines.
        finish: how the surfaces take it.
    """
    x, y, z = attributes[:3]
    scale = 1 / (np.sqrt(x * x + y * y + z * z) + 1e-6)
    normals = x, y, z = x * scale, y * scale, z * scale
    sky, reached = attributes[3], attributes[4]
    skin = (material == Material.SKIN).astype(np.float32)

    towards_lamp = _cosines(normals, light.direction)
    above = (0.5 - 0.5 * y) * sky
    below = sky - above
    glint = _mirrored(normals, light.direction)
    eye = np.flatnonzero(material == Material.EYE)
    glint[eye] = 2 * glint[eye] ** 12
    glint *= reached * gloss * (finish.glint + (1 - finish.glint) * sky)
    rim = np.clip(1 - z, 0, finish.rim)
    rim *= rim * rim * (sky if finish.rim_hidden else 1)
    others = [
        (np.maximum(0.9 * _cosines(normals, direction) + 0.1, 0) * (0.2 + 0.8 * sky), colour)
        for direction, colour in light.others
    ]
    exposure = np.float32(light.exposure)
    colour = np.empty_like(albedo)
    for channel in (1, 0, 2):  # green first, which is metered
        # Red light goes furthest under the skin: shadows have red edges.
        spread = finish.spread[channel]
        wrap = spread * skin + finish.wrap
        lamp = np.maximum((finish.cosine * towards_lamp + wrap) / (finish.cosine + wrap), 0)
        lamp *= reached + (1 - reached) * spread * 0.4 * skin
        lamp *= finish.crevice + (1 - finish.crevice) * sky
        light_on = lamp * light.lamp[channel]
        light_on += above * light.above[channel]
        light_on += below * light.below[channel]
        for other, tint in others:
            light_on += other * tint[channel]
        if light.rim[channel]:
            light_on += rim * light.rim[channel]
        if channel == 1 and finish.metering:
            # A photographer exposes for the skin, most of the way.
            on_skin = float(light_on @ skin) / max(float(skin.sum()), 1.0)
            exposure *= np.float32((0.62 / max(on_skin, 0.05)) ** finish.metering)
        light_on *= albedo[channel]
        light_on += glint * light.lamp[channel]
        if finish.sheen:
            light_on += finish.sheen * gloss * rim * (light.above[channel] + light.lamp[channel])
        light_on *= exposure
        colour[channel] = light_on
    np.sqrt(np.maximum(colour, 0), out=colour)
    high = np.maximum(colour - np.float32(finish.shoulder), 0)
    colour -= high
    high /= 1 + high * np.float32(2.2)
    colour += high
    np.minimum(colour, 1, out=colour)
    colour *= 255
    return colour


def _cosines(normals: tuple[np.ndarray, ...], direction: np.ndarray) -> np.ndarray:
    """(P,) cosines between unit normals x, y, z, (P,) each, and a (3,) direction."""
    x, y, z = normals
    return x * direction[0] + y * direction[1] + z * direction[2]


def _mirrored(normals: tuple[np.ndarray, ...], direction: np.ndarray) -> np.ndarray:
    """(P,) share of a lamp in that direction that is mirrored to the viewer (Blinn's model)."""
    half = direction + np.array([0, 0, 1], np.float32)
    shine = np.maximum(_cosines(normals, half / (np.linalg.norm(half) + 1e-6)), 0)
    for _ in range(4):
        shine *= shine
    return shine
