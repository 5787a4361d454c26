"""How the surfaces of things look: plain, textured, patterned, furry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..grid import smooth_noise
from ..person import linear
from .solids import Solid
from .textures import Textures


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


def any_colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour, at times grey, dark or like skin or wood."""
    kind = rng.random()
    if kind < 0.35:
        rgb = rng.uniform(0, 255, 3)
    elif kind < 0.65:
        rgb = np.full(3, rng.uniform(5, 250)) + rng.normal(0, 8, 3)
    else:
        rgb = np.array((200, 150, 120)) * rng.uniform(0.15, 1.2) + rng.normal(0, 18, 3)
    return np.asarray(linear(np.clip(rgb, 2, 255)), np.float32)


def any_paint(
    rng: np.random.Generator, textures: Textures, *kinds: str, plain: float = 0.4
) -> Paint:
    """Any paint: plain with a chance of `plain`, or textured."""
    gloss = float(rng.choice((0.0, 0.05, 0.3, 0.8)))
    if rng.random() < plain:
        return Paint(any_colour(rng), gloss=gloss)
    texture = np.asarray(textures.some(rng, *kinds), np.float32) / 255
    tint = np.ones(3, np.float32)
    if rng.random() < 0.4:
        tint = 2 * any_colour(rng)
    repeat = float(np.exp(rng.uniform(np.log(0.4), np.log(6))))
    return Paint(np.minimum(tint, 2), texture**2, (repeat, repeat), gloss)


def any_pattern(rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
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


def any_coat(rng: np.random.Generator) -> tuple[Paint, Paint]:
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
        coat = replace(coat, pattern=any_pattern(rng), second=any_colour(rng))
    other = Paint(np.asarray(base * rng.uniform(0.3, 2.2), np.float32), gloss=0.02, fur=fur)
    return coat, other
