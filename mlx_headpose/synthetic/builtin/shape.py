"""The bald head and face: a template surface and the ways in which people differ from it.

The template is a surface around a centre inside the skull: for each direction, the distance at
which horizontal sections (half an oval in front, half behind, with sizes tabulated by height) are
left, plus smooth bumps and hollows for brow, eye sockets, nose, lips, chin and cheeks. Sizes are
millimetres of an average adult from anthropometric tables. Axes: x to the image's right, y down,
z out of the face; y = 0 is the height of the eyes and z = 0 runs through the ear canals.

A person is the template plus a weighted sum of displacement fields (`SHAPES`), an expression a sum
of others (`EXPRESSIONS`). So a vertex keeps its meaning (this one is the nose tip) on every head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from ...pose import pose_to_matrix
from ..grid import smoothstep
from ..light import towards

# Directions are counted from here; heads turn about PIVOT.
CENTRE = np.array([0.0, 20.0, 10.0])
PIVOT = np.array([0.0, 15.0, 15.0])
# At pose 0 the template is tipped back by this much (degrees of pitch), where 300W-LP's mean face
# has its zero.
TILT = 4.0

EYE_X, EYE_Y = 32.0, 1.0
MOUTH_Y, MOUTH_HALF_WIDTH = 69.0, 25.0
# Eyes and brows sit this much lower on the template than the heights they are placed by.
EYES_LOWER = 4.5

# Height, half width, front, back, depth of the widest place, and the oval's exponent in front.
_SECTIONS = np.array(
    [
        (-118, 0, -8, -8, -8, 2.0), (-113, 30, 36, -48, -8, 2.0), (-103, 49, 60, -70, -9, 2.0),
        (-87, 64, 79, -86, -10, 2.05), (-66, 73, 92, -95, -10, 2.1), (-45, 77, 98, -99, -10, 2.12),
        (-20, 77, 99, -98, -8, 2.12), (0, 75, 94, -93, -4, 2.25), (20, 72, 92, -84, 0, 2.3),
        (40, 68, 94, -70, 4, 2.15), (55, 64, 97, -56, 8, 2.0), (70, 59.5, 97.5, -40, 13, 1.95),
        (85, 53, 94, -20, 22, 2.05), (98, 43, 95, 4, 38, 2.0), (108, 31, 92, 28, 54, 2.0),
        (115, 17, 84, 48, 66, 2.0), (119, 0, 70, 70, 70, 2.0),
    ]
)  # fmt: skip


def _spread(low: float, high: float, count: int, dense: tuple[float, float], factor: float):
    """`count` angles from low to high, `factor` times denser within `dense`."""
    fine = np.linspace(low, high, 2001)
    edge = 8.0
    density = 1 + (factor - 1) * smoothstep(dense[0] - edge, dense[0], fine) * smoothstep(
        dense[1] + edge, dense[1], fine
    )
    total = np.concatenate(([0], np.cumsum((density[1:] + density[:-1]) / 2)))
    return np.interp(np.linspace(0, total[-1], count), total, fine)


def _hill(x, y, cx, cy, sx, sy):
    """A Gaussian bump at ±cx."""
    return np.exp(-(((np.abs(x) - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)


def _around_eyes(y: np.ndarray) -> np.ndarray:
    return smoothstep(38, 14, y) * smoothstep(-85, -30, y)


def base_surface(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """(..., 3) points of the smooth skull and jaw in the given directions (radians)."""
    direction = towards(azimuth, -elevation)
    heights = _SECTIONS[:, 0]
    # Squares are interpolated, so that the ends close round and not pointed.
    width2 = PchipInterpolator(heights, _SECTIONS[:, 1] ** 2)
    front2 = PchipInterpolator(heights, (_SECTIONS[:, 2] - _SECTIONS[:, 4]) ** 2)
    back2 = PchipInterpolator(heights, (_SECTIONS[:, 4] - _SECTIONS[:, 3]) ** 2)
    middle = PchipInterpolator(heights, _SECTIONS[:, 4])
    exponent = PchipInterpolator(heights, _SECTIONS[:, 5])
    low, high = np.zeros(azimuth.shape), np.full(azimuth.shape, 240.0)
    for _ in range(24):
        radius = (low + high) / 2
        x, y, z = np.moveaxis(CENTRE + radius[..., None] * direction, -1, 0)
        inside = (y > heights[0]) & (y < heights[-1])
        level = np.clip(y, heights[0] + 1e-3, heights[-1] - 1e-3)
        z = z - middle(level)
        power = np.where(z > 0, exponent(level), 2.0)
        depth2 = np.where(z > 0, front2(level), back2(level))
        section = (x * x / width2(level)) ** (power / 2) + (z * z / depth2) ** (power / 2)
        inside &= section < 1
        low, high = np.where(inside, radius, low), np.where(inside, high, radius)
    return CENTRE + low[..., None] * direction


def _face_relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height in mm that the features add to the smooth front."""
    relief = 3.5 * _hill(x, y, 24, -17, 17, 6)  # brow ridge
    relief -= 7.0 * _hill(x, y, 33, 2, 13, 10)  # eye sockets
    relief -= 8.0 * _hill(x, y, 18, 2, 5.5, 9)  # inner corners
    relief += 6.0 * _hill(x, y, EYE_X, EYE_Y, 10, 8)  # eyeballs behind the lids
    relief -= 1.2 * _hill(x, y, EYE_X, -9, 13, 2.5)  # crease of the upper lid
    relief -= 1.5 * _hill(x, y, 30, 13, 12, 4)  # lower lid
    relief += 3.5 * _hill(x, y, 46, 26, 15, 12)  # cheekbones
    relief -= 2.0 * _hill(x, y, 48, 60, 14, 14)  # hollow of the cheek
    relief -= 2.0 * _hill(x, y, 28, 52, 4, 12)  # beside nose and mouth
    # The nose: a ridge that rises and widens from its root to its tip and ends in an underside.
    along = np.clip((y + 6) / 44, 0, 1.2)
    ridge = 2.0 + 16 * along**1.25
    half_width = 5.5 + 3.5 * along**2
    ridge *= np.exp(-((np.abs(x) / half_width) ** 2.2) / 1.7)
    ridge *= smoothstep(-22, 2, y) * smoothstep(48.5, 43, y)
    tip = 5.5 * _hill(x, y, 0, 38, 7.5, 6.5)
    wings = 8.5 * _hill(x, y, 13, 41.5, 4.2, 5.5) * smoothstep(49, 45, y)
    relief += ridge + tip + wings
    relief += 3.5 * np.exp(-((x / 23) ** 4) / 2) * _hill(0, y, 0, 68, 1, 15)  # teeth behind lips
    relief -= 0.8 * _hill(x, y, 0, 55, 2.5, 4)  # philtrum
    relief += 0.6 * _hill(x, y, 5, 56, 2.5, 4)
    across = np.exp(-((x / 20) ** 4) / 2)
    relief += 3.2 * across * _hill(0, y, 0, 64, 1, 3.0)  # upper lip
    relief += 4.0 * across * _hill(x, y, 0, 75.5, 16, 3.8)  # lower lip
    relief -= 3.0 * np.exp(-((x / 23) ** 6) / 2) * _hill(0, y, 0, MOUTH_Y, 1, 1.6)
    relief -= 2.0 * _hill(x, y, 27, 69.5, 3, 4)  # corners of the mouth
    relief -= 3.0 * _hill(x, y, 0, 86, 14, 4)  # under the lower lip
    relief += 3.0 * _hill(x, y, 0, 100, 13, 8)  # chin
    return relief


