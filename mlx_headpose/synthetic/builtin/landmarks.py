"""Where face landmarks sit on the head: MediaPipe's 468 and the 68 of 300W, by number.

Points are written for the side of the image's left (MediaPipe's "right", negative x) as
(|x|, y) in mm on the template's front, or as a direction (azimuth, elevation) in degrees where the
surface is seen edge-on from the front; the other side mirrors them.

Exact are the points with a meaning that the template knows: the midline, the contours of eyes,
lips and face, the brows and the wings of the nose, with the rings around eyes and lips that copy
their contours. The other numbers (cheeks, forehead and the like) are spread evenly over the face
between them: distinct and mirrored in pairs as MediaPipe pairs them, but not at its places.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .shape import (
    CENTRE,
    EYE_X,
    EYE_Y,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    HeadModel,
    base_surface,
    head_model,
)

# Eye openings on the template: half width, heights of the lids, and how much the outer corner
# lies above the inner one.
EYE_HALF_WIDTH, UPPER_LID, LOWER_LID, EYE_TILT = 13.8, 6.2, 4.6, 1.4

# Heights on the midline.
_MIDLINE = {
    10: -62, 151: -42, 9: -26, 8: -14, 168: -4, 6: 4, 197: 13, 195: 21, 5: 28, 4: 34, 1: 39,
    19: 43, 94: 45.5, 2: 48, 164: 54, 0: 60.5, 11: 63.5, 12: 66, 13: 68.2, 14: 69.8, 15: 73,
    16: 77, 17: 80.5, 18: 86, 200: 93, 199: 101, 175: 108, 152: 113,
}  # fmt: skip

# The face's oval from the forehead to the chin, as directions.
_OVAL = {
    109: (11, -43), 67: (23, -42), 103: (35, -40), 54: (46, -36), 21: (57, -29), 162: (67, -20),
    127: (74, -9), 234: (79, 1), 93: (80, 10), 132: (79, 20), 58: (75, 31), 172: (65, 38.5),
    136: (53, 44), 150: (42, 47.5), 149: (32, 49.5), 176: (21, 50.3), 148: (10, 51),
}  # fmt: skip

# Contours from the outer to the inner corner of the eye, without the corners.
_UPPER_LID = (246, 161, 160, 159, 158, 157, 173)
_LOWER_LID = (7, 163, 144, 145, 153, 154, 155)
# Rings around the eye, from the outer side over the top or bottom to the inner side.
_EYE_RINGS_UPPER = (
    (2.5, (130, 247, 30, 29, 27, 28, 56, 190, 243)),
    (5.5, (226, 113, 225, 224, 223, 222, 221, 189, 244)),
)
_EYE_RINGS_LOWER = (
    (2.5, (25, 110, 24, 23, 22, 26, 112)),
    (6.0, (31, 228, 229, 230, 231, 232, 233)),
    (11.0, (111, 117, 118, 119, 120, 121, 128)),
)
_BROW_UPPER, _BROW_LOWER = (70, 63, 105, 66, 107), (46, 53, 52, 65, 55)

# Lip contours from the corner to beside the midline.
_LIPS = {
    "outer upper": ((61, 185, 40, 39, 37), 1.0, -8.0),
    "outer lower": ((146, 91, 181, 84), 1.0, 11.5),
    "inner upper": ((78, 191, 80, 81, 82), 0.87, -0.8),
    "inner lower": ((95, 88, 178, 87), 0.87, 0.8),
    "second upper": ((76, 184, 74, 73, 72), 0.96, -5.5),
    "second lower": ((77, 90, 180, 85), 0.96, 8.0),
    "third upper": ((62, 183, 42, 41, 38), 0.91, -3.0),
    "third lower": ((96, 89, 179, 86), 0.91, 4.0),
    "around upper": ((57, 186, 92, 165, 167), 1.18, -14.5),
    "around lower": ((43, 106, 182, 83), 1.18, 17.0),
}
_NOSE = {
    98: (9.5, 46.5), 97: (4.5, 47.2), 64: (15.5, 44), 48: (17, 40.5), 129: (19, 41.5),
    102: (17.5, 44.5), 45: (4, 38.5), 44: (6, 42.5), 220: (8, 36), 115: (13, 35.5),
    51: (6, 28), 3: (5, 21), 196: (6, 13), 122: (8, 3), 193: (10, -4), 236: (11, 14),
    198: (12, 27), 131: (12, 31), 134: (8.5, 29), 237: (9, 40), 218: (10.5, 38), 79: (12.5, 39.5),
    239: (13.5, 42), 238: (8, 44.5), 241: (5.5, 45), 60: (12.5, 46), 99: (10.5, 47.6),
}  # fmt: skip


def eye_lids(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights (y, mm) of an open eye's lids at u = −1 (outer corner) … 1 (inner corner)."""
    tilt = EYE_Y + EYE_TILT * u / 2
    return (
        tilt - UPPER_LID * (1 - np.abs(u) ** 2.2) * (1 - 0.12 * u),
        tilt + LOWER_LID * (1 - np.abs(u) ** 2.4) * (1 + 0.1 * -u),
    )


