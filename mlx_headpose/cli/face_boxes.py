"""`--boxes`: where the face boxes of photos come from that have none of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HELP = "face boxes of frames that have none: a CSV file, or detect (default: <folder>/boxes.csv)"


def box_source(given: str | None) -> Path | Callable[[Image.Image], np.ndarray | None] | None:
    """What a dataset's `boxes` takes: a file, or a function that finds the largest face.

    Raises:
        InputError: a detector is asked for and its weights are nowhere.
    """
    if given != "detect":
        return None if given is None else Path(given)
    from ..detection.yunet import FaceDetector
    from ..inference.estimator import largest

    detector = FaceDetector.from_pretrained()

    def find(picture: Image.Image) -> np.ndarray | None:
        boxes = largest(detector([np.asarray(picture)])[0], 1).boxes
        return boxes[0] if len(boxes) else None

    return find
