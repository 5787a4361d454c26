"""Poses, shapes and cameras of a set of built-in heads: all that landmarks and boxes follow from.

Sample i takes row i of one stream of random numbers, so it is the same whatever the set's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from ...space.perspective import as_placed
from ..people import Cameras, People, on_axis
from ..person import Person, sample_person
from .landmarks import FEATURES_68, Placement, jaw_placement, mediapipe_placement
from .scene import BuiltInScene, sample_shot
from .shape import EXPRESSIONS, PIVOT, SHAPES, head_model, tilt

# How a woman's average differs from everybody's, in standard deviations; a man's, the other way.
_FEMININE = {
    "jaw_width": -0.5, "brow_ridge": -0.5, "chin_length": -0.3, "nose_width": -0.3,
    "lip_thickness": 0.35, "eye_size": 0.3, "nose_projection": -0.2, "gonial_angle": -0.4,
    "face_length": -0.2, "length": -0.2,
}  # fmt: skip
COLUMNS = 3 + 1 + len(SHAPES) + 9 + 4


class BuiltInPeople(People):
    """N samples of the built-in heads, each of another person.

    Attributes:
        feminine: (N,) bool.
        shapes: (N, K) float32 weights of `shape.SHAPES`.
        expressions: (N, E) float32 weights of `shape.EXPRESSIONS`.

    Args:
        seed: random seed of the set and its split.
        count: N.
        limits: (3, 2) lowest and highest yaw, pitch and roll, between which poses are uniform.
    """

    hair_margin = 8.0
    picture_stream = 3

    def __init__(self, seed: tuple[int, ...], count: int, limits: np.ndarray):
        self.seed = seed
        rows = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        pose, feminine, shape, mood, view = np.split(
            rows.random((count, COLUMNS)), np.cumsum((3, 1, len(SHAPES), 9)), axis=1
        )
        poses = limits[:, 0] + pose * (limits[:, 1] - limits[:, 0])
        self.seen = poses.astype(np.float32)
        self.feminine = feminine[:, 0] < 0.5
        shapes = ndtri(0.011 + 0.978 * shape)
        tendency = np.array([_FEMININE.get(name, 0.0) for name in SHAPES])
        shapes += np.where(self.feminine[:, None], tendency, -tendency)
        self.shapes = shapes.astype(np.float32)
        self.expressions = _expressions(mood)
        self.cameras = Cameras(
            np.exp(np.log(450) + view[:, 0] * np.log(2600 / 450)),
            0.0024 + 0.0014 * view[:, 1],
            0.43 + 0.14 * view[:, 2:],
        )
        places = on_axis(self.cameras.distances)
        self.poses = as_placed(self.seen, places).astype(np.float32)

    def person(self, number: int) -> Person:
        """The person of sample `number`."""
        return sample_person(self.stream(number, 2), bool(self.feminine[number]))

    def scene(self, number: int, pose: np.ndarray, rng: np.random.Generator) -> BuiltInScene:
        del rng  # expression and shoulders have a stream of their own
        shot = sample_shot(self.stream(number, 4), self.expressions[number])
        return BuiltInScene(self.person(number), self.shapes[number], shot, pose)

    def landmarks(self, numbers: np.ndarray) -> np.ndarray:
        return points_468().of(self.shapes[numbers], self.expressions[numbers])

    def frontal_landmarks(self, number: int) -> np.ndarray:
        return points_468().of(self.shapes[number])

    def points_68(self, numbers: np.ndarray) -> np.ndarray:
        return points_68().of(self.shapes[numbers], self.expressions[numbers])

    def outline(self, numbers: np.ndarray) -> np.ndarray:
        return points_head().of(self.shapes[numbers], self.expressions[numbers])


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
