"""Other programs' angles and matrices ↔ poses; docs/migrating.md shows each in use.

Arrays of any leading shape, numpy or MLX, as everywhere in this package.
"""

from __future__ import annotations

import math
from typing import Any

from .arrays import Array, as_floats
from .rotations import matrix_to_pose, nearest_rotation, pose_to_matrix


def from_sixdrepnet(angles: Array) -> Array:
    """(..., 3) pitch, yaw, roll in degrees, as 6DRepNet's package returns them → pose.

    The signs are ours (`sixdrepnet.regressor.SixDRepNet.predict`).
    """
    xp, angles = as_floats(angles)
    return xp.stack([angles[..., 1], angles[..., 0], angles[..., 2]], -1)


def to_sixdrepnet(pose: Array) -> Array:
    """(..., 3) pose → pitch, yaw, roll in degrees as 6DRepNet's package returns them."""
    return from_sixdrepnet(pose)  # the swap undoes itself


def from_opal(angles: Array) -> Array:
    """(..., 3) yaw, pitch, roll in degrees with OPAL's signs → pose; yaw changes sign."""
    xp, angles = as_floats(angles)
    return angles * xp.array([-1.0, 1.0, 1.0])


def to_opal(pose: Array) -> Array:
    """(..., 3) pose → yaw, pitch, roll in degrees with OPAL's signs."""
    return from_opal(pose)


def from_mediapipe(matrix: Array, full_yaw: bool = True) -> Array:
    """(..., 4, 4) or (..., 3, 3) facial transformation matrices of MediaPipe → poses.

    The matrix moves the canonical face model to the face that the camera sees, in right-handed
    axes: x to the image's right, y up, z towards the viewer (MediaPipe, "Face Mesh", Metric 3D
    space: the camera is at the origin and looks along −z). Position and scale are ignored. In
    JavaScript the 16 numbers are in columns: reshape them to (4, 4) and transpose.

    Args:
        matrix: such as `FaceLandmarkerResult.facial_transformation_matrixes` in Python.
        full_yaw: see `matrix_to_pose`.
    """
    xp, matrix = as_floats(matrix)
    return matrix_to_pose(_y_turned(xp, nearest_rotation(matrix[..., :3, :3])), full_yaw)


def to_mediapipe(pose: Array) -> Array:
    """(..., 3) pose → (..., 4, 4) matrices like MediaPipe's, with the face at the origin."""
    xp, d = as_floats(pose_to_matrix(pose))
    rotation = _y_turned(xp, d)
    beside = xp.concatenate([rotation, xp.zeros_like(rotation[..., :1])], -1)
    below = xp.zeros_like(beside[..., :1, :]) + xp.array([0.0, 0.0, 0.0, 1.0])
    return xp.concatenate([beside, below], -2)


def from_vision(angles: Array) -> Array:
    """(..., 3) yaw, pitch, roll of Apple's Vision in radians → pose.

    Vision counts against the clock where this package counts with it: by the header of
    `VNFaceObservation` roll and yaw are positive counterclockwise and pitch is positive for a head
    that nods down. These are right-handed turns about x to the image's right, y up and z towards
    the viewer, so that a positive yaw turns the nose to the image's right.
    """
    _, angles = as_floats(angles)
    return angles * (-180 / math.pi)


def to_vision(pose: Array) -> Array:
    """(..., 3) pose → yaw, pitch, roll in radians with the signs of Apple's Vision."""
    _, pose = as_floats(pose)
    return pose * (-math.pi / 180)


def _y_turned(xp: Any, matrix: Any) -> Any:
    """A rotation in axes with y up ↔ the same with y down: F · M · F, F = diag(1, −1, 1)."""
    signs = xp.array([1.0, -1.0, 1.0])
    return signs[:, None] * matrix * signs
