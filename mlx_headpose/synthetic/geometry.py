"""Poses, shapes and cameras of a whole set at once: all that landmarks and boxes follow from.

Sample i takes row i of one stream of random numbers, so it is the same whatever the set's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from .landmarks import FEATURES_68, Placement, jaw_placement, mediapipe_placement
from .shape import EXPRESSIONS, PIVOT, SHAPES, head_model, tilt

# How a woman's average differs from everybody's, in standard deviations; a man's, the other way.
_FEMININE = {
    "jaw_width": -0.5, "brow_ridge": -0.5, "chin_length": -0.3, "nose_width": -0.3,
    "lip_thickness": 0.35, "eye_size": 0.3, "nose_projection": -0.2, "gonial_angle": -0.4,
    "face_length": -0.2, "length": -0.2,
}  # fmt: skip
# How much further out a loose box's x_min, y_min, x_max, y_max may lie, of its size.
LOOSE = np.array((-0.8, -0.25, 0.8, 0.5))
COLUMNS = 3 + 1 + len(SHAPES) + 9 + 4


@dataclass(frozen=True)
class Geometry:
    """Of N samples; the first axis is the sample's.

    Attributes:
        poses: (N, 3) float32 yaw, pitch, roll in degrees.
        feminine: (N,) bool.
        shapes: (N, K) float32 weights of `shape.SHAPES`.
        expressions: (N, E) float32 weights of `shape.EXPRESSIONS`.
        distances: (N,) from camera to head in mm.
        scales: (N,) sides of the picture per mm at the head.
        shifts: (N, 2) place of the head's pivot in the picture, whose side is 1.
    """

    poses: np.ndarray
    feminine: np.ndarray
    shapes: np.ndarray
    expressions: np.ndarray
    distances: np.ndarray
    scales: np.ndarray
    shifts: np.ndarray


def draw_geometry(seed: np.random.SeedSequence, count: int, limits: np.ndarray) -> Geometry:
    """Draw `count` samples.

    Args:
        seed: of the set.
        count: N.
        limits: (3, 2) lowest and highest yaw, pitch and roll, drawn uniformly.
    """
    uniform = np.random.Generator(np.random.PCG64(seed)).random((count, COLUMNS))
    pose, feminine, shape, mood, view = np.split(uniform, np.cumsum((3, 1, len(SHAPES), 9)), axis=1)
    poses = limits[:, 0] + pose * (limits[:, 1] - limits[:, 0])
    is_feminine = feminine[:, 0] < 0.5
    shapes = ndtri(0.011 + 0.978 * shape)
    tendency = np.array([_FEMININE.get(name, 0.0) for name in SHAPES])
    shapes += np.where(is_feminine[:, None], tendency, -tendency)
    return Geometry(
        poses.astype(np.float32),
        is_feminine,
        shapes.astype(np.float32),
        _expressions(mood),
        np.exp(np.log(450) + view[:, 0] * np.log(2600 / 450)),
        0.0024 + 0.0014 * view[:, 1],
        0.43 + 0.14 * view[:, 2:],
    )


def _expressions(u: np.ndarray) -> np.ndarray:
    """(N, 9) uniform numbers → (N, E) float32 weights."""
    weight = {name: np.zeros(len(u)) for name in EXPRESSIONS}
    smiles = u[:, 0] < 0.45
    weight["smile"] = smiles * (0.2 + 0.9 * u[:, 1])
    weight["lips_part"] = np.where(
        smiles, np.maximum(1.9 * u[:, 2] - 0.7, 0), (u[:, 2] < 0.2) * 4 * u[:, 2]
    )
    weight["mouth_open"] = (u[:, 3] < 0.2) * (0.1 + 0.8 * u[:, 4])
    weight["pout"] = (u[:, 5] < 0.08) * ~smiles * (0.2 + 0.7 * u[:, 6])
    weight["brows_up"] = (u[:, 7] < 0.2) * (0.2 + 0.8 * u[:, 8])
    weight["frown"] = (u[:, 7] > 0.8) * (0.2 + 0.8 * u[:, 8])
    return np.stack([weight[name] for name in EXPRESSIONS], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Points:
    """Points of the head's surface as functions of shape and expression, without the surface.

    Attributes:
        rest: (L, 3) on the average head at pose 0, from the pivot, in mm.
        shapes: (K, L, 3) and expressions: (E, L, 3) displacements.
    """

    rest: np.ndarray
    shapes: np.ndarray
    expressions: np.ndarray

    def of(self, shapes: np.ndarray, expressions: np.ndarray | None = None) -> np.ndarray:
        """(..., K) shapes and (..., E) expressions → (..., L, 3) float32 mm."""
        points = self.rest + np.tensordot(shapes, self.shapes, 1)
        if expressions is not None:
            points += np.tensordot(expressions, self.expressions, 1)
        return points.astype(np.float32)


def _points(placement: Placement) -> Points:
    model, to_head = head_model(), tilt().T
    return Points(
        (placement.on(model.rest) - PIVOT.astype(np.float32)) @ to_head,
        np.stack([placement.on(field) for field in model.shapes]) @ to_head,
        np.stack([placement.on(field) for field in model.expressions]) @ to_head,
    )


@lru_cache(maxsize=1)
def points_468() -> Points:
    """MediaPipe's landmarks."""
    return _points(mediapipe_placement())


