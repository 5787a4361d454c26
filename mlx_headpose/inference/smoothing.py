"""The One-Euro filter, for plain numbers and for rotations.

Casiez, Roussel & Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems" (CHI 2012): a low-pass filter whose cutoff rises with the speed of the signal,
so that a head at rest does not jitter and a turning head does not lag. Angles are filtered as
rotations: yaw, pitch and roll wrap and mix near ±90°, rotations do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..pose import pose_to_matrix
from ..space.perspective import nearest_triple

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

# Cutoff in Hz of the low-pass filter on the speed, as in the paper.
SPEED_CUTOFF = 1.0


def blend(cutoff: float, dt: float) -> float:
    """Weight of a new sample in a low-pass filter of `cutoff` Hz after `dt` seconds (eq. 3, 4)."""
    rate = 2 * np.pi * cutoff * dt
    return rate / (rate + 1)


class OneEuro:
    """One-Euro filter of a vector.

    Args:
        min_cutoff: cutoff in Hz at rest; lower means less jitter.
        beta: Hz that the cutoff rises per `unit` and second of speed; higher means less lag.
    """

    def __init__(self, min_cutoff: float, beta: float):
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.value: np.ndarray | None = None
        self.speed: np.ndarray | None = None

    def __call__(self, value: np.ndarray, dt: float, unit: float = 1.0) -> np.ndarray:
        """Filter the next value (any shape), `dt` seconds after the one before."""
        value = np.asarray(value, np.float64)
        if self.value is None or self.speed is None:
            self.value, self.speed = value, np.zeros_like(value)
            return value
        dt = max(dt, 1e-6)
        step = value - self.value
        self.speed = self.speed + blend(SPEED_CUTOFF, dt) * (step / dt - self.speed)
        cutoff = self.min_cutoff + self.beta * float(np.linalg.norm(self.speed)) / unit
        self.value = self.value + blend(cutoff, dt) * step
        return self.value


class PoseFilter:
    """One-Euro filter of a pose, on the rotations.

    The same filter, with the rotation vector between the last filtered and the new rotation in
    place of the difference of values.

    Args:
        min_cutoff: cutoff in Hz at rest.
        beta: Hz that the cutoff rises per degree and second of speed.
    """

    def __init__(self, min_cutoff: float = 0.7, beta: float = 0.04):
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.rotation: Rotation | None = None
        self.speed = np.zeros(3)

    def __call__(self, pose: np.ndarray, dt: float) -> np.ndarray:
        """Filter the next pose.

        Args:
            pose: (3,) yaw, pitch, roll in degrees.
            dt: seconds since the pose before.

        Returns:
            (3,) the filtered pose; of its two triples the one nearer to `pose`.
        """
        from scipy.spatial.transform import Rotation  # slow to import, for videos alone

        pose = np.asarray(pose, np.float64)
        rotation = Rotation.from_matrix(pose_to_matrix(pose))
        if self.rotation is None:
            self.rotation = rotation
            return pose
        dt = max(dt, 1e-6)
        step = np.degrees((self.rotation.inv() * rotation).as_rotvec())  # (3,)
        self.speed = self.speed + blend(SPEED_CUTOFF, dt) * (step / dt - self.speed)
        cutoff = self.min_cutoff + self.beta * float(np.linalg.norm(self.speed))
        turn = Rotation.from_rotvec(np.radians(blend(cutoff, dt) * step))
        self.rotation = self.rotation * turn
        return nearest_triple(self.rotation.as_matrix(), pose)
