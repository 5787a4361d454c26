"""The 68 landmarks of 300W: their mirror images, and where they lie in a crop.

The numbering is that of Sagonas et al., "300 Faces in-the-Wild Challenge: The first facial landmark
localization challenge", ICCVW 2013 (https://ibug.doc.ic.ac.uk/resources/300-W/), counted from 0:
jaw 0–16, brows 17–26, nose 27–35, eyes 36–47, lips 48–67.
"""

from __future__ import annotations

import math

import numpy as np

POINTS = 68


def _mirrored() -> np.ndarray:
    mirror = np.arange(POINTS)
    # Rows that run from one side of the face to the other: jaw, brows, nostrils, lips.
    for first, last in ((0, 16), (17, 26), (31, 35), (48, 54), (60, 64)):
        mirror[first : last + 1] = np.arange(last, first - 1, -1)
    # Those that come back: lower lips and the lids, the upper ones before the lower ones.
    for first, last in ((55, 59), (65, 67)):
        mirror[first : last + 1] = np.arange(last, first - 1, -1)
    for right, left in ((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)):
        mirror[[right, left]] = left, right
    return mirror


# (68,) number of each landmark's mirror image; those of the midline are their own.
MIRRORED = _mirrored()


def in_crop(points: np.ndarray, box: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """Places in an image → those in its crop.

    Args:
        points: (..., 2) x and y in pixels.
        box: (4,) x_min, y_min, x_max, y_max of the crop in pixels.
        turn: degrees clockwise by which the image is turned about the middle of the box.

    Returns:
        (..., 2) in units of half the crop's sides: (-1, -1) is its upper left corner.
    """
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return (points - middle) @ np.array(((c, s), (-s, c))) / half
