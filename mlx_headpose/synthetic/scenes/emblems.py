"""Badges, patches, prints and signs: round and colourful as faces are, and no heads."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

_SIDE = 128  # pixels that an emblem is drawn with
_SHADING = 0.25  # heads: light and folds of the cloth that are larger than this are kept


def emblem(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """An (RGBA) emblem: a disc, plate or shield with a border and shapes on it, or a bare print."""
    points = _outline(rng)
    outline = _filled(points)
    picture = Image.new("RGB", outline.size, _colour(rng))
    shapes = ImageDraw.Draw(picture)
    inside = outline
    border = float(rng.choice((0, 0.08, 0.15, 0.3)))
    if border:
        inside = _filled((1 - border) * points)
        picture.paste(_colour(rng), (0, 0, _SIDE, _SIDE), inside)
    plain = picture.copy()
    drawn = Image.new("L", outline.size)
    marks = ImageDraw.Draw(drawn)
    for _ in range(int(rng.integers(1, 9))):
        _shape(shapes, marks, rng)
    if border:  # shapes stay within it
        picture = Image.composite(picture, plain, inside)
    alpha = outline
    if rng.random() < 0.2:  # a print without a ground
        alpha = ImageChops.multiply(outline, drawn)
    picture.putalpha(alpha)
    if width * height < 2 * _SIDE * _SIDE:
        return picture.resize((width, height), Image.Resampling.BOX)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def print_on_cloth(
    picture: Image.Image,
    cloth: np.ndarray,
    middle: np.ndarray,
    down: np.ndarray,
    side: float,
    rng: np.random.Generator,
) -> None:
    """Put one to three emblems on what a person of a scene wears.

    Args:
        picture: the scene.
        cloth: (H, W) bool, where the person's clothes are seen.
        middle: x and y of the middle of the head.
        down: unit vector from there to the chest.
        side: size of the head in pixels.
        rng: random numbers.
    """
    across = np.array((down[1], -down[0]))
    angle = float(np.degrees(np.arctan2(-down[0], down[1])))
    for _ in range(int(rng.integers(1, 4))):
        width = side * np.exp(rng.uniform(np.log(0.15), np.log(1.1)))
        height = width * rng.uniform(0.7, 1.3)
        place = middle + side * (rng.uniform(0.9, 2.4) * down + rng.uniform(-0.9, 0.9) * across)
        badge = emblem(max(int(width), 2), max(int(height), 2), rng).rotate(
            -angle, Image.Resampling.BILINEAR, expand=True
        )
        left, top = (place - np.array(badge.size) / 2).astype(int)
        box = (left, top, left + badge.width, top + badge.height)
        seen = Image.fromarray(cloth).crop(box)
        if seen.getbbox() is None:
            continue
        below = picture.crop(box)
        grey = np.asarray(below.convert("L"), np.float32)
        smooth = below.convert("L").filter(ImageFilter.BoxBlur(_SHADING * side))
        light = (grey + 8) / (np.asarray(smooth, np.float32) + 8)
        colours = np.asarray(badge.convert("RGB")) * np.clip(light, 0.5, 1.4)[..., None]
        alpha = ImageChops.multiply(badge.getchannel("A"), seen.convert("L"))
        painted = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
        picture.paste(painted, (left, top), alpha)


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    if rng.random() < 0.3:  # black, white and grey are common
        return (int(rng.choice((10, 128, 245))),) * 3
    return tuple(int(v) for v in rng.integers(0, 256, 3))


def _filled(points: np.ndarray) -> Image.Image:
    """(L) image of a polygon in −1..1."""
    image = Image.new("L", (_SIDE, _SIDE))
    corners = (_SIDE - 1) / 2 * (1 + points)
    ImageDraw.Draw(image).polygon([tuple(p) for p in corners.tolist()], fill=255)
    return image


def _outline(rng: np.random.Generator) -> np.ndarray:
    """(48, 2) corners, in −1..1, of a disc, a rounded plate, or a shield that is pointed below."""
    turn = np.linspace(0, 2 * np.pi, 49)[:-1]
    kind = rng.random()
    power = 1.0 if kind < 0.55 else rng.uniform(0.2, 0.6)  # a superellipse
    x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    if kind > 0.85:
        x = x * (1 - 0.5 * np.clip(y, 0, 1) ** 2)
    return np.stack((x, y), 1)


def _shape(
    shapes: ImageDraw.ImageDraw, marks: ImageDraw.ImageDraw, rng: np.random.Generator
) -> None:
    """A disc, ring, polygon, stripe or row of letters in one colour; `marks` gets it in white."""
    colour, thick = _colour(rng), int(rng.integers(2, 16))
    x, y = rng.uniform(0.1, 0.9, 2) * _SIDE
    half = _SIDE * np.exp(rng.uniform(np.log(0.04), np.log(0.45)))
    box = (x - half, y - half, x + half, y + half * rng.uniform(0.3, 1))
    if box[3] <= box[1]:
        return
    kind = int(rng.integers(5))
    corners = [tuple(p) for p in ((x, y) + half * rng.normal(0, 1, (int(rng.integers(3, 8)), 2)))]
    stripe = [tuple(p) for p in rng.uniform(-0.2, 1.2, (2, 2)) * _SIDE]
    letters = [
        [(x - half + n * half / 3, y), (x - half + (n + rng.uniform(0, 0.7)) * half / 3, y + up)]
        for n, up in enumerate(rng.uniform(-0.4, 0.4, int(rng.integers(2, 8))) * half)
    ]
    for draw, fill in ((shapes, colour), (marks, 255)):
        if kind == 0:
            draw.ellipse(box, fill=fill)
        elif kind == 1:
            draw.ellipse(box, outline=fill, width=thick)
        elif kind == 2:
            draw.polygon(corners, fill=fill)
        elif kind == 3:
            draw.line(stripe, fill=fill, width=thick)
        else:
            for letter in letters:
                draw.line(letter, fill=fill, width=max(2, thick // 3))
