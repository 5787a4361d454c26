"""A scene: people and things before a background, and the boxes of all heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...core.scene import HEAD, IGNORE, MAX_HEADS, TARGET
from ...pose import turned_in_plane
from .backgrounds import Backgrounds, levels
from .bodies import SOLID, paint_body
from .camera import develop
from .emblems import print_on_cloth
from .sprites import Sprites

SMALLEST = 12.0  # pixels of the longer side: what is smaller is ignored
VISIBLE, HIDDEN = 0.45, 0.1  # shares seen of a head that counts, and of one that is not there
PRINTED = 0.3  # share of the people with emblems on their clothes
WORN = 0.2  # and of those with a thing before their chest, worn or held
BELOW_CHIN = 0.8  # heads from the middle of the head: from here on a person is seen as clothes
_BILINEAR = Image.Resampling.BILINEAR


@dataclass
class _Placed:
    """A sprite as it lies in a scene: pictures, where, its points and pose in the scene."""

    colours: Image.Image
    alpha: Image.Image
    left: int
    top: int
    outline: np.ndarray
    landmarks: np.ndarray
    yaw: float  # before it was turned
    pose: np.ndarray
    angle: float


class Composer:
    """Makes scenes of one split.

    Args:
        people, things: sprites.
        backgrounds: what is behind them.
    """

    def __init__(self, people: Sprites, things: Sprites, backgrounds: Backgrounds):
        self.people, self.things, self.backgrounds = people, things, backgrounds
        with_heads = np.isfinite(people.pose[:, 0])
        self.with_head = np.flatnonzero(with_heads)
        self.without = np.flatnonzero(~with_heads)

    def draw(
        self, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A scene of `size` × `size` pixels.

        Returns:
            (size, size, 3) uint8, (12, 11) float32 targets as `DetectionHead.loss` takes them, and
            (12, 3) float32 poses of the heads in degrees, NaN in unused rows.
        """
        picture = self.backgrounds.draw(size, rng)
        owner = np.zeros((size, size), np.int16)
        several, crowd_size = int(rng.integers(2, 5)), int(rng.integers(5, 13))
        heads = int(rng.choice((0, 1, several, crowd_size), p=(0.2, 0.3, 0.3, 0.2)))
        most = 1.0 if heads <= 1 else (0.6 if heads < 5 else 0.25)
        base = np.exp(rng.uniform(np.log(18), np.log(most * size)))
        sizes = np.sort(np.clip(base * np.exp(rng.normal(0, 0.35, heads)), 10, size))
        around = int(rng.choice((0, 1, 3, 6), p=(0.2, 0.3, 0.35, 0.15)))
        for _ in range(around):
            self._anywhere(picture, owner, base, rng)
        if rng.random() < 0.15:
            self._headless(picture, owner, base, rng)
        crowd = rng.uniform(0.2, 0.8, 2) * size
        level = rng.random() < 0.5
        found = []
        for number, side in enumerate(sizes, 1):
            place = rng.uniform(0.02, 0.98, 2) * size
            if level:  # people on one floor
                place[1] = crowd[1] + rng.normal(0, 0.08) * size
            elif heads > 3 and rng.random() < 0.5:
                place = crowd + rng.normal(0, 0.2, 2) * size
            person = self._person(picture, owner, number, float(side), place, rng)
            if person is not None:
                found.append((number, person))
            if rng.random() < 0.1:  # it may hide a part of the head
                turn = rng.uniform(0, 2 * np.pi)
                beside = rng.uniform(0.4, 0.9) * np.array((np.cos(turn), np.sin(turn)))
                height = float(side) * rng.uniform(0.4, 1.2)
                self._thing(picture, owner, height, place + side * beside, rng)
        if rng.random() < 0.25:
            self._anywhere(picture, owner, base, rng)
        targets = np.zeros((MAX_HEADS, TARGET), np.float32)
        poses = np.full((MAX_HEADS, 3), np.nan, np.float32)
        for row, (number, (head, box, total)) in enumerate(found):
            targets[row] = _target(head, box, total, owner, number)
            poses[row] = head.pose
        return develop(picture, rng), targets, poses

    def _person(
        self,
        picture: Image.Image,
        owner: np.ndarray,
        number: int,
        side: float,
        place: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[_Placed, np.ndarray, float] | None:
        """Paste a person; returns it, its head's box and its head's pixels if all were seen."""
        index = int(rng.choice(self.with_head))
        points = self.people.outline[index]
        kind = rng.random()
        angle = rng.normal(0, 6) if kind < 0.82 else rng.uniform(-35, 35)
        if kind > 0.92:
            angle = rng.uniform(-100, 100)
        extent = np.linalg.norm(points.max(0) - points.min(0)) / np.sqrt(2)
        scale = side / extent
        size = picture.width
        placed = _place(self.people, index, scale, angle, place, points.mean(0), size, rng)
        if placed is None:
            return None
        if rng.random() < (0.8 if side < 0.3 * picture.width else 0.3):
            self._body(picture, owner, number, placed, side, rng)
        box = np.concatenate((placed.outline.min(0), placed.outline.max(0)))
        _paste(picture, owner, number, placed)
        middle, turn = (box[:2] + box[2:]) / 2, np.radians(placed.angle)
        down = np.array((-np.sin(turn), np.cos(turn)))
        if rng.random() < PRINTED:
            y, x = np.ogrid[: picture.height, : picture.width]
            below = (x - middle[0]) * down[0] + (y - middle[1]) * down[1] > BELOW_CHIN * side
            print_on_cloth(picture, (owner == number) & below, middle, down, side, rng)
        if rng.random() < WORN:
            across = np.array((down[1], -down[0]))
            chest = middle + side * (rng.uniform(1, 2.4) * down + rng.uniform(-1, 1) * across)
            width = side * np.exp(rng.uniform(np.log(0.15), np.log(0.9)))
            self._thing(picture, owner, float(width), chest, rng)
        # A head fills about four fifths of its box.
        return placed, box, 0.8 * float((box[2] - box[0]) * (box[3] - box[1]))

    def _body(
        self,
        picture: Image.Image,
        owner: np.ndarray,
        number: int,
        placed: _Placed,
        side: float,
        rng: np.random.Generator,
    ) -> None:
        """Paint a body below a person who is yet to be pasted."""
        textures = self.backgrounds.textures
        corner = placed.left, placed.top
        mask = paint_body(
            picture, placed.colours, placed.alpha, corner, placed.angle, side, textures, rng
        )
        if mask is not None:
            owner[mask] = number

    def _headless(
        self, picture: Image.Image, owner: np.ndarray, base: float, rng: np.random.Generator
    ) -> None:
        if not len(self.without):
            return
        index = int(rng.choice(self.without))
        place = rng.uniform(0.05, 0.95, 2) * picture.width
        middle = self.people.size[index][::-1] / 2
        scale = 2.5 * base / self.people.size[index][0]
        size = picture.width
        placed = _place(self.people, index, scale, rng.normal(0, 8), place, middle, size, rng)
        if placed is None:
            return
        if rng.random() < 0.7:
            self._body(picture, owner, -1, placed, base, rng)
        _paste(picture, owner, -1, placed)

    def _anywhere(
        self, picture: Image.Image, owner: np.ndarray, base: float, rng: np.random.Generator
    ) -> None:
        place = rng.uniform(0, 1, 2) * picture.width
        side = np.clip(base * np.exp(rng.normal(0.3, 0.7)), 6, 0.9 * picture.width)
        self._thing(picture, owner, float(side), place, rng)

    def _thing(
        self,
        picture: Image.Image,
        owner: np.ndarray,
        height: float,
        place: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        """Paste a thing of some height in pixels, its middle at a place."""
        index = int(rng.integers(len(self.things)))
        own = self.things.size[index]
        angle, size = rng.normal(0, 12), picture.width
        placed = _place(self.things, index, height / own[0], angle, place, own[::-1] / 2, size, rng)
        if placed is not None:
            _paste(picture, owner, -1, placed)


def _place(
    sprites: Sprites,
    index: int,
    scale: float,
    angle: float,
    place: np.ndarray,
    middle: np.ndarray,
    size: int,
    rng: np.random.Generator,
) -> _Placed | None:
    """A sprite, scaled and turned (degrees, clockwise), its point `middle` at `place`.

    Of its pictures only what lies within a scene of `size` pixels is made; None if nothing does.
    """
    colours, alpha, have = sprites.read(index, scale)
    if scale < 0.8 * have:  # against aliasing
        width, height = (max(1, round(side * scale / have)) for side in colours.size)
        small = width, height
        colours, alpha = (p.resize(small, Image.Resampling.BOX) for p in (colours, alpha))
    factor = scale * sprites.size[index][1] / colours.width
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array(((c * mirror, -s), (s * mirror, c)))  # from the sprite to the scene
    shift = place - scale * turn @ middle
    width, height = colours.size
    corners = (
        np.array(((0, 0), (width, 0), (0, height), (width, height))) @ (factor * turn).T + shift
    )
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)), size).astype(int)
    if right <= left or bottom <= top:
        return None
    back = np.linalg.inv(factor * turn)
    start = back @ (np.array((left, top)) - shift)
    matrix = (*back[0], start[0], *back[1], start[1])
    colours, alpha = (
        p.transform((right - left, bottom - top), Image.Transform.AFFINE, matrix, _BILINEAR)
        for p in (colours, alpha)
    )
    if rng.random() < 0.6:
        colours = colours.point(levels(rng))
    outline, landmarks = (
        points @ (scale * turn).T + shift
        for points in (sprites.outline[index], sprites.landmarks[index])
    )
    pose = sprites.pose[index] * np.array((mirror, 1, mirror), np.float32)
    turned = np.asarray(turned_in_plane(pose, angle))
    yaw = float(pose[0])
    return _Placed(colours, alpha, int(left), int(top), outline, landmarks, yaw, turned, angle)