@lru_cache(maxsize=1)
def points_68() -> Points:
    """300W's landmarks: the jaw, then MediaPipe's points at the other places."""
    jaw, mesh, chosen = _points(jaw_placement()), points_468(), list(FEATURES_68)
    return Points(
        np.concatenate((jaw.rest, mesh.rest[chosen])),
        np.concatenate((jaw.shapes, mesh.shapes[:, chosen]), axis=1),
        np.concatenate((jaw.expressions, mesh.expressions[:, chosen]), axis=1),
    )


@lru_cache(maxsize=1)
def points_head() -> Points:
    """A coarse net over the whole bald head."""
    around, height = np.arange(-180.0, 180.0, 20), np.array([-88, -70, -50, -30, -10, 10, 30, 50])
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(around, height))
    nose_tip = 12.0
    azimuth, elevation = np.append(azimuth, 0.0), np.append(elevation, nose_tip)
    return _points(Placement(head_model(), azimuth, elevation))


def boxes_of(
    points: Points, geometry: Geometry, turns: np.ndarray, margin: float = 0
) -> np.ndarray:
    """(N, 4) float64 boxes of projected points in pictures of side 1.

    Args:
        points: which.
        geometry: of N samples.
        turns: (N, 3, 3) rotations of the heads.
        margin: mm that the surface lies outside of the points.
    """
    boxes = np.empty((len(turns), 4))
    for start in range(0, len(turns), 1024):
        part = slice(start, start + 1024)
        places = points.of(geometry.shapes[part], geometry.expressions[part])
        places = places @ np.swapaxes(turns[part], 1, 2)
        near = geometry.distances[part, None] / (geometry.distances[part, None] - places[..., 2])
        scale, shift = geometry.scales[part, None], geometry.shifts[part]
        flat = places[..., :2] * (near * scale)[..., None] + shift[:, None]
        boxes[part, :2] = flat.min(axis=1) - margin * scale
        boxes[part, 2:] = flat.max(axis=1) + margin * scale
    return boxes


def disturbed(boxes: np.ndarray, seed: tuple[int, ...], jitter: float, loose: float) -> np.ndarray:
    """(N, 4) boxes as finders of faces and published sets draw them: not quite around the face.

    Args:
        boxes: (N, 4) exact ones.
        seed: of what is drawn; box i is the same whatever their number.
        jitter: standard deviation of the sides, relative to the box's size.
        loose: share of the boxes whose sides lie further out, by up to `LOOSE` of their size.
    """
    extent = np.tile(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), 2)
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*seed, 1))))
    boxes = boxes + jitter * noise.standard_normal(boxes.shape) * extent
    loosened = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*seed, 5))))
    chance, growth = np.split(loosened.random((len(boxes), 5)), (1,), axis=1)
    return boxes + (chance < loose) * growth * LOOSE * extent
