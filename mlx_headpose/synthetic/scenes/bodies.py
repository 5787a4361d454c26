"""Clothed bodies below the shoulders of a scene's people: where a head may be is known by them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .textures import Textures

SOLID = 128  # opacity from which a pixel belongs to what is in front
_CLOTHS = ("Fabric", "Carpet", "Wallpaper", "Paper")
_SMOOTH, _BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
Point = tuple[float, float] | np.ndarray


def paint_body(
    picture: Image.Image,
    colours: Image.Image,
    alpha: Image.Image,
    corner: tuple[int, int],
    angle: float,
    side: float,
    textures: Textures,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Paint a body onto a scene, to be hidden in part by its person.

    Args:
        picture: the scene.
        colours, alpha: the person, head and shoulders.
        corner: x and y of the person's upper left corner in the scene.
        angle: the person's turn in degrees, clockwise.
        side: size of the head in pixels.
        textures: what clothes are made of.
        rng: random numbers.

    Returns:
        (H, W) bool of the scene's pixels that show the body, or None where it would show nothing.
    """
    opaque = np.asarray(alpha) >= SOLID
    rows = np.flatnonzero(opaque.any(1))
    if abs(angle) > 50 or len(rows) < 4:
        return None
    bottom = max(int(rows[-1] - 0.12 * side), 0)
    columns = np.flatnonzero(opaque[bottom])
    if len(columns) < 2:
        return None
    left, right = float(columns[0]), float(columns[-1])
    seen = np.asarray(colours)[bottom, columns[len(columns) // 4 :: 3]]
    cloth = seen.mean(0) if len(seen) else np.full(3, 120.0)
    middle = np.array(((left + right) / 2 + corner[0], bottom + corner[1]))
    half = 0.5 * min(right - left, 2.6 * side) / side
    body = _Body(picture.size, middle, angle, side)
    _limbs(body, half, cloth, rng)
    return body.paint(picture, textures, rng)


class _Body:
    """Shapes, each of one colour.

    Args:
        size: width and height of the scene.
        origin: middle of the shoulders' lower edge in the scene.
        angle: turn in degrees, clockwise.
        side: size of the head in pixels, the unit of all points.
    """

    def __init__(self, size: tuple[int, int], origin: np.ndarray, angle: float, side: float):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        self.turn = side * np.array(((c, s), (-s, c)))
        self.origin, self.side = origin, side
        self.parts = Image.new("L", size)
        self.draw = ImageDraw.Draw(self.parts)
        self.palette = [np.zeros(3)]
        self.woven = [False]

    def part(self, colour: np.ndarray, woven: bool = True) -> None:
        """Begin a part, of cloth or else of skin or leather."""
        self.palette.append(colour)
        self.woven.append(woven)

    def fill(self, *points: Point) -> None:
        """Fill a polygon."""
        placed = np.array(points) @ self.turn + self.origin
        self.draw.polygon([tuple(p) for p in placed.tolist()], fill=len(self.palette) - 1)

    def limb(self, start: Point, end: Point, wide: float, narrow: float) -> None:
        """Fill a limb from one joint to the next, round at both."""
        start, end = np.array(start, float), np.array(end, float)
        along = end - start
        across = np.array((-along[1], along[0])) / max(float(np.hypot(*along)), 1e-6)
        wider, narrower = wide * across, narrow * across
        self.fill(start + wider, end + narrower, end - narrower, start - wider)
        for joint, radius in ((start, wide), (end, narrow)):
            x, y = (joint @ self.turn + self.origin).tolist()
            r = radius * self.side
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=len(self.palette) - 1)

    def paint(
        self, picture: Image.Image, textures: Textures, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Paint all shapes, with folds, round, and woven."""
        box = self.parts.getbbox()
        if box is None:
            return None
        parts = np.asarray(self.parts.crop(box))
        height, width = parts.shape
        colour = np.array(self.palette, np.float32)[parts]
        there = Image.fromarray(np.where(parts > 0, 255, 0).astype(np.uint8))
        shade = _folds(width, height, self.side, rng) * _roundness(there, parts, self.side, rng)
        if rng.random() < 0.6:
            weave = _weave(textures, width, height, self.side, rng)
            colour = np.where(np.array(self.woven)[parts][..., None], colour * weave, colour)
        painted = np.clip(colour * shade[..., None], 0, 255).astype(np.uint8)
        soft = there.filter(ImageFilter.BoxBlur(0.6))
        picture.paste(Image.fromarray(painted), box[:2], soft)
        mask = np.zeros(picture.size[::-1], bool)
        mask[box[1] : box[3], box[0] : box[2]] = parts > 0
        return mask


def _limbs(body: _Body, half: float, cloth: np.ndarray, rng: np.random.Generator) -> None:
    """Legs, arms and a torso; lengths in head sizes."""
    own = rng.uniform(0, 200) + rng.normal(0, 25, 3)
    lower = cloth if rng.random() < 0.2 else np.clip(own, 0, 255)
    skin = np.array((200, 150, 125)) * rng.uniform(0.3, 1.1)
    hip, waist = half * rng.uniform(0.65, 1.05), half * rng.uniform(0.6, 1.0)
    torso, leg = rng.uniform(1.2, 1.9), rng.uniform(0.5, 1.8)
    bare_legs, bare_arms = rng.random() < 0.15, rng.random() < 0.5
    if rng.random() < 0.8:
        spread = rng.uniform(0, 0.5)
        for sign in (-1, 1):
            top = np.array((sign * 0.5 * hip, torso - 0.1))
            knee = top + np.array((sign * spread * rng.uniform(-0.3, 1), leg))
            foot = knee + np.array((sign * spread * rng.uniform(-0.5, 0.5), leg))
            body.part(lower * rng.uniform(0.75, 1.1))
            body.limb(top, knee, 0.5 * hip, 0.25)
            if bare_legs:
                body.part(skin, woven=False)
            body.limb(knee, foot, 0.22, 0.15)
            body.part(np.full(3, rng.uniform(10, 220)), woven=False)
            heel, toe = np.array((0, 0.08)), np.array((sign * rng.uniform(0, 0.3), 0.12))
            body.limb(foot + heel, foot + toe, 0.13, 0.1)
    for sign in (-1, 1):
        shoulder = np.array((sign * (half - 0.2), 0.0))
        elbow = np.array((sign * (half + rng.uniform(0, 0.7)), rng.uniform(0.5, 1.4)))
        hand = elbow + np.array((rng.uniform(-1, 0.6) * sign, rng.uniform(-0.8, 1.1)))
        body.part(cloth * rng.uniform(0.8, 1.05))
        body.limb(shoulder, elbow, 0.24, 0.17)
        if bare_arms:
            body.part(skin, woven=False)
        body.limb(elbow, hand, 0.16, 0.11)
        body.part(skin, woven=False)
        body.limb(hand, hand + 0.25 * rng.normal(0, 1, 2), 0.13, 0.08)
    body.part(cloth * rng.uniform(0.9, 1.1))
    body.fill((-half, -0.15), (half, -0.15), (waist, 0.6 * torso), (hip, torso), (-hip, torso),
              (-waist, 0.6 * torso))  # fmt: skip


def _folds(width: int, height: int, side: float, rng: np.random.Generator) -> np.ndarray:
    """(height, width) smooth random factors around 1, of about a third of a head's size."""
    strength = rng.uniform(0.03, 0.25)
    shade = np.ones((height, width), np.float32)
    for size in (0.9, 0.3):
        grid = [min(64, 2 + int(n / (size * side))) for n in (height, width)]
        noise = Image.fromarray(rng.normal(0, 1, grid).astype(np.float32))
        shade += strength * np.asarray(noise.resize((width, height), _BICUBIC))
    return np.maximum(shade, 0.2)


def _roundness(
    there: Image.Image, parts: np.ndarray, side: float, rng: np.random.Generator
) -> np.ndarray:
    """(height, width) factors: light from one side, by how near the edge of the body is."""
    radius = float(max(1.0, 0.18 * side))
    soft = np.asarray(there.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255
    if min(soft.shape) < 3:
        return np.ones(parts.shape, np.float32)
    down, across = np.gradient(soft)
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6)
    light = strength * radius * (np.cos(turn) * across + np.sin(turn) * down)
    return np.clip(1 + light - 0.3 * (1 - soft), 0.3, 1.6)


def _weave(
    textures: Textures, width: int, height: int, side: float, rng: np.random.Generator
) -> np.ndarray:
    """(height, width, 3) factors around 1 of a swatch, repeated."""
    tile = Image.fromarray(textures.some(rng, *(_CLOTHS if rng.random() < 0.7 else ())))
    period = int(np.clip(side * np.exp(rng.uniform(np.log(0.3), np.log(4))), 4, 512))
    swatch = np.asarray(tile.resize((period, period), _SMOOTH), np.float32)
    swatch /= swatch.mean((0, 1)) + 8
    repeats = (-(-height // period), -(-width // period), 1)
    return np.tile(swatch, repeats)[:height, :width]
