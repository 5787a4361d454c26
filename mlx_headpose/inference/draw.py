"""Poses drawn into a picture: axes, cubes, boxes and angles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..pose import axis_endpoints

if TYPE_CHECKING:
    from .estimator import Head

STYLES = ("axis", "cube")
# The field's colours: red to the picture's right on a frontal head, green down, blue out of the
# face.
AXIS_COLOURS = ((230, 50, 40), (40, 180, 60), (40, 90, 255))
BOX_COLOUR = (255, 255, 255)
SHADE = (0, 0, 0)
SMALLEST_FONT = 10.0
MOST_COVERED = 0.25  # of a head's box, by a label that has no other place
SPACING = 2  # pixels between lines of a label
Rectangle = tuple[float, float, float, float]
# Corners of a cube around the head's centre, in its axes; the first four are the face.
CORNERS = np.array(
    [(x, y, z) for z in (1, -1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], np.float64
)


def draw_heads(image: np.ndarray, heads: Sequence[Head], style: str = "axis") -> np.ndarray:
    """Draw each head's pose as the image shows it, its box and its angles.

    Args:
        image: (H, W, 3) uint8 RGB.
        heads: heads of the picture.
        style: "axis" or "cube".

    Returns:
        (H, W, 3) uint8 RGB; `image` stays as it is.
    """
    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    for head in heads:
        x_min, y_min, x_max, y_max = head.box
        size = _visible_size(head.box, picture.size)
        width = max(1, round(size / 60))
        canvas.rectangle(head.box, outline=BOX_COLOUR, width=max(1, width // 2))
        centre = np.array([(x_min + x_max) / 2, (y_min + y_max) / 2])
        pose = head.pose if head.seen is None else np.array(head.seen)
        if style == "axis":
            draw_axes(canvas, pose, centre, 0.6 * size, width)
        else:
            draw_cube(canvas, pose, centre, 0.5 * size, width)
    for label in place_labels(heads, picture.size):
        font = ImageFont.load_default(label.font)
        canvas.rectangle(label.box, SHADE)
        canvas.multiline_text(label.origin, label.text, BOX_COLOUR, font, spacing=SPACING)
    return np.asarray(picture)


def draw_axes(
    canvas: ImageDraw.ImageDraw, pose: np.ndarray, centre: np.ndarray, length: float, width: int
) -> None:
    """The three axes of a head: red, green, and blue out of the face.

    Args:
        canvas: to draw on.
        pose: (3,) yaw, pitch, roll in degrees.
        centre: (2,) x, y of the head's centre in pixels.
        length: length of an axis that lies in the image, in pixels.
        width: width of the lines.
    """
    ends = np.asarray(axis_endpoints(np.asarray(pose, np.float64), length))
    # The face's axis comes last, so that it is drawn over the others.
    for end, colour in zip(ends, AXIS_COLOURS, strict=True):
        _line(canvas, centre, centre + end, colour, 2 * width)


def draw_cube(
    canvas: ImageDraw.ImageDraw, pose: np.ndarray, centre: np.ndarray, half: float, width: int
) -> None:
    """A cube around a head: its face in red, its back in green, the edges between them in blue.

    Args:
        canvas: to draw on.
        pose: (3,) yaw, pitch, roll in degrees.
        centre: (2,) x, y of the head's centre in pixels.
        half: half the length of an edge, in pixels.
        width: width of the lines.
    """
    axes = np.asarray(axis_endpoints(np.asarray(pose, np.float64), half))  # (3, 2)
    points = centre + CORNERS @ axes  # (8, 2)
    red, green, blue = AXIS_COLOURS
    edges = [
        *((4 + i, 4 + (i + 1) % 4, green) for i in range(4)),
        *((i, 4 + i, blue) for i in range(4)),
        *((i, (i + 1) % 4, red) for i in range(4)),
    ]
    # What is farther away is drawn first; a head turned away shows its green back last.
    faces_us = facing(pose) >= 0
    for start, end, colour in edges if faces_us else reversed(edges):
        _line(canvas, points[start], points[end], colour, width)


def facing(pose: np.ndarray) -> float:
    """How much the face points to the viewer: 1 straight at them, −1 away."""
    yaw, pitch, _ = np.radians(np.asarray(pose, np.float64))
    return float(np.cos(yaw) * np.cos(pitch))


def _line(
    canvas: ImageDraw.ImageDraw,
    start: np.ndarray,
    end: np.ndarray,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    canvas.line([(float(start[0]), float(start[1])), (float(end[0]), float(end[1]))], colour, width)


def _visible_size(box: Rectangle, picture_size: tuple[int, int]) -> float:
    """The longer side of what the picture shows of a box, in pixels; of the box if it shows none.

    A box of which little is seen says little about the head's size.
    """
    x_min, y_min, x_max, y_max = box
    width, height = picture_size
    sides = min(x_max, width) - max(x_min, 0), min(y_max, height) - max(y_min, 0)
    return max(sides) if min(sides) > 0 else max(x_max - x_min, y_max - y_min)


@dataclass(frozen=True, slots=True)
class Label:
    """Where a head's angles are written.

    Attributes:
        text: one line or several.
        box: x_min, y_min, x_max, y_max of its background in pixels.
        origin: x, y of the text.
        font: size of the font.
    """

    text: str
    box: Rectangle
    origin: tuple[float, float]
    font: float


def place_labels(heads: Sequence[Head], picture_size: tuple[int, int]) -> list[Label]:
    """Labels that cover neither each other nor a head's box, wherever there is room for them.

    Each is beside its head, above it if possible. Where there is no room, the label becomes
    smaller and its angles stand below each other. It is left out if even so it would cover another
    label, or more than a quarter of a head.

    Args:
        heads: heads of the picture; the larger one has the first choice.
        picture_size: width and height in pixels.

    Returns:
        Labels of those heads that have room for one.
    """
    boxes = [head.box for head in heads]
    placed: list[Label] = []
    sizes = [_visible_size(box, picture_size) for box in boxes]
    for index in sorted(range(len(heads)), key=lambda i: -sizes[i]):
        best: tuple[float, Label] | None = None
        for label in _candidates(heads[index], sizes[index], picture_size):
            if any(_overlap(label.box, other.box) for other in placed):
                continue
            shares = [_overlap(label.box, b) / max(_overlap(b, b), 1.0) for b in boxes]
            if max(shares) > MOST_COVERED:
                continue
            covered = sum(shares)
            if best is None or covered < best[0]:
                best = covered, label
            if not covered:
                break
        if best is not None:
            placed.append(best[1])
    return placed


def _candidates(head: Head, size: float, picture_size: tuple[int, int]) -> Iterator[Label]:
    """A head's label in the picture, in order of preference: where, in what form, how large."""
    x_min, y_min, x_max, y_max = head.box
    first = float(np.clip(size / 9, 10, 40))
    for font_size, text in (
        (first, _label(head)),
        (first, _label(head, "\n")),
        (SMALLEST_FONT, _label(head)),
        (SMALLEST_FONT, _label(head, "\n")),
    ):
        font = ImageFont.load_default(font_size)
        canvas = ImageDraw.Draw(Image.new("1", (1, 1)))
        left, top, right, bottom = canvas.multiline_textbbox((0, 0), text, font, spacing=SPACING)
        width, height = right - left + 4, bottom - top + 4
        if width > picture_size[0] or height > picture_size[1]:
            continue
        for x, y in (
            (x_min, y_min - height - 2), (x_max - width, y_min - height - 2),
            (x_min, y_max + 2), (x_max - width, y_max + 2),
            (x_max + 2, y_min), (x_min - width - 2, y_min),
            (x_max + 2, y_max - height), (x_min - width - 2, y_max - height),
            (x_min, y_min + 2), (x_min, y_max - height - 2),
        ):  # fmt: skip
            x = min(max(x, 0.0), picture_size[0] - 1.0 - width)
            y = min(max(y, 0.0), picture_size[1] - 1.0 - height)
            yield Label(text, (x, y, x + width, y + height), (x + 2 - left, y + 2 - top), font_size)


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Area that two rectangles share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _label(head: Head, between: str = "  ") -> str:
    yaw, pitch, roll = (round(angle) for angle in (head.yaw, head.pitch, head.roll))
    angles = between.join((f"yaw {yaw:+d}", f"pitch {pitch:+d}", f"roll {roll:+d}"))
    return angles if head.track is None else f"#{head.track}{between}{angles}"
