"""Make docs/images/live.png: the demonstration as the window shows it.

Run it from the project's root: PYTHONPATH=. python docs/live.py [DETECTOR]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from mlx_headpose.inference.draw import draw_heads
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.inference.loop import make_follower
from mlx_headpose.inference.video import Frame
from mlx_headpose.live.hud import draw_hud
from mlx_headpose.space.facing import Cone
from mlx_headpose.synthetic.demo import FPS, Demo

OUTPUT = Path(__file__).parent / "images" / "live.png"
SECOND = 5.0  # of the demonstration, in which the head looks to the image's right
ZONE = Cone("door", 25.0, direction=(0.6, 0.0, -0.8))


def main() -> None:
    """Follow the demonstration for a second, and draw its last frame."""
    demo = Demo()
    detector = sys.argv[1] if len(sys.argv) > 1 else None
    estimator = HeadPoseEstimator.from_pretrained(detector=detector, camera=demo.camera)
    video = make_follower(estimator, "predictive", zones=[ZONE])
    for number in range(int(FPS)):
        frame = Frame(number, number / FPS, demo.frame(SECOND + number / FPS))
        heads = video(frame)
    image = draw_heads(frame.image, heads)
    # What a window's rates were is not known here: they are those of a camera at its usual rate.
    drawn = draw_hud(image, heads, FPS, 0.02, 0, "")
    Image.fromarray(drawn).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
