"""How far predicted poses are from true ones, by every measure the field reports.

Everything here is in degrees and numpy. A prediction that is not finite makes every figure it
enters NaN, so that a broken network never looks good.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .rotations import (
    geodesic_degrees,
    matrix_to_pose,
    nearest_rotation,
    pose_to_matrix,
    wrap,
)


@dataclass(frozen=True)
class PoseMetrics:
    """Mean errors over a set of samples, in degrees.

    Attributes:
        yaw, pitch, roll: mean absolute error of each angle, differences taken around the circle.
        mae: the mean of the three. WHENet calls it MAWE, mean absolute wrapped error.
        geodesic: mean angle of the rotation from the predicted to the true pose.
        left, down, front: mean angle between the predicted and the true direction of the head's
            left, down and front vectors, which are the rows of R.
        vmae: the mean of these three (Cao et al., "A Vector-based Representation to Enhance Head
            Pose Estimation", 2021).
    """

    yaw: float
    pitch: float
    roll: float
    mae: float
    geodesic: float
    vmae: float
    left: float
    down: float
    front: float

    def to_dict(self) -> dict[str, float]:
        """The figures by name."""
        return dataclasses.asdict(self)


def pose_metrics(predicted: ArrayLike, true: ArrayLike, legacy: bool = False) -> PoseMetrics:
    """All mean errors of (N, 3) predicted against (N, 3) true poses in degrees.

    Args:
        predicted: (N, 3) yaw, pitch, roll.
        true: (N, 3) yaw, pitch, roll.
        legacy: take each angle's error as 6DRepNet's code does (see `legacy_angle_errors`), with a
            warning; yaw, pitch, roll and mae are then comparable to its published figures only.

    Raises:
        ValueError: the shapes differ or are not (N, 3), or N is 0.
    """
    predicted, true = _poses(predicted, true)
    if predicted.ndim != 2 or len(predicted) == 0:
        raise ValueError(f"metrics need (N, 3) poses with N > 0, not {predicted.shape}")
    angles = (legacy_angle_errors if legacy else angle_errors)(predicted, true).mean(0)
    vectors = vector_errors(predicted, true).mean(0)
    return PoseMetrics(
        yaw=float(angles[0]),
        pitch=float(angles[1]),
        roll=float(angles[2]),
        mae=float(angles.mean()),
        geodesic=float(geodesic_errors(predicted, true).mean()),
        vmae=float(vectors.mean()),
        left=float(vectors[0]),
        down=float(vectors[1]),
        front=float(vectors[2]),
    )


def angle_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(..., 3) absolute differences of the angles in [0, 180]: 179° and −179° differ by 2°."""
    predicted, true = _poses(predicted, true)
    return np.abs(wrap(predicted - true))


def legacy_angle_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(..., 3) differences of yaw, pitch and roll as 6DRepNet's and TokenHPE's tests take them.

    The minimum of |predicted − true + k| over k = 0, ±180 and ±360. It is here to reproduce
    published figures.
    """
    warnings.warn(
        "legacy errors take the minimum over ±180° and ±360°: an angle that is wrong by 180° counts"
        " as right and no error exceeds 90°, which flatters; do not compare them with others'",
        stacklevel=2,
    )
    return shifted_angle_errors(predicted, true)


def shifted_angle_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(..., 3) `legacy_angle_errors` without its warning, for a protocol that is asked for."""
    predicted, true = _poses(predicted, true)
    shifts = np.array([0, 180, -180, 360, -360])
    return np.abs((predicted - true)[..., None] + shifts).min(-1)


def plain_angle_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(..., 3) absolute differences as they are: 179° and −179° differ by 358°."""
    predicted, true = _poses(predicted, true)
    return np.abs(predicted - true)


def twin_angle_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(..., 3) differences as OPAL counts: those of the prediction or of its twin.

    The twin (180 − yaw, pitch ± 180, roll ± 180) is the same rotation. For each sample that of the
    two is taken whose plain differences have the smaller mean; they then go around the circle.
    """
    predicted, true = _poses(predicted, true)
    twin = wrap(180 + predicted * np.array([-1.0, 1.0, 1.0]))
    own, other = plain_angle_errors(predicted, true), plain_angle_errors(twin, true)
    error = np.where((own.mean(-1) <= other.mean(-1))[..., None], own, other)
    return np.minimum(error, np.abs(360 - error))


def align_poses(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(N, 3) predictions turned by the one rotation that brings them nearest to the true poses.

    It removes what a network's and a set's zero differ by (Cobo et al., "On the representation and
    methodology for wide and short range head pose estimation", 2024): the mean of all D · D̂ᵀ, as
    the rotation nearest to their sum, turns every D̂ from the left.
    """
    predicted, true = _poses(predicted, true)
    a, b = pose_to_matrix(predicted), pose_to_matrix(true)
    turn = nearest_rotation((b @ np.swapaxes(a, -1, -2)).mean(0))
    return matrix_to_pose(turn @ a, full_yaw=True)


def geodesic_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(...) angle of the rotation between predicted and true pose, in [0, 180]."""
    predicted, true = _poses(predicted, true)
    return geodesic_degrees(pose_to_matrix(predicted), pose_to_matrix(true))


def vector_errors(predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """(..., 3) angle between predicted and true left, down and front vector, in [0, 180]."""
    predicted, true = _poses(predicted, true)
    # The rows of R are the columns of D up to signs that the two sides share.
    a, b = pose_to_matrix(predicted), pose_to_matrix(true)
    sine = np.linalg.norm(np.cross(a, b, axis=-2), axis=-2)
    cosine = (a * b).sum(-2)
    return np.degrees(np.arctan2(sine, cosine))


def _poses(predicted: ArrayLike, true: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, checked for equal shapes (..., 3); infinite predictions become NaN."""
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if predicted.shape != true.shape or predicted.shape[-1:] != (3,):
        raise ValueError(
            f"poses must be two equal shapes (..., 3): {predicted.shape}, {true.shape}"
        )
    return np.where(np.isfinite(predicted), predicted, np.nan), true
