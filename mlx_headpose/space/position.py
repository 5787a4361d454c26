"""Where a head is: from its box, its pose, its size and the camera.

A head is taken for an ellipsoid, whose outline in an image is known in closed form: that of the
dual quadric Q* = A − t·tᵀ for an ellipsoid of matrix A around t (Hartley & Zisserman, "Multiple
View Geometry", 2nd edition, section 8.3). The position is the one where the outline's box is the
head's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..pose import pose_to_matrix
from .intrinsics import Camera
from .perspective import IMAGE_TO_CAMERA, face_of, ray_rotation

# Circumference above the brows in mm. Adult medians are 575 for men and 560 for women (ANSUR II,
# 2012); one person in twenty is over 5 % away from them, and so is then the distance.
HEAD_SIZE = 568.0
STEPS = 12


@dataclass(frozen=True)
class Ellipsoid:
    """What a box is drawn around, of a head of `HEAD_SIZE`, in the head's axes from its centre.

    The head's centre lies between the ears, 15 mm before them and below the eyes.

    Attributes:
        centre: (y, z) of the ellipsoid in mm, down and out of the face.
        axes: half axes in mm along the head's x, y and z.
        width_weight: share of the box's width, as against its height, in what tells the distance.
    """

    centre: tuple[float, float]
    axes: tuple[float, float, float]
    width_weight: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Ellipsoid:
        """The ellipsoid of six numbers, in the order of the attributes."""
        y, z, a, b, c, width_weight = numbers
        return cls((y, z), (a, b, c), width_weight)


# Fitted to boxes of rendered people: `python -m bench.accuracy.position --fit`.
SHAPES = {
    "heads": Ellipsoid((-20.6, -9.7), (87.2, 123.7, 116.0), 0.68),
    "faces": Ellipsoid((-0.5, 39.2), (69.3, 95.6, 57.8), 0.5),
    "landmarks": Ellipsoid((22.9, 39.3), (73.1, 72.0, 59.7), 0.64),
}


def outline(shape: Ellipsoid, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Boxes of an ellipsoid's outline in the plane z = 1.

    Args:
        shape: shape of the head.
        turn: (..., 3, 3) D relative to the camera, in image axes.
        place: (..., 3) the head's centre in camera axes, in mm.

    Returns:
        (..., 4) x_min, y_min, x_max, y_max; NaN where the ellipsoid reaches behind the camera.
    """
    axes = turn * IMAGE_TO_CAMERA[:, None]  # columns are the head's axes in camera axes
    middle = place + axes @ np.array([0.0, *shape.centre])
    scaled = axes * np.array(shape.axes)
    quadric = scaled @ np.swapaxes(scaled, -1, -2) - middle[..., :, None] * middle[..., None, :]
    depth = quadric[..., 2, 2]
    sides = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for i in (0, 1):
            cross = quadric[..., i, 2]
            root = np.sqrt(cross**2 - quadric[..., i, i] * depth)
            low, high = (cross + root) / depth, (cross - root) / depth
            sides.append((np.where(depth < 0, low, np.nan), np.where(depth < 0, high, np.nan)))
    (left, right), (top, bottom) = sides
    return np.stack([left, top, right, bottom], -1)


def head_position(
    box: np.ndarray,
    pose: np.ndarray,
    camera: Camera,
    kind: str | Ellipsoid = "faces",
    head_size: float = HEAD_SIZE,
) -> np.ndarray:
    """Positions of heads' centres.

    Args:
        box: (..., 4) x_min, y_min, x_max, y_max in pixels.
        pose: (..., 3) yaw, pitch, roll in degrees, relative to the ray through the face, as a
            network sees it (see `perspective`).
        camera: camera of the image.
        kind: what the boxes bound, as a detector's `finds` has it: "faces" (as YuNet's), whole
            "heads", or "landmarks" (300W's 68); or the ellipsoid of a detector's own boxes.
        head_size: circumference above the brows in mm.

    Returns:
        (..., 3) x to the image's right, y down, z away from the camera, in metres.
    """
    box, pose = np.asarray(box, np.float64), np.asarray(pose, np.float64)
    shape = SHAPES[kind] if isinstance(kind, str) else kind
    x, y = (box[..., 0] + box[..., 2]) / 2, (box[..., 1] + box[..., 3]) / 2
    # The middles of the sides, undistorted one by one.
    middles = np.stack([box[..., 0], y, x, box[..., 1], box[..., 2], y, x, box[..., 3]], -1)
    rays = camera.rays(middles.reshape(*box.shape[:-1], 4, 2))
    seen = np.stack([rays[..., 0, 0], rays[..., 1, 1], rays[..., 2, 0], rays[..., 3, 1]], -1)
    size = np.maximum(seen[..., 2:] - seen[..., :2], 1e-6)
    middle = (seen[..., :2] + seen[..., 2:]) / 2
    ray = np.concatenate([middle, np.ones((*middle.shape[:-1], 1))], -1)
    turn = pose_to_matrix(pose)
    weight = np.array([shape.width_weight, 1 - shape.width_weight])
    depth = 2 * shape.axes[1] / size.mean(-1)
    place = ray * depth[..., None]
    face = place
    for _ in range(STEPS):
        turned = ray_rotation(face) @ turn
        expected = outline(shape, turned, place)
        # A head this near is no case for cameras: it stays at the nearest place that can be seen.
        found = np.isfinite(expected).all(-1)[..., None]
        expected = np.where(found, expected, np.concatenate([middle - 1, middle + 1], -1))
        ratio = np.exp((weight * np.log((expected[..., 2:] - expected[..., :2]) / size)).sum(-1))
        depth = place[..., 2] * ratio
        offset = middle - (expected[..., :2] + expected[..., 2:]) / 2
        flat = place[..., :2] / place[..., 2:] + np.where(found, offset, 0)
        place = np.concatenate([flat * depth[..., None], depth[..., None]], -1)
        face = 1000 * face_of(turned, place / 1000)
    return place * (head_size / HEAD_SIZE) / 1000
