"""Make mlx_headpose/bundled/signs.png: one head at ±30° of each angle, with the axes of its pose.

Run it from the project's root: PYTHONPATH=. python docs/signs.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mlx_headpose.inference.draw import draw_axes
from mlx_headpose.synthetic import SyntheticHeads

OUTPUT = Path(__file__).parents[1] / "mlx_headpose" / "bundled" / "signs.png"
SEED = 8
SIDE, LABEL = 200, 26
ANGLES = ("yaw", "pitch", "roll")
STEPS = (-30, 0, 30)


def head_in_pose(heads: SyntheticHeads, pose: np.ndarray) -> Image.Image:
    """Sample 0 in another pose than its own: same person, light and background."""
    heads.poses[0] = pose
    picture = heads.image(0)
    pivot = SIDE * heads.people.cameras.shifts[0]
    draw_axes(ImageDraw.Draw(picture), pose, pivot, 0.4 * SIDE, 2)
    return picture


def main() -> None:
    """Draw one row per angle."""
    heads = SyntheticHeads(1, "val", seed=SEED, size=SIDE, jitter=0)
    height = SIDE + LABEL
    sheet = Image.new("RGB", (len(STEPS) * SIDE, len(ANGLES) * height), "white")
    canvas = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for row, name in enumerate(ANGLES):
        for column, angle in enumerate(STEPS):
            pose = np.zeros(3, np.float32)
            pose[row] = angle
            x, y = column * SIDE, row * height
            sheet.paste(head_in_pose(heads, pose), (x, y + LABEL))
            text = f"{name} {angle:+d}°" if angle else "0°"
            canvas.text((x + SIDE / 2, y + LABEL / 2), text, "black", font, anchor="mm")
    OUTPUT.parent.mkdir(exist_ok=True)
    sheet.save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
