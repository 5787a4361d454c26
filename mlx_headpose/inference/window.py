"""A window that shows what a camera sees, with the heads drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .draw import draw_heads
from .estimator import Head
from .video import Frame, VideoEstimator, VideoReader, require_opencv

TITLE = "mlx-headpose (q quits)"
QUIT = ord("q")


@dataclass
class Shown:
    """What a window has shown: frames, and frames per second (their running mean)."""

    frames: int = 0
    rate: float = 0.0


def show_camera(
    number: int,
    video: VideoEstimator,
    style: str,
    keep: Callable[[Frame, list[Head]], None] | None = None,
) -> Shown:
    """Show a camera's picture until q is pressed or the window is closed.

    Args:
        number: the camera's.
        video: what follows the heads.
        style: one of `draw.STYLES`, or "none".
        keep: called with every frame; a camera may run for days, and nothing else is kept of it.

    Raises:
        InputError: the camera cannot be read, or OpenCV is not here or cannot open windows.
    """
    cv2 = require_opencv()
    shown = Shown()
    last = time.perf_counter()
    try:
        with VideoReader(number) as reader:
            for frame in reader:
                heads = video(frame)
                shown.frames += 1
                if keep is not None:
                    keep(frame, heads)
                image = frame.image if style == "none" else draw_heads(frame.image, heads, style)
                now = time.perf_counter()
                rate = 1 / max(now - last, 1e-6)
                shown.rate = 0.9 * shown.rate + 0.1 * rate if shown.rate else rate
                last = now
                pixels = np.ascontiguousarray(image[:, :, ::-1])
                text, font = f"{shown.rate:.0f} frames/s", cv2.FONT_HERSHEY_SIMPLEX
                cv2.putText(pixels, text, (8, 24), font, 0.7, (255, 255, 255), 2)
                cv2.imshow(TITLE, pixels)
                if cv2.waitKey(1) & 0xFF == QUIT:
                    break
                if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
                    break
    except cv2.error as error:
        raise InputError(
            "this OpenCV cannot open windows; run `pip uninstall opencv-python-headless` and "
            f"`pip install opencv-python` ({str(error).splitlines()[0]})"
        ) from None
    cv2.destroyAllWindows()
    return shown