@dataclass(frozen=True)
class HeadModel:
    """The template and its displacement fields, on a grid of directions.

    Attributes:
        azimuth, elevation: (R, C) direction of each vertex from CENTRE in degrees, 0 to the front,
            azimuth positive to the image's right, elevation positive downwards.
        rest: (R, C, 3) template in mm.
        place: (R, C, 2) x and y by which features are placed on the front, in mm: what the face
            is painted by.
        shapes: (K, R, C, 3) displacement of one standard deviation of each of `SHAPES`.
        expressions: (E, R, C, 3) displacement of a full expression of each of `EXPRESSIONS`.
        sky: (R, C) share of the sky that a vertex sees, 0..1, estimated.
    """

    azimuth: np.ndarray
    elevation: np.ndarray
    rest: np.ndarray
    place: np.ndarray
    shapes: np.ndarray
    expressions: np.ndarray
    sky: np.ndarray

    def surface(self, shape: np.ndarray, expression: np.ndarray | None = None) -> np.ndarray:
        """(R, C, 3) float32 head of a person's (K,) shape, with an (E,) expression."""
        # Not BLAS: its matrix-vector product is many times slower at this shape.
        surface = self.rest + np.einsum("k,krcd->rcd", shape, self.shapes)
        if expression is not None:
            surface += np.einsum("k,krcd->rcd", expression, self.expressions)
        return surface


