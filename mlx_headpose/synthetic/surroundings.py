"""Backgrounds of rendered heads: backdrops, textures, patterns, blurred rooms, lights, people."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .occlusion import clipped
from .photo import natural


def background(side: int, rng: np.random.Generator) -> Image.Image:
    """Something behind the head, of `side` pixels, RGB."""
    kind = rng.choice(("backdrop", "room", "texture", "pattern"), p=(0.34, 0.32, 0.2, 0.14))
    work = 96 if kind == "room" else min(side, 160)
    field = {"backdrop": _gradient, "room": _cells, "texture": _clouds, "pattern": _pattern}[kind]
    canvas = ramp(field(work, rng), _palette(rng, kind == "backdrop"))
    if kind == "room" or rng.random() < 0.25:
        _shapes(canvas, rng)
    if kind != "backdrop" and rng.random() < 0.16:
        _people(canvas, rng)
    if kind == "room" and rng.random() < 0.25:
        _lights(canvas, rng)
    if rng.random() < {"backdrop": 0.5, "room": 0.8}.get(kind, 0.5):
        radius = work * np.exp(rng.uniform(np.log(0.005), np.log(0.08)))
        canvas = canvas.filter(ImageFilter.BoxBlur(float(radius)))
    return canvas.resize((side, side), Image.Resampling.BICUBIC)


def ramp(field: np.ndarray, colours: np.ndarray) -> Image.Image:
    """An RGB picture of a (H, W) field 0..1: (C, 3) colours 0..255, blended between."""
    at = np.linspace(0, 1, len(colours))
    table = [np.interp(np.linspace(0, 1, 256), at, channel) for channel in colours.T]
    grey = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    return Image.merge("RGB", [grey.point([int(v) for v in t]) for t in table])


def _palette(rng: np.random.Generator, backdrop: bool) -> np.ndarray:
    """(C, 3) colours that go together; a backdrop's are close, and often black or white."""
    kind = rng.random()
    if backdrop and kind < 0.4:
        base = rng.uniform(0, 30) * np.ones(3)
    elif backdrop and kind < 0.65:
        base = rng.uniform(205, 255) * np.ones(3)
    else:
        base = natural(rng) * rng.uniform(0.4, 1)
    spread = rng.uniform(3, 30) if backdrop else rng.uniform(15, 75)
    count = int(rng.integers(2, 5))
    chroma = rng.uniform(0, 0.6) * spread
    colours = base + rng.normal(0, spread, (count, 1)) + rng.normal(0, chroma, (count, 3))
    return np.clip(colours, 0, 255)


def _gradient(side: int, rng: np.random.Generator) -> np.ndarray:
    x = np.linspace(-1, 1, side, dtype=np.float32)
    if rng.random() < 0.4:
        cx, cy = rng.uniform(-1, 1, 2).astype(np.float32)
        return np.sqrt((x - cx) ** 2 + ((x - cy) ** 2)[:, None]) / 2.2
    angle = rng.uniform(0, 2 * np.pi)
    across = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * x[:, None]
    return 0.5 + 0.4 * across


def _cells(side: int, rng: np.random.Generator) -> np.ndarray:
    cells = int(rng.choice((2, 3, 4, 6, 10)))
    smooth = Image.Resampling.BICUBIC if rng.random() < 0.75 else Image.Resampling.NEAREST
    values = Image.fromarray(rng.random((cells, cells), np.float32))
    return np.asarray(values.resize((side, side), smooth))


