"""Poses drawn into a picture: axes, cubes, boxes and angles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..pose import axis_endpoints
from .estimator import Head

STYLES = ("axis", "cube")
# The field's colours: red to the picture's right on a frontal head, green down, blue out of the
# face.
AXIS_COLOURS = ((230, 50, 40), (40, 180, 60), (40, 90, 255))
BOX_COLOUR = (255, 255, 255)
SHADE = (0, 0, 0)
# Corners of a cube around the head's centre, in its axes; the first four are the face.
CORNERS = np.array(
    [(x, y, z) for z in (1, -1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], np.float64
)


def draw_heads(image: np.ndarray, heads: Sequence[Head], style: str = "axis") -> np.ndarray:
    """Draw each head's pose, box and angles.

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
        size = max(x_max - x_min, y_max - y_min)
        width = max(1, round(size / 60))
        canvas.rectangle(head.box, outline=BOX_COLOUR, width=max(1, width // 2))
        centre = np.array([(x_min + x_max) / 2, (y_min + y_max) / 2])
        if style == "axis":
            draw_axes(canvas, head.pose, centre, 0.6 * size, width)
        else:
            draw_cube(canvas, head.pose, centre, 0.5 * size, width)
        _write(canvas, _label(head), (x_min, y_min), size, picture.size)
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


def _label(head: Head) -> str:
    yaw, pitch, roll = (round(angle) for angle in (head.yaw, head.pitch, head.roll))
    angles = f"yaw {yaw:+d}  pitch {pitch:+d}  roll {roll:+d}"
    return angles if head.track is None else f"#{head.track}  {angles}"


def _write(
    canvas: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    size: float,
    picture_size: tuple[int, int],
) -> None:
    """Text above a box, or inside where there is no room, within the picture."""
    font = ImageFont.load_default(float(np.clip(size / 9, 10, 40)))
    left, top, right, bottom = canvas.textbbox((0, 0), text, font)
    x = max(0.0, min(corner[0], picture_size[0] - right - 2))
    y = corner[1] - bottom - 4
    y = max(0.0, y if y >= 0 else corner[1] + 2)
    canvas.rectangle((x + left - 2, y + top - 2, x + right + 2, y + bottom + 2), SHADE)
    canvas.text((x, y), text, BOX_COLOUR, font)
