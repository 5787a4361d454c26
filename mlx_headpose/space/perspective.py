"""Angles of heads off the optical axis.

A network sees a crop. Of a head that lies off the axis it therefore tells the pose relative to the
ray from the face to the camera: the pose that a camera turned towards the face would see. Relative
to the camera itself the head is turned further, by the rotation W from the axis to the ray:

    D(camera) = W · D(ray)

W is the smallest such rotation, as for a camera that pans and tilts towards the head without
rolling. Zhang et al., "Revisiting Data Normalization for Appearance-Based Gaze Estimation" (ETRA
2018), use the same two frames, and warp the image into that of the turned camera, because off the
axis a lens also stretches heads outwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..pose import matrix_to_pose, pose_to_matrix, wrap

if TYPE_CHECKING:
    from .intrinsics import Camera

# Cosine of the angle from the axis to a ray below which W is not defined: straight behind the
# camera.
BEHIND = -1 + 1e-9
# Cosine of the angle from the axis up to which the stretch is below half a percent.
NEAR_AXIS = np.cos(np.radians(4.0))
# Metres from a head's centre to the middle of its 68 landmarks, straight ahead.
FACE_DEPTH = 0.054
ROUNDS = 8  # of `as_placed`, each nearer by the head's distance over `FACE_DEPTH`
# A straightened image reaches so many times the box's longer side, which has at most so many
# pixels: more than any network reads.
REACH, LARGEST = 3.0, 224
LEAST_DEPTH = 0.1  # of the corners of that image before the camera, where the head has 1
IMAGE_TO_CAMERA = np.array([1.0, 1.0, -1.0])  # z points to the viewer in image axes
CAMERA_AXES = np.diag(IMAGE_TO_CAMERA)


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


def face_of(turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Where the middles of faces are.

    Args:
        turn: (..., 3, 3) D relative to the camera.
        place: (..., 3) the heads' centres in metres, in camera axes.

    Returns:
        (..., 3) metres.
    """
    return place + FACE_DEPTH * turn[..., :, 2] @ CAMERA_AXES


def as_seen(pose: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Poses relative to the camera → relative to the rays through the faces, as crops show them.

    A face lies before the point about which a head turns: in profile and 1 m away by 3 degrees.

    Args:
        pose: (..., 3) yaw, pitch, roll in degrees.
        place: (..., 3) the heads' centres in metres, in camera axes.
    """
    pose = np.asarray(pose, np.float64)
    return relative_to_ray(pose, face_of(pose_to_matrix(pose), place))


def as_placed(seen: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The inverse of `as_seen`."""
    seen = np.asarray(seen, np.float64)
    placed = relative_to_camera(seen, place)
    for _ in range(ROUNDS):
        placed = relative_to_camera(seen, face_of(pose_to_matrix(placed), place))
    return placed


def nearest_triple(matrix: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Of the two triples of angles that (..., 3, 3) D have, the ones nearer to (..., 3) poses."""
    narrow, full = matrix_to_pose(matrix), matrix_to_pose(matrix, full_yaw=True)
    nearer = np.abs(wrap(narrow - pose)).sum(-1) <= np.abs(wrap(full - pose)).sum(-1)
    return np.where(nearer[..., None], narrow, full)


def straightened(
    image: np.ndarray, box: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """A head as the same camera would show it if it were turned towards the head.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) around the head or its face, in pixels.
        camera: camera of the image. Of its distortion the part that is a homography is undone.

    Returns:
        The surroundings of the box as (n, n, 3) uint8, black outside of the image, and the box in
        it; or both as they are where the head lies near the optical axis, or at the very edge of
        what a camera can see.
    """
    x, y = (box[:2] + box[2:]) / 2
    ray = camera.rays(np.array([x, y]))
    if ray[2] / np.linalg.norm(ray) > NEAR_AXIS:
        return image, box
    turn = CAMERA_AXES @ ray_rotation(ray) @ CAMERA_AXES  # from the turned camera's axes
    sides = np.array([[box[0], y], [x, box[1]], [box[2], y], [x, box[3]]])
    seen = camera.rays(sides) @ turn
    flat = seen[:, :2] / seen[:, 2:]
    straight = np.array([flat[0, 0], flat[1, 1], flat[2, 0], flat[3, 1]])
    longer = (straight[2:] - straight[:2]).max()
    scale = min(1.0, LARGEST / (longer * camera.fx))
    focal = camera.fx * scale
    start = (straight[:2] + straight[2:]) / 2 - REACH / 2 * longer
    side = max(1, round(REACH * longer * focal))
    corners = np.array([[0.0, 0.0], [side, 0.0], [0.0, side], [side, side]])
    rays = np.column_stack((start + corners / focal, np.ones(4))) @ turn.T
    if (rays[:, 2] < LEAST_DEPTH * np.linalg.norm(ray) / ray[2]).any():
        return image, box
    # With distortion no homography is right everywhere; this one is at the box's corners.
    spots = np.array([[box[i], box[j]] for j in (1, 3) for i in (0, 2)])
    seen = camera.rays(spots) @ turn
    around = homography((seen[:, :2] / seen[:, 2:] - start) * focal, spots)
    source = mapped(around, corners)
    # Only this part of an image, which may be huge, is scaled down and warped.
    height, width = image.shape[:2]
    low = np.clip(np.floor(source.min(0)), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(source.max(0)), low + 1, (width, height)).astype(int)
    part = Image.fromarray(image[low[1] : high[1], low[0] : high[0]])
    times = max(1, int(1 / scale))
    part = part.reduce(times) if times > 1 else part
    coefficients = homography(corners, (source - low) / times)
    warped = part.transform(
        (side, side), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(warped), (straight - np.tile(start, 2)) * focal


def mapped(coefficients: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """(N, 2) points as the coefficients of a `homography` map them."""
    a, b, c, d, e, f, g, h = coefficients
    matrix = np.array([[a, b, c], [d, e, f], [g, h, 1.0]])
    straight = np.column_stack((points, np.ones(len(points)))) @ matrix.T
    return straight[:, :2] / straight[:, 2:]


def homography(points: np.ndarray, others: np.ndarray) -> tuple[float, ...]:
    """Eight coefficients a .. h of the map from four (4, 2) points to four others, as PIL has it:
    ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))."""
    rows = []
    for (x, y), (u, v) in zip(points, others, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return tuple(np.linalg.solve(np.array(rows), others.ravel()).tolist())