def _paste(picture: Image.Image, owner: np.ndarray, number: int, placed: _Placed) -> None:
    picture.paste(placed.colours, (placed.left, placed.top), placed.alpha)
    opaque = np.asarray(placed.alpha) >= SOLID
    height, width = opaque.shape
    owner[placed.top : placed.top + height, placed.left : placed.left + width][opaque] = number


def _target(
    placed: _Placed, box: np.ndarray, total: float, owner: np.ndarray, number: int
) -> np.ndarray:
    """(11,) the target of a head, after all that may hide it."""
    size = len(owner)
    inner = np.clip(np.round(box), 0, size).astype(int)
    x0, y0, x1, y1 = inner
    seen = int((owner[y0:y1, x0:x1] == number).sum()) if x1 > x0 and y1 > y0 else 0
    share = seen / max(total, 1.0)
    row = np.zeros(TARGET, np.float32)
    if share < HIDDEN or x1 <= x0 or y1 <= y0:
        return row
    row[:4] = np.clip(box, 0, size)
    row[4:6], row[6:8] = placed.landmarks.min(0), placed.landmarks.max(0)
    yaw = np.radians(placed.yaw)
    row[8:10] = np.cos(yaw), np.sin(yaw)
    large = max(box[2] - box[0], box[3] - box[1]) >= SMALLEST
    row[10] = HEAD if large and share >= VISIBLE else IGNORE
    return row