def _front_points() -> dict[int, tuple[float, float]]:
    """(|x|, y) of the points with a meaning on one side."""
    points: dict[int, tuple[float, float]] = dict(_NOSE)
    points[33] = (EYE_X + EYE_HALF_WIDTH, EYE_Y - EYE_TILT / 2)
    points[133] = (EYE_X - EYE_HALF_WIDTH, EYE_Y + EYE_TILT / 2)
    u = np.linspace(-0.78, 0.78, 7)
    upper, lower = eye_lids(u)
    for lid, heights in ((_UPPER_LID, upper), (_LOWER_LID, lower)):
        for number, at, y in zip(lid, u, heights, strict=True):
            points[number] = (EYE_X - EYE_HALF_WIDTH * float(at), float(y))
    for rings, sign, height in (
        (_EYE_RINGS_UPPER, -1, UPPER_LID),
        (_EYE_RINGS_LOWER, 1, LOWER_LID),
    ):
        for margin, ring in rings:
            # The upper rings reach down to the corners, the lower ones stop short of them.
            end = 0.0 if sign < 0 else 22.5
            angle = np.radians(np.linspace(end, 180 - end, len(ring)))
            for number, a in zip(ring, angle, strict=True):
                points[number] = (
                    EYE_X + (EYE_HALF_WIDTH + margin) * np.cos(a),
                    EYE_Y + sign * (height + margin) * np.sin(a) - 0.8 * np.cos(a),
                )
    for brow, lift in ((_BROW_UPPER, -2.5), (_BROW_LOWER, 2.5)):
        for number, at in zip(brow, np.linspace(0, 1, 5), strict=True):
            points[number] = (52 - 38 * float(at), float(brow_line(at)) + lift)
    for contour, reach, height in _LIPS.values():
        upper_lip = height < 0
        steps = 5 if upper_lip else 5.0
        for k, number in enumerate(contour):
            # Upper contours begin in the corner, lower ones one step further.
            at = (k if upper_lip else k + 1) / steps
            across = MOUTH_HALF_WIDTH * reach * (1 - at)
            profile = np.sin(np.pi / 2 * at) ** 0.8 if k or not upper_lip else 0.0
            points[number] = (across, MOUTH_Y + height * float(profile))
    return points


def brow_line(at: np.ndarray) -> np.ndarray:
    """Height (y, mm) of the brow's middle at 0 (outer end) … 1 (inner end)."""
    return -14.5 - 5.5 * np.sin(np.pi * np.clip(0.12 + 0.75 * at, 0, 1))


class Placement:
    """Points fixed to the head's grid, by row, column and the weights of the four vertices."""

    def __init__(self, model: HeadModel, azimuth: np.ndarray, elevation: np.ndarray) -> None:
        """Place points at directions in degrees."""
        rows, columns = model.azimuth.shape
        row = np.interp(elevation, model.elevation[:, 0], np.arange(rows))
        column = np.interp(azimuth, model.azimuth[0], np.arange(columns))
        r = np.minimum(row.astype(int), rows - 2)
        c = np.minimum(column.astype(int), columns - 2)
        down, right = row - r, column - c
        corner = r * columns + c
        self.corners = np.stack((corner, corner + 1, corner + columns, corner + columns + 1))
        self.weights = np.stack(
            ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
        ).astype(np.float32)

    def on(self, surface: np.ndarray) -> np.ndarray:
        """(N, 3) float32 places of the points on a head's surface (R, C, 3)."""
        vertices = surface.reshape(-1, 3)
        return np.einsum("kn,knd->nd", self.weights, vertices[self.corners])


