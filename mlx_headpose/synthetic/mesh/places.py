"""Where things are on MakeHuman's unchanged base mesh (hm08), in its decimetres.

Read off pictures of the mesh: x to the person's left, y up, z out of the face.
"""

from __future__ import annotations

import numpy as np

# What lies lower or further out than this is never in a picture of a head.
BOTTOM, REACH = 4.3, 2.5

# 300W's 68 landmarks: from the middle to the person's left ear, eye and so on. The other side
# mirrors them.
_JAW = (
    (0.0, 6.19, 1.44), (0.16, 6.205, 1.37), (0.31, 6.28, 1.20), (0.43, 6.38, 1.02),
    (0.53, 6.50, 0.87), (0.61, 6.66, 0.76), (0.66, 6.85, 0.71), (0.69, 7.05, 0.67),
    (0.71, 7.25, 0.64),
)  # fmt: skip
_BROW = ((0.10, 7.41, 1.49), (0.20, 7.445, 1.48), (0.31, 7.455, 1.43), (0.42, 7.445, 1.34),
         (0.51, 7.40, 1.24))  # fmt: skip
_NOSE = ((0, 7.30, 1.49), (0, 7.16, 1.55), (0, 7.04, 1.63), (0, 6.92, 1.68))
_NOSTRILS = ((0, 6.80, 1.57), (0.075, 6.825, 1.56), (0.15, 6.85, 1.50))
# Inner corner, upper lid, outer corner, lower lid.
_EYE = ((0.17, 7.28, 1.36), (0.25, 7.32, 1.42), (0.37, 7.325, 1.41), (0.445, 7.29, 1.33),
        (0.37, 7.248, 1.39), (0.25, 7.25, 1.40))  # fmt: skip
# Middle to corner.
_UPPER_LIP = ((0, 6.685, 1.59), (0.06, 6.695, 1.58), (0.16, 6.665, 1.53), (0.265, 6.61, 1.42))
_LOWER_LIP = ((0, 6.50, 1.56), (0.08, 6.51, 1.55), (0.17, 6.54, 1.50))
_INNER_UPPER = ((0, 6.622, 1.58), (0.09, 6.622, 1.56), (0.235, 6.612, 1.44))
_INNER_LOWER = ((0, 6.59, 1.545), (0.09, 6.59, 1.535))


def _landmarks() -> np.ndarray:
    def right(points):
        """The mirror images, which a picture shows on its left."""
        return [(-x, y, z) for x, y, z in points]

    eye = [_EYE[i] for i in (3, 2, 1, 0, 5, 4)]
    points = [
        *right(_JAW[:0:-1]), *_JAW,
        *right(_BROW[::-1]), *_BROW,
        *_NOSE, *right(_NOSTRILS[:0:-1]), *_NOSTRILS,
        *right(eye), *_EYE,
        *right(_UPPER_LIP[:0:-1]), *_UPPER_LIP, *_LOWER_LIP[::-1], *right(_LOWER_LIP[1:]),
        *right(_INNER_UPPER[:0:-1]), *_INNER_UPPER, *_INNER_LOWER[::-1], *right(_INNER_LOWER[1:]),
    ]  # fmt: skip
    return np.array(points, np.float64)


LANDMARKS_68 = _landmarks()
# The features, which say where a face looks: all but the jaw.
RIGID = slice(17, 68)
# The base mesh is lifted by this much (degrees of pitch) to look where AFLW2000's faces at pose 0
# do. Fitted to the average of their landmarks, turned to the front, by rotation and scale, it asks
# for 0.0° by all features, 2.2° without brows and lips, and 3.9° without the mouth.
TILT = 2.2


# In dm in the head model's own axes: the eyes' height, an eyeball's middle, where teeth meet.
EYE_LEVEL = 7.28
EYE_CENTRE = (0.308, 7.284, 1.245)
BITE = 6.62
# In mm from the middle between the eyes, y down (see `paint.py`): tables of |x| and y.
LIP_UPPER = ((0, 4, 8, 17, 26.5), (59.5, 58.3, 58.7, 61.5, 67))
LIP_LOWER = ((0, 8, 17, 26.5), (79, 78.5, 74.5, 67.5))
UPPER_LID = ((17, 25, 33, 40, 44.5), (0.3, -3.6, -5.0, -3.5, -0.8))
LOWER_LID = ((17, 25, 33, 40, 44.5), (1.0, 3.0, 3.4, 2.2, -0.4))
# Degrees around the head from the front, and the height in dm at which hair begins.
HAIRLINE = (
    (0, 30, 50, 60, 68, 76, 82, 88, 110, 117, 127, 142, 180),
    (7.95, 7.93, 7.78, 7.55, 7.4, 7.05, 7.05, 7.40, 7.38, 7.0, 6.75, 6.58, 6.5),
)
