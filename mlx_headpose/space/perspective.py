"""Angles of heads off the optical axis.

A network sees a crop. Of a head that lies off the axis it therefore tells the pose relative to the
ray from the head to the camera: the pose that a camera turned towards the head would see. Relative
to the camera itself the head is turned further, by the rotation W from the axis to the ray:

    D(camera) = W · D(ray)

W is the smallest such rotation, as for a camera that pans and tilts towards the head without
rolling. Zhang et al., "Revisiting Data Normalization for Appearance-Based Gaze Estimation" (ETRA
2018), use the same two frames.
"""

from __future__ import annotations

import numpy as np

from ..pose import matrix_to_pose, pose_to_matrix, wrap

# Cosine of the angle from the axis to a ray below which W is not defined: straight behind the
# camera.
BEHIND = -1 + 1e-9


def ray_rotation(ray: np.ndarray) -> np.ndarray:
    """Directions from the camera to heads → W.

    Args:
        ray: (..., 3) in camera axes, of any length.

    Returns:
        (..., 3, 3) in image axes.
    """
    ray = np.asarray(ray, np.float64)
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
    # In image axes z points to the viewer: the head that looks into the camera has its face along
    # minus the ray.
    x, y, z = -ray[..., 0], -ray[..., 1], ray[..., 2]
    scale = 1 / (1 + np.maximum(z, BEHIND))
    return np.stack(
        [
            np.stack([1 - x * x * scale, -x * y * scale, x], -1),
            np.stack([-x * y * scale, 1 - y * y * scale, y], -1),
            np.stack([-x, -y, z], -1),
        ],
        -2,
    )


def relative_to_camera(pose: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Poses relative to the ray → poses relative to the camera.

    Args:
        pose: (..., 3) yaw, pitch, roll in degrees.
        ray: (..., 3) directions from the camera to the heads, in camera axes.

    Returns:
        (..., 3) degrees.
    """
    return nearest_triple(ray_rotation(ray) @ pose_to_matrix(pose), pose)


def relative_to_ray(pose: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """The inverse of `relative_to_camera`."""
    turned = np.swapaxes(ray_rotation(ray), -1, -2) @ pose_to_matrix(pose)
    return nearest_triple(turned, pose)


def nearest_triple(matrix: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Of the two triples of angles that (..., 3, 3) D have, the ones nearer to (..., 3) poses."""
    narrow, full = matrix_to_pose(matrix), matrix_to_pose(matrix, full_yaw=True)
    nearer = np.abs(wrap(narrow - pose)).sum(-1) <= np.abs(wrap(full - pose)).sum(-1)
    return np.where(nearer[..., None], narrow, full)
