"""The picture of the check: Eileen Collins, photographed by NASA (public domain)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..inference.pictures import open_picture
from ..methods import Estimator

PICTURE = Path(__file__).with_name("astronaut.png")
FACE = (43.0, 43.0, 107.0, 124.0)
# How far the crops of a batch lie from the face's box, in pixels.
SHIFTS = ((0, 0), (6, -4), (-5, 3), (2, 8))


def picture() -> np.ndarray:
    """(160, 160, 3) uint8 RGB."""
    return open_picture(PICTURE)


def crops(network: Estimator) -> np.ndarray:
    """(4, size, size, 3) uint8: the face as a pose network reads it, at four places."""
    margins = network.config.preprocessing.crop.around_detected("faces")
    read = network.config.inputs.head_reader(margins, None)
    image = picture()
    boxes = [np.array(FACE) + np.tile(shift, 2) for shift in SHIFTS]
    return np.stack([part for box in boxes if (part := read(image, box)) is not None])


def scene(network: Estimator) -> np.ndarray:
    """(2, 160, 160, 3) uint8: the whole picture as a detector reads it, and its mirror image."""
    return np.stack([picture(), picture()[:, ::-1]])