def _clouds(side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of many sizes, as of leaves, walls, cloth or clouds."""
    rough = rng.uniform(0.35, 1.0)
    stretch = float(np.exp(rng.normal(0, 0.5)))
    total = np.zeros((side, side), np.float32)
    cells, weight, weights = int(rng.integers(2, 6)), 1.0, 0.0
    while cells < side:
        shape = max(2, int(cells * stretch)), cells
        noise = Image.fromarray(rng.standard_normal(shape, np.float32))
        smooth = Image.Resampling.BILINEAR
        total += np.float32(weight) * np.asarray(noise.resize((side, side), smooth))
        weights += weight * weight
        weight *= rough
        cells = int(cells * 2.2)
    return 0.5 + np.float32(0.3 / np.sqrt(weights)) * total


def _pattern(side: int, rng: np.random.Generator) -> np.ndarray:
    """Stripes, bricks, tiles, blinds or a net, perhaps uneven."""
    x = np.linspace(0, 1, side, dtype=np.float32)
    angle = rng.normal(0, 0.15) + rng.choice((0, np.pi / 2))
    u = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * x[:, None]
    v = np.float32(-np.sin(angle)) * x + np.float32(np.cos(angle)) * x[:, None]
    columns, rows = rng.uniform(2, 22, 2)
    kind = rng.integers(0, 4)
    if kind == 0:
        field = 0.5 + 0.5 * np.sin(2 * np.pi * columns * u)
    elif kind == 1:
        field = ((u * columns) % 1 > rng.uniform(0.1, 0.9)).astype(np.float32)
    elif kind == 2:  # bricks
        row = np.floor(v * rows)
        seam = rng.uniform(0.05, 0.2)
        brick = np.floor(u * columns / 2 + 0.5 * (row % 2))
        field = 0.5 + 0.4 * np.sin(brick * 12.9 + row * 78.2)
        gap = ((v * rows) % 1 < seam) | ((u * columns / 2 + 0.5 * (row % 2)) % 1 < seam / 2)
        field = np.where(gap, np.float32(rng.choice((0.0, 1.0))), field)
    else:
        field = 0.5 + 0.5 * np.sin(2 * np.pi * columns * u) * np.sin(2 * np.pi * rows * v)
    if rng.random() < 0.5:
        field = field + np.float32(rng.uniform(0.1, 0.5)) * (_clouds(side, rng) - 0.5)
    return field


def _shapes(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Furniture, frames, posts, letters: pieces of other colours."""
    draw, side = ImageDraw.Draw(canvas), canvas.width
    base = natural(rng)
    for _ in range(int(rng.integers(1, 10))):
        x, y = rng.uniform(-0.2, 1.2, 2) * side
        w, h = rng.uniform(0.03, 0.6, 2) * side
        colour = clipped(base + rng.normal(0, 50) if rng.random() < 0.6 else natural(rng))
        kind = rng.integers(0, 4)
        if kind == 0:
            draw.rectangle((x, y, x + w, y + h), fill=colour)
        elif kind == 1:
            draw.ellipse((x, y, x + w, y + w), fill=colour)
        elif kind == 2:
            x2, y2 = rng.uniform(-0.2, 1.2, 2) * side
            draw.line((x, y, x2, y2), fill=colour, width=int(rng.integers(1, max(2, side // 12))))
        else:
            corners = np.stack((x, y)) + rng.uniform(-0.3, 0.3, (int(rng.integers(3, 6)), 2)) * side
            draw.polygon([tuple(c) for c in corners], fill=colour)


def _people(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Others behind the head: shoulders, neck, face and hair as plain shapes."""
    draw, side = ImageDraw.Draw(canvas), canvas.width
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.1, 1.1) * side, rng.uniform(0.0, 0.9) * side
        size = rng.uniform(0.05, 0.2) * side
        tone = np.array((214, 165, 135)) * rng.uniform(0.3, 1.15)
        skin, hair = clipped(tone), clipped(rng.uniform(0.1, 0.9) * np.array((110, 85, 65)))
        cloth = clipped(natural(rng))
        draw.ellipse((x - 2.1 * size, y + 1.4 * size, x + 2.1 * size, y + 6 * size), fill=cloth)
        draw.rectangle((x - 0.4 * size, y + 0.6 * size, x + 0.4 * size, y + 1.8 * size), fill=skin)
        down = rng.uniform(0.2, 1.6) * size
        draw.ellipse((x - 1.1 * size, y - 1.4 * size, x + 1.1 * size, y + down), fill=hair)
        turn = rng.normal(0, 0.4) * size
        face = (x - 0.8 * size + turn, y - 0.9 * size, x + 0.8 * size + turn, y + 1.2 * size)
        draw.ellipse(face, fill=skin)
        for eye in (-0.35, 0.35):
            at = x + eye * size + turn
            draw.ellipse((at - 0.12 * size, y - 0.1 * size, at + 0.12 * size, y), fill=hair)


def _lights(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Lamps and gaps between leaves, out of focus."""
    draw, side = ImageDraw.Draw(canvas), canvas.width
    size = rng.uniform(0.02, 0.1) * side
    for _ in range(int(rng.integers(3, 18))):
        x, y = rng.uniform(0, side, 2)
        r = size * rng.uniform(0.7, 1.2)
        colour = clipped(rng.uniform(150, 255) + rng.normal(0, 35, 3))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
