"""A zero: poses relative to a direction that a person once looked in.

With D₀ the mean rotation while the person looked in a direction whose pose is T, later poses are

    D(relative) = T · D₀ᵀ · D

as if the camera had stood where that direction says. A difference of angles would not do: turned by
40°, a head that nods changes all three angles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import read_json, write_json
from ..pose import (
    geodesic_degrees,
    matrix_to_quaternion,
    nearest_rotation,
    pose_to_matrix,
    quaternion_to_matrix,
)
from .perspective import nearest_triple

# Seconds over which a person looks, and what counts as looking in one direction: the mean angle
# from the mean rotation in degrees.
SECONDS = 1.0
MIN_POSES = 5
LONGEST_S = 5.0  # that slow networks are given for so many poses
MAX_SPREAD = 6.0


@dataclass(frozen=True)
class Zero:
    """A direction that poses are relative to.

    Attributes:
        rotation: (3, 3) D₀, the mean rotation while the person looked there.
        direction: (3,) yaw, pitch, roll in degrees that the direction stands for; (0, 0, 0) makes
            it straight ahead.
        name: name of the direction.
        spread: mean angle in degrees from the mean rotation.
    """

    rotation: np.ndarray
    direction: tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = "ahead"
    spread: float = 0.0

    def __call__(self, pose: np.ndarray) -> np.ndarray:
        """(..., 3) poses in degrees → (..., 3) relative ones."""
        pose = np.asarray(pose, np.float64)
        target = pose_to_matrix(np.array(self.direction))
        matrix = target @ self.rotation.T @ pose_to_matrix(pose)
        # Angles that jump between the two triples a rotation has would look like a turned head:
        # the full circle of yaw has no such jumps for upright heads.
        return nearest_triple(matrix, np.zeros_like(pose) + self.direction)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return {
            "zero": self.name,
            "direction": list(self.direction),
            "quaternion": matrix_to_quaternion(self.rotation).tolist(),
            "spread": self.spread,
        }

    @classmethod
    def from_dict(cls, values: Any, path: str | Path) -> Zero:
        """The inverse of `to_dict`.

        Args:
            values: values of an untrusted file.
            path: path of the file.

        Raises:
            InputError: they are no zero.
        """
        if not isinstance(values, dict) or "quaternion" not in values:
            raise InputError(f"{path}: is no zero that mlx-headpose wrote; calibrate again")
        quaternion = _numbers(path, values, "quaternion", 4)
        if np.linalg.norm(quaternion) < 1e-3:
            raise InputError(f"{path}: its quaternion is no rotation; calibrate again")
        yaw, pitch, roll = _numbers(path, {"direction": [0, 0, 0], **values}, "direction", 3)
        (spread,) = _numbers(path, {"spread": [values.get("spread", 0.0)]}, "spread", 1)
        name = str(values.get("zero", "ahead"))[:80]
        direction = float(yaw), float(pitch), float(roll)
        return cls(quaternion_to_matrix(quaternion), direction, name, float(spread))

    def save(self, path: str | Path) -> None:
        """Write a JSON file, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Zero:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, or no zero.
        """
        missing = "no such zero; make it with key c in the camera's window"
        return cls.from_dict(read_json(Path(path), missing), path)


def calibrate(
    poses: Iterable[np.ndarray],
    direction: Iterable[float] = (0.0, 0.0, 0.0),
    name: str = "ahead",
) -> Zero:
    """The zero of a person who looks in one direction.

    Args:
        poses: (3,) yaw, pitch, roll in degrees of each frame while the person looked there.
        direction: yaw, pitch, roll in degrees that the direction stands for.
        name: name of the direction.

    Raises:
        InputError: there are too few poses, or the head did not keep still.
    """
    values = np.array(list(poses), np.float64).reshape(-1, 3)
    if len(values) < MIN_POSES:
        raise InputError(
            f"calibration saw a head in {len(values)} frames only; it needs {MIN_POSES} in which"
            " the person looks in one direction"
        )
    matrices = pose_to_matrix(values)
    mean = nearest_rotation(matrices.mean(0))
    spread = float(geodesic_degrees(matrices, np.broadcast_to(mean, matrices.shape)).mean())
    if not spread <= MAX_SPREAD:
        raise InputError(
            f"the head turned by {spread:.0f}° on average while it was calibrated; look in one"
            " direction and keep still"
        )
    yaw, pitch, roll = direction
    return Zero(mean, (float(yaw), float(pitch), float(roll)), name, spread)


@dataclass
class Calibration:
    """Collects a person's poses for some time.

    Attributes:
        seconds: how long.
        direction, name: see `calibrate`.
    """

    seconds: float = SECONDS
    direction: tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = "ahead"
    poses: list[np.ndarray] = field(default_factory=list)
    begun: float | None = None

    def add(self, time: float, pose: np.ndarray | None) -> Zero | None:
        """Take in the next frame.

        Args:
            time: time of the frame in seconds.
            pose: (3,) of the person's head, or None where it was not found.

        Returns:
            The zero once the time is over, and `MIN_POSES` are there or `LONGEST_S` are over too;
            else None.

        Raises:
            InputError: see `calibrate`.
        """
        if self.begun is None:
            self.begun = time
        if pose is not None:
            self.poses.append(np.asarray(pose, np.float64))
        passed = time - self.begun
        few = len(self.poses) < MIN_POSES and passed < LONGEST_S
        return None if few or passed < self.seconds else self.end()

    def end(self) -> Zero:
        """The zero of the poses so far.

        Raises:
            InputError: see `calibrate`.
        """
        return calibrate(self.poses, self.direction, self.name)


def _numbers(path: str | Path, values: dict[str, Any], key: str, count: int) -> np.ndarray:
    try:
        numbers = np.array(values[key], np.float64).reshape(count)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: its {key} is not {count} numbers; calibrate again") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{path}: its {key} is not finite; calibrate again")
    return numbers
