"""What a camera's window shows over its image: rates, tracks, zones, and a dial for each head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from ..inference.estimator import Head

WHITE, GREY, SHADE = (255, 255, 255), (150, 150, 150), (0, 0, 0)
NEEDLE = (90, 150, 255)  # the colour of the drawn axis out of the face, lighter
DIAL, GAP = 56, 8  # pixels
DIAL_DEGREES = 90.0  # of yaw and pitch at the dial's rim
MAX_DIALS = 8


def draw_hud(
    image: np.ndarray, heads: Sequence[Head], rate: float, latency_s: float, dropped: int, note: str
) -> np.ndarray:
    """Write rates and dials over an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        heads: in it.
        rate: frames per second.
        latency_s: seconds from a frame's capture until its heads were known.
        dropped: frames that the network had no time for.
        note: a line for the user, such as how to calibrate; "" for none.

    Returns:
        (H, W, 3) uint8 RGB; `image` stays as it is.
    """
    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    people = "1 head" if len(heads) == 1 else f"{len(heads)} heads"
    lines = [f"{rate:.0f} frames/s  {1000 * latency_s:.0f} ms  {dropped} dropped  {people}"]
    lines += [f"#{head.track} faces {head.facing}" for head in heads if head.facing]
    lines += [note] if note else []
    for row, line in enumerate(lines[:12]):
        place = (GAP, GAP + 19 * row)
        left, top, right, bottom = canvas.textbbox(place, line, font)
        canvas.rectangle((left - 3, top - 2, right + 3, bottom + 2), SHADE)
        canvas.text(place, line, WHITE, font)
    for number, head in enumerate(heads[:MAX_DIALS]):
        x = picture.width - (number + 1) * (DIAL + GAP)
        draw_dial(canvas, (x, picture.height - DIAL - GAP), head, font)
    return np.asarray(picture)


def draw_dial(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    head: Head,
    font: FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Where a head points: left and right by yaw, up and down by pitch, as the image shows it."""
    x, y = corner
    middle = np.array([x + DIAL / 2, y + DIAL / 2])
    canvas.ellipse((x, y, x + DIAL, y + DIAL), SHADE, GREY)
    canvas.line((x, middle[1], x + DIAL, middle[1]), GREY)
    canvas.line((middle[0], y, middle[0], y + DIAL), GREY)
    aim = np.array([-head.yaw, -head.pitch]) / DIAL_DEGREES
    aim = aim / max(1.0, float(np.linalg.norm(aim))) * (DIAL / 2 - 4)
    end = middle + aim
    canvas.line((*middle, *end), NEEDLE, 2)
    canvas.ellipse((*(end - 4), *(end + 4)), NEEDLE)
    if head.track is not None:
        canvas.text((x + 2, y - 2), f"#{head.track}", WHITE, font)