def _directions(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions in degrees in which the template's front has the given x and y."""
    z = np.full(x.shape, 90.0)
    for _ in range(30):
        # The face's relief moves points along z alone, so x and y are those of the smooth base.
        azimuth = np.arctan2(x - CENTRE[0], z - CENTRE[2])
        elevation = np.arctan2(y - CENTRE[1], np.hypot(x - CENTRE[0], z - CENTRE[2]))
        z = (z + base_surface(azimuth, elevation)[:, 2]) / 2
    return np.degrees(azimuth), np.degrees(elevation)


def mirrored() -> np.ndarray:
    """(468,) number of each point's mirror image; points of the midline are their own."""
    midline = set(_MIDLINE)
    right = [n for n in range(248) if n not in midline]
    mirror = np.arange(468)
    mirror[right] = np.arange(248, 468)
    mirror[248:] = right
    return mirror


def _spread_points(known: np.ndarray, count: int) -> np.ndarray:
    """`count` more (azimuth, elevation) in half the oval, each as far from the others as can be."""
    oval = np.array([(0.0, -43.5), *_OVAL.values(), (0.0, 51.0)])
    candidates = np.stack(np.meshgrid(np.arange(4, 78, 1.5), np.arange(-40, 50, 1.5)), -1)
    candidates = candidates.reshape(-1, 2)
    limit = np.interp(candidates[:, 1], oval[:, 1], oval[:, 0])
    candidates = candidates[candidates[:, 0] < limit - 2]
    distance = np.min(np.hypot(*(candidates[:, None] - known[None]).transpose(2, 0, 1)), axis=1)
    chosen = []
    for _ in range(count):
        best = int(np.argmax(distance))
        chosen.append(candidates[best])
        distance = np.minimum(distance, np.hypot(*(candidates - candidates[best]).T))
    return np.array(chosen)


@lru_cache(maxsize=1)
def mediapipe_placement() -> Placement:
    """MediaPipe's 468 points on the head's grid."""
    model = head_model()
    azimuth, elevation = np.zeros(468), np.zeros(468)
    front = _front_points()
    numbers = [*front, *_MIDLINE]
    x = np.array([value[0] for value in front.values()] + [0.0] * len(_MIDLINE))
    y = np.array([value[1] for value in front.values()] + list(_MIDLINE.values()), float)
    azimuth[numbers], elevation[numbers] = _directions(x, y)
    azimuth[list(_OVAL)], elevation[list(_OVAL)] = np.array(list(_OVAL.values()), float).T
    known = {*numbers, *_OVAL}
    missing = [n for n in range(248) if n not in known]
    placed = sorted(known)
    spread = _spread_points(np.stack((azimuth, elevation), -1)[placed], len(missing))
    # From top to bottom and from the middle outwards, so that neighbours in number are neighbours.
    spread = spread[np.lexsort((spread[:, 0], spread[:, 1] // 8))]
    azimuth[missing], elevation[missing] = spread.T
    mirror = mirrored()
    azimuth[:248] *= -1
    azimuth[248:], elevation[248:] = -azimuth[mirror[248:]], elevation[mirror[248:]]
    return Placement(model, azimuth, elevation)


# 300W's 68 points: MediaPipe's numbers at the same places, in 300W's order, from the 17 of the jaw.
_JAW = (
    (83, -4), (84, 6), (83, 16), (79, 26), (71, 35), (57, 42.5), (39, 48), (20, 51.2), (0, 52.5),
)  # fmt: skip
FEATURES_68 = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 1, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91,
    78, 81, 13, 311, 308, 402, 14, 178,
)  # fmt: skip


@lru_cache(maxsize=1)
def jaw_placement() -> Placement:
    """The 17 points of the jaw in 300W's order, from the image's left ear to its right one."""
    half = np.array(_JAW, float)
    azimuth = np.concatenate((-half[:, 0], half[-2::-1, 0]))
    elevation = np.concatenate((half[:, 1], half[-2::-1, 1]))
    return Placement(head_model(), azimuth, elevation)
