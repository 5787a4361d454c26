"""What lies before a rendered head: hands, and things of a hand's size."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SHARE = 0.16  # of the pictures


def clipped(colour: np.ndarray) -> tuple[int, ...]:
    """A (3,) colour 0..255 as Pillow's drawing takes it."""
    return tuple(int(v) for v in np.clip(colour, 0, 255))


def occlude(picture: Image.Image, skin: np.ndarray, rng: np.random.Generator) -> None:
    """At times paint something over an RGB picture.

    Args:
        picture: changed in place.
        skin: (3,) albedo of the person's skin.
        rng: random numbers that do not know where the head is.
    """
    kind = rng.random() / SHARE
    if kind < 0.5:
        tone = skin if rng.random() < 0.7 else skin * rng.uniform(0.3, 1.3)
        hand(picture, np.sqrt(tone) * 255 * rng.uniform(0.5, 1.1), rng)
    elif kind < 0.7:
        thing(picture, rng)
    elif kind < 0.85:
        bars(picture, rng)
    elif kind < 1:
        letters(picture, rng)


def hand(picture: Image.Image, colour: np.ndarray, rng: np.random.Generator) -> None:
    """Fingers side by side, at times with the back of the hand, shaded as round things."""
    side = picture.width
    thick = rng.uniform(0.022, 0.042) * side  # a finger's radius
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array((np.cos(angle), np.sin(angle)))
    across = np.array((-along[1], along[0]))
    knuckle = rng.uniform(0.1, 0.9, 2) * side
    spread, bent = rng.uniform(-0.12, 0.25), rng.uniform(-0.5, 0.5)
    pieces = []
    if rng.random() < 0.7:  # the back of the hand, then the arm
        middle = knuckle + across * 3 * thick
        wrist = middle - along * thick * 8
        pieces.append((middle - along * 4 * thick, wrist, 3.6 * thick))
        pieces.append((wrist, wrist - along * side, 3.0 * thick))
    for finger in range(int(rng.integers(1, 5))):
        ray = along + across * spread * (finger - 1.5)
        start = knuckle + across * finger * 2 * thick
        joint = start + ray * thick * rng.uniform(2.5, 3.5)
        tip = joint + (ray + across * bent) * thick * rng.uniform(2.5, 4)
        pieces += [(start - along * 3 * thick, joint, thick), (joint, tip, 0.9 * thick)]
    light = rng.normal(0, 1, 2)
    light /= np.linalg.norm(light) + 1e-6
    pixels = np.asarray(picture).copy()
    for start, end, radius in pieces:
        _capsule(pixels, start, end, radius, colour, light)
    picture.paste(Image.fromarray(pixels))


def _capsule(
    pixels: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    radius: float,
    colour: np.ndarray,
    light: np.ndarray,
) -> None:
    """Draw a round stick between two points, lit from the (2,) direction `light`."""
    side = len(pixels)
    low = np.clip(np.floor(np.minimum(start, end) - radius), 0, side).astype(int)
    high = np.clip(np.ceil(np.maximum(start, end) + radius) + 1, 0, side).astype(int)
    if (high <= low).any():
        return
    x = np.arange(low[0], high[0], dtype=np.float32) - np.float32(start[0])
    y = (np.arange(low[1], high[1], dtype=np.float32) - np.float32(start[1]))[:, None]
    dx, dy = (end - start).astype(np.float32)
    t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy + np.float32(1e-6)), 0, 1)
    x, y = (x - t * dx) / np.float32(radius), (y - t * dy) / np.float32(radius)
    apart = x * x + y * y
    facing = np.sqrt(np.maximum(1 - apart, 0))
    lit = 0.45 + 0.4 * facing + 0.25 * (x * np.float32(light[0]) + y * np.float32(light[1]))
    cover = np.clip((1 - np.sqrt(apart)) * np.float32(radius), 0, 1)[..., None]
    part = pixels[low[1] : high[1], low[0] : high[0]]
    shaded = np.clip(lit[..., None] * colour.astype(np.float32), 0, 255)
    part[:] = (part + cover * (shaded - part)).astype(np.uint8)


def thing(picture: Image.Image, rng: np.random.Generator) -> None:
    """A phone, cup, book, ball or microphone: a turned patch with a texture of its own."""
    side = picture.width
    width, height = (rng.uniform(0.1, 0.4, 2) * side).astype(int) + 2
    base = rng.uniform(0, 255) + rng.normal(0, 30, 3)
    cells = rng.normal(0, rng.uniform(3, 40), (*rng.integers(1, 9, 2), 1))
    texture = np.clip(base + cells + rng.normal(0, 8, 3), 0, 255).astype(np.uint8)
    smooth = Image.Resampling.BICUBIC if rng.random() < 0.6 else Image.Resampling.NEAREST
    patch = Image.fromarray(texture).resize((int(width), int(height)), smooth)
    mask = Image.new("L", patch.size)
    draw = ImageDraw.Draw(mask)
    if rng.random() < 0.6:
        draw.rectangle((0, 0, width, height), fill=255)
    else:
        draw.ellipse((0, 0, width, height), fill=255)
    angle = float(rng.uniform(0, 360))
    patch = patch.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    mask = mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    x, y = (rng.uniform(-0.1, 0.9, 2) * side).astype(int)
    picture.paste(patch, (int(x), int(y)), mask)


def bars(picture: Image.Image, rng: np.random.Generator) -> None:
    """Branches, cables, loose strands of hair, the edge of something."""
    draw, side = ImageDraw.Draw(picture), picture.width
    colour = clipped(rng.uniform(0, 255) * rng.uniform(0.5, 1) + rng.normal(0, 20, 3))
    widest = side * (0.012 if rng.random() < 0.6 else 0.12)
    for _ in range(int(rng.integers(1, 7))):
        ends = rng.uniform(-0.1, 1.1, 4) * side
        draw.line(tuple(ends), fill=colour, width=max(1, int(rng.uniform(0.2, 1) * widest)))


def letters(picture: Image.Image, rng: np.random.Generator) -> None:
    """A line of strokes, as writing that is laid over a picture."""
    draw, side = ImageDraw.Draw(picture), picture.width
    size = rng.uniform(0.03, 0.1) * side
    colour = clipped(rng.choice((0, 255)) + rng.normal(0, 40, 3))
    x, y = rng.uniform(0, 0.5) * side, rng.uniform(0.05, 0.95) * side
    for _ in range(int(rng.integers(4, 16))):
        corners = rng.uniform(0, 1, (3, 2)) * (0.6 * size, size) + (x, y)
        draw.line([tuple(c) for c in corners], fill=colour, width=max(1, int(size / 7)))
        x += 0.8 * size