def _fields(p: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Displacements of the template's points p (R, C, 3): people's, and expressions'."""
    x, y, z = np.moveaxis(p, -1, 0)
    side = np.sign(x) * np.minimum(np.abs(x) / 12, 1)
    front = smoothstep(5, 60, z)
    zero = np.zeros_like(x)

    def field(dx=zero, dy=zero, dz=zero):
        return np.stack(np.broadcast_arrays(dx, dy, dz), axis=-1).astype(np.float32)

    lower = smoothstep(10, 110, y)
    skull = smoothstep(-5, -110, y)
    jaw = smoothstep(35, 85, y)
    chin = _hill(x, y, 0, 103, 26, 18) * front
    nose = _hill(x, y, 0, 30, 14, 20) * front
    nose_tip = _hill(x, y, 0, 40, 14, 10) * front
    eyes = _hill(x, y, EYE_X, 0, 17, 14) * front
    brows = _hill(x, y, 27, -18, 24, 9) * front
    lips = _hill(x, y, 0, MOUTH_Y, 26, 12) * front
    people = {
        "width": field(dx=0.055 * x),
        "length": field(dz=0.05 * z),
        "skull_height": field(dy=-9 * skull),
        "face_length": field(dy=7 * lower),
        "jaw_width": field(dx=0.085 * x * jaw),
        "gonial_angle": field(dx=0.09 * x * _hill(x, y, 55, 75, 20, 18)),
        "chin_forward": field(dz=4.5 * chin),
        "chin_length": field(dy=4.5 * chin),
        "chin_width": field(dx=3.0 * side * _hill(x, y, 16, 104, 14, 14)),
        "forehead_slope": field(dz=-5 * skull * smoothstep(0, 80, z)),
        "forehead_width": field(dx=0.05 * x * smoothstep(0, -45, y)),
        "back_of_head": field(dz=-7 * smoothstep(20, -80, z) * _hill(0, y, 0, -20, 1, 60)),
        "brow_ridge": field(dz=2.0 * brows),
        "brow_height": field(dy=2.0 * brows),
        "eye_spacing": field(dx=1.8 * side * _hill(x, y, EYE_X, 0, 22, 20) * front),
        "eye_size": field(dx=0.09 * (x - np.sign(x) * EYE_X) * eyes, dy=0.12 * (y - EYE_Y) * eyes),
        "eye_slant": field(dy=-0.07 * (np.abs(x) - EYE_X) * eyes),
        "eye_depth": field(dz=1.8 * eyes),
        "nose_length": field(dy=3.0 * _hill(x, y, 0, 42, 16, 12) * front),
        "nose_projection": field(dz=2.8 * nose_tip),
        "nose_bridge": field(dz=1.8 * _hill(x, y, 0, 10, 9, 14) * front),
        "nose_hump": field(dz=1.4 * _hill(x, y, 0, 20, 7, 7) * front),
        "nose_width": field(dx=0.13 * x * nose),
        "nose_turned_up": field(dy=-2.5 * _hill(x, y, 0, 39, 8, 6) * front),
        "mouth_width": field(dx=0.09 * x * lips),
        "lip_thickness": field(
            dy=0.13 * (y - MOUTH_Y) * _hill(x, y, 0, MOUTH_Y, 22, 7) * front, dz=0.9 * lips
        ),
        "mouth_forward": field(dz=2.0 * _hill(x, y, 0, 66, 28, 16) * front),
        "mouth_height": field(dy=2.2 * lips),
        "cheekbones": field(
            dx=2.0 * side * _hill(x, y, 55, 25, 18, 14), dz=1.5 * _hill(x, y, 48, 25, 16, 12)
        ),
        "cheek_fullness": field(
            dx=3.2 * side * _hill(x, y, 55, 62, 18, 22),
            dz=2.2 * _hill(x, y, 42, 60, 18, 18) * front,
        ),
        "asymmetry": field(dx=1.2 * _hill(0, y, 0, 60, 1, 40) * front),
    }
    below = smoothstep(MOUTH_Y - 0.7, MOUTH_Y + 0.9, y) * front
    inside = np.exp(-((x / 22) ** 4))
    hinge = smoothstep(69, 74, y) * smoothstep(-20, 60, z)
    corner = _hill(x, y, 25, 68, 9, 9) * front
    expressions = {
        # The jaw turns about the ears; the lips part in the middle of the mouth.
        "mouth_open": field(
            dy=18 * below * (0.35 * inside + 0.65 * hinge * np.exp(-((x / 60) ** 4))), dz=-5 * hinge
        ),
        "smile": field(
            dx=5.5 * side * corner,
            dy=-4.5 * corner
            - 2.5 * _hill(x, y, 42, 35, 14, 12) * front
            + 1.2 * _hill(x, y, 0, 77, 12, 5) * front,
            dz=2.5 * _hill(x, y, 40, 36, 13, 10) * front - 3.0 * corner,
        ),
        "lips_part": field(dy=5.0 * below * inside * _hill(0, y, 0, 73, 1, 9)),
        "brows_up": field(dy=-4.0 * brows),
        "frown": field(dy=2.5 * _hill(x, y, 12, -17, 9, 7) * front, dx=-1.5 * side * brows),
        "pout": field(dx=-0.22 * x * lips, dz=4.0 * _hill(x, y, 0, MOUTH_Y, 14, 9) * front),
    }
    return people, expressions


def _sky(rest: np.ndarray) -> np.ndarray:
    """Share of the sky that each vertex sees, 0..1: little in sockets, beside the nose, below."""
    x, y, z = np.moveaxis(rest, -1, 0)
    dark = 0.38 * _hill(x, y, 20, -1, 6, 6) + 0.2 * _hill(x, y, 33, -4, 11, 5)
    dark += 0.25 * _hill(x, y, 18, 40, 3.0, 7) + 0.5 * _hill(x, y, 7, 48, 7, 2.5)
    dark += 0.2 * _hill(x, y, 27, 54, 4, 10) + 0.35 * _hill(x, y, 26, 69.5, 3.5, 2.5)
    dark += 0.28 * np.exp(-((x / 23) ** 4)) * _hill(0, y, 0, MOUTH_Y, 1, 2)
    dark += 0.22 * _hill(x, y, 0, 85, 15, 4)
    dark *= smoothstep(20, 60, z)
    dark += 0.55 * smoothstep(104, 118, y)
    return np.clip(1 - dark, 0.3, 1)


@lru_cache(maxsize=1)
def tilt() -> np.ndarray:
    """(3, 3) float32 rotation from the template's axes to those of a head at pose 0."""
    return pose_to_matrix(np.array((0, TILT, 0), np.float32))


@lru_cache(maxsize=1)
def head_model(rows: int = 76, columns: int = 103) -> HeadModel:
    """The template head; made once, in a few tenths of a second."""
    elevation = _spread(-90, 90, rows, (-24, 52), 3.2)
    half = _spread(0, 180, columns // 2 + 1, (-9, 46), 3.6)
    azimuth = np.concatenate((-half[:0:-1], half))
    azimuth, elevation = np.meshgrid(azimuth, elevation)
    rest = base_surface(np.radians(azimuth), np.radians(elevation))
    x, y, z = np.moveaxis(rest, -1, 0)
    rest[..., 2] += _face_relief(x, y) * smoothstep(25, 60, z)
    place = rest[..., :2].astype(np.float32)
    people, expressions = _fields(rest)
    sky = _sky(rest)
    rest[..., 1] += EYES_LOWER * _around_eyes(y) * smoothstep(-20, 40, z)
    return HeadModel(
        azimuth.astype(np.float32),
        elevation.astype(np.float32),
        rest.astype(np.float32),
        place,
        np.stack(list(people.values())),
        np.stack(list(expressions.values())),
        sky.astype(np.float32),
    )


_probe = np.zeros((1, 1, 3))
SHAPES, EXPRESSIONS = (tuple(fields) for fields in _fields(_probe))
del _probe
