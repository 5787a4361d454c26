"""What an angle is: poses, rotation matrices, 6D, quaternions, and other people's conventions.

A pose is (..., 3) = (yaw, pitch, roll) in degrees with 300W-LP's signs. Its rotation turns a
frontal head in image axes (x right, y down, z towards the viewer):

    D = Rx(pitch) · Ry(−yaw) · Rz(roll)

6DRepNet and TokenHPE write the same pose as R = Rz(roll) · Ry(yaw) · Rx(pitch) = F · Dᵀ · F with
F = diag(1, −1, 1); WHENet's `rotate_zyx` is Rᵀ. Functions named `..._matrix` speak of D, functions
named `..._r` of R. docs/conventions.md has all of it in words.

All functions take numpy or MLX arrays of any leading shape (see `arrays.as_floats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arrays import Array, as_floats

# cos(yaw) below which yaw counts as ±90° and pitch and roll turn about the same axis.
GIMBAL_LOCK = 1e-6
# Squared lengths up to this are 0: below it a float32 gradient could overflow.
TINY = 1e-30
SQRT_3 = 3**0.5
# The next eigenvector's share shrinks by (1 − gap)^(2^SQUARINGS).
SQUARINGS = 16


def wrap(angle: Array) -> Array:
    """The same angles in (−180, 180] degrees; those inside already are returned exactly."""
    xp, angle = as_floats(angle)
    angle = angle - 360 * xp.round(angle / 360)
    angle = xp.where(angle > 180, angle - 360, angle)
    return xp.where(angle <= -180, angle + 360, angle)


def wrapped_square(difference: Array) -> Array:
    """min(|d|², (360 − |d|)²) of degrees: the square of the shorter way round."""
    wrapped = wrap(difference)
    return wrapped * wrapped


def frobenius_distance(a: Array, b: Array, smooth: float = 1e-12) -> Array:
    """(..., 3, 3) and (..., 3, 3) → (...), the root of the squared differences' sum.

    Args:
        a, b: matrices.
        smooth: added under the root, where the gradient would be infinite at 0.
    """
    xp, a, b = as_floats(a, b)
    return xp.sqrt(xp.square(a - b).sum((-2, -1)) + smooth)


def pose_to_matrix(pose: Array) -> Array:
    """(..., 3) degrees → (..., 3, 3) D = Rx(pitch) · Ry(−yaw) · Rz(roll)."""
    xp, pose = as_floats(pose)
    yaw, pitch, roll = _last(xp.radians(pose))
    sy, sp, sr = xp.sin(yaw), xp.sin(pitch), xp.sin(roll)
    cy, cp, cr = xp.cos(yaw), xp.cos(pitch), xp.cos(roll)
    return _matrix(
        xp,
        [
            [cy * cr, -cy * sr, -sy],
            [cp * sr - sp * sy * cr, cp * cr + sp * sy * sr, -sp * cy],
            [sp * sr + cp * sy * cr, sp * cr - cp * sy * sr, cp * cy],
        ],
    )


def matrix_to_pose(matrix: Array, full_yaw: bool = False) -> Array:
    """(..., 3, 3) D → (..., 3) degrees.

    Two triples give every rotation: (yaw, pitch, roll) and (180 − yaw, pitch + 180, roll + 180).
    At yaw = ±90° (gimbal lock) only a sum or difference of pitch and roll is defined; there roll is
    0. The angles give the matrix back everywhere; if it is not exactly orthogonal, to within
    about its own error.

    Args:
        matrix: rotations, orthogonal up to rounding.
        full_yaw: False takes the triple with yaw within ±90°, as HopeNet and 6DRepNet do. True
            takes the triple with the smaller |pitch| + |roll|, so that a head seen from
            behind has a yaw near 180° (WHENet's rule: pitch and roll within ±90°).
    """
    xp, m = as_floats(matrix)
    cos_yaw = xp.sqrt(m[..., 0, 0] ** 2 + m[..., 0, 1] ** 2)
    yaw = xp.arctan2(-m[..., 0, 2], cos_yaw)
    roll = xp.arctan2(-m[..., 0, 1], m[..., 0, 0])
    roll = xp.where(cos_yaw < GIMBAL_LOCK, 0, roll)
    # D·Rz(−roll) = Rx(pitch)·Ry(−yaw) has the middle column (0, cos pitch, sin pitch). Taking pitch
    # from it makes up for whatever error roll has near gimbal lock.
    sin, cos = xp.sin(roll), xp.cos(roll)
    pitch = xp.arctan2(
        sin * m[..., 2, 0] + cos * m[..., 2, 1], sin * m[..., 1, 0] + cos * m[..., 1, 1]
    )
    pose = xp.degrees(xp.stack([yaw, pitch, roll], -1))
    if full_yaw:
        yaw, pitch, roll = _last(pose)
        other = wrap(xp.stack([180 - yaw, pitch + 180, roll + 180], -1))
        tilt = xp.abs(pitch) + xp.abs(roll)
        pose = xp.where((tilt <= 180)[..., None], pose, other)
    return wrap(pose)


def turned_in_plane(pose: Array, angle: float) -> Array:
    """(..., 3) poses as they look in an image that was turned clockwise by an angle in degrees.

    A pose of NaN stays one.
    """
    xp, pose = as_floats(pose)
    in_plane = pose_to_matrix(xp.array([0.0, 0.0, angle]))
    return matrix_to_pose(in_plane @ pose_to_matrix(pose), full_yaw=True)


def matrix_to_r(matrix: Array) -> Array:
    """D → R or R → D, (..., 3, 3): R = F · Dᵀ · F and D = F · Rᵀ · F."""
    xp, matrix = as_floats(matrix)
    return _signed(xp, xp.swapaxes(matrix, -1, -2), [1, -1, 1], [1, -1, 1])


def pose_to_r(pose: Array) -> Array:
    """(..., 3) degrees → (..., 3, 3) R = Rz(roll)·Ry(yaw)·Rx(pitch) of 6DRepNet and TokenHPE."""
    return matrix_to_r(pose_to_matrix(pose))


def r_to_pose(r: Array, full_yaw: bool = False) -> Array:
    """(..., 3, 3) R of 6DRepNet and TokenHPE → (..., 3) degrees; see `matrix_to_pose`."""
    return matrix_to_pose(matrix_to_r(r), full_yaw)


def rotation_6d_to_matrix(six: Array) -> Array:
    """(..., 6) → (..., 3, 3): two 3-vectors, made orthonormal, as the first two columns.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", 2019, section
    4.2. In 6DRepNet and TokenHPE the result is R, not D. A zero first vector or two parallel ones
    define no rotation; the result is then a singular matrix, and the gradient stays finite.
    """
    xp, six = as_floats(six)
    x = _unit(xp, six[..., :3])
    z = _unit(xp, _cross(xp, x, six[..., 3:]))
    y = _cross(xp, z, x)
    return xp.stack([x, y, z], -1)


def matrix_to_rotation_6d(matrix: Array) -> Array:
    """(..., 3, 3) → (..., 6): the first column, then the second."""
    xp, matrix = as_floats(matrix)
    return xp.concatenate([matrix[..., :, 0], matrix[..., :, 1]], -1)


def nearest_rotation(matrix: Array) -> Array:
    """(..., 3, 3) any matrices → the rotations nearest to them in the least squares sense.

    U·diag(1, 1, det(UVᵀ))·Vᵀ of the singular value decomposition (Levinson et al., "An Analysis of
    SVD for Deep Rotation Estimation", 2020), here by products alone, which every device has: the
    rotation's quaternion is the eigenvector of the largest eigenvalue of a symmetric 4×4 matrix K
    (Horn, "Closed-form solution of absolute orientation using unit quaternions", 1987), and
    squaring K + cI again and again leaves that one. Where several rotations are equally near it is
    one of them; of the zero matrix it is the identity.
    """
    xp, m = as_floats(matrix)
    length = xp.sqrt(xp.sum(m * m, (-2, -1), keepdims=True))
    m = m / xp.where(length > 0, length, 1)
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (_last(row) for row in _rows(m))
    # No eigenvalue of K is below −√3 where M has length 1, so that all are positive here.
    c = SQRT_3
    k = _matrix(
        xp,
        [
            [c + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01],
            [m21 - m12, c + m00 - m11 - m22, m10 + m01, m02 + m20],
            [m02 - m20, m10 + m01, c - m00 + m11 - m22, m21 + m12],
            [m10 - m01, m02 + m20, m21 + m12, c - m00 - m11 + m22],
        ],
    )
    for _ in range(SQUARINGS):
        k = k / (k[..., :1, :1] + k[..., 1:2, 1:2] + k[..., 2:3, 2:3] + k[..., 3:, 3:])
        k = xp.sum(k[..., :, :, None] * k[..., None, :, :], -2)
    return quaternion_to_matrix(_dominant_row(xp, k))


def matrix_to_quaternion(matrix: Array) -> Array:
    """(..., 3, 3) → (..., 4) unit quaternions (w, x, y, z) with w ≥ 0."""
    xp, m = as_floats(matrix)
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (_last(row) for row in _rows(m))
    # Four times the outer product of the quaternion with itself. Each row is the quaternion up to a
    # factor; the one with the largest diagonal entry has no cancellation.
    outer = _matrix(
        xp,
        [
            [1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01],
            [m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20],
            [m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m21 + m12],
            [m10 - m01, m02 + m20, m21 + m12, 1 - m00 - m11 + m22],
        ],
    )
    quaternion = _unit(xp, _dominant_row(xp, outer))
    return xp.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternion: Array) -> Array:
    """(..., 4) quaternions (w, x, y, z), of any length but 0 → (..., 3, 3)."""
    xp, quaternion = as_floats(quaternion)
    w, x, y, z = _last(_unit(xp, quaternion))
    return _matrix(
        xp,
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
    )


def geodesic_radians(a: Array, b: Array) -> Array:
    """Angle of the rotation between two, (..., 3, 3) and (..., 3, 3) → (...) in [0, π] radians.

    atan2 of the relative rotation's sine and cosine: exact near 0 and near π, where an arc cosine
    loses half its digits, and with a gradient that stays finite. At exactly 0 and π, where none is
    defined, the gradient is 0.
    """
    xp, a, b = as_floats(a, b)
    # Written out, because matrix products run in TF32 on some GPUs, good to 1e-3 only.
    relative = xp.sum(a[..., :, :, None] * b[..., :, None, :], -3)  # (..., 3, 3) = Aᵀ · B
    axis = xp.stack(
        [
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ],
        -1,
    )
    trace = relative[..., 0, 0] + relative[..., 1, 1] + relative[..., 2, 2]
    square = xp.sum(axis * axis, -1)
    # The inner choice keeps the square root's infinite slope at 0 out of the gradient.
    positive = square > TINY
    sine = xp.where(positive, xp.sqrt(xp.where(positive, square, 1)), 0)
    cosine = trace - 1
    # A singular matrix can make both 0, where arctan2 has no slope: it counts as far off.
    return xp.arctan2(sine, xp.where(positive | (cosine != 0), cosine, -1))


def geodesic_degrees(a: Array, b: Array) -> Array:
    """`geodesic_radians` in degrees."""
    angle = geodesic_radians(a, b)
    xp, angle = as_floats(angle)
    return xp.degrees(angle)


def axis_endpoints(pose: Array, length: float = 1.0) -> Array:
    """Where the drawn axes end, relative to the head's centre.

    Args:
        pose: (..., 3) degrees.
        length: length of an axis that lies in the image, in pixels.

    Returns:
        (..., 3, 2) x right and y down: of the axis to the picture's right on a frontal head, the
        axis downwards, and the axis out of the face.
    """
    xp, matrix = as_floats(pose_to_matrix(pose))
    return length * xp.swapaxes(matrix[..., :2, :], -1, -2)


def pose_para_to_pose(pose_para: Array) -> Array:
    """300W-LP's and AFLW2000's `Pose_Para`, (..., ≥3) pitch, yaw, roll in radians, ... → pose."""
    xp, para = as_floats(pose_para)
    return xp.degrees(xp.stack([para[..., 1], para[..., 0], para[..., 2]], -1))


def biwi_matrix_to_pose(matrix: Array) -> Array:
    """(..., 3, 3) rotation of BIWI's `frame_*_pose.txt` → (..., 3) degrees by HopeNet's formula.

    BIWI's z axis points away from the viewer, so that the matrix is Rx(−pitch)·Ry(yaw)·Rz(roll).
    """
    xp, matrix = as_floats(matrix)
    return matrix_to_pose(_signed(xp, matrix, [1, 1, -1], [1, 1, -1]))


def biwi_angles_to_pose(angles: Array) -> Array:
    """(..., 3) angles of BIWI's `frame_*_pose.bin`: −pitch, yaw, roll in degrees → pose."""
    xp, angles = as_floats(angles)
    return xp.stack([angles[..., 1], -angles[..., 0], angles[..., 2]], -1)


def dad_matrix_to_pose(matrix: Array) -> Array:
    """(..., 3, 3) rotation of DAD-3DHeads' labels → (..., 3) degrees, yaw within ±90°.

    The labels turn a head with y up into camera axes with y down and z away from the viewer. As in
    the dataset's own benchmark, pitch and roll take the whole circle for heads turned away.
    """
    xp, matrix = as_floats(matrix)
    return matrix_to_pose(_signed(xp, matrix, [1, 1, -1], [1, -1, 1]))


def _last(array: Any) -> list[Any]:
    """The slices along the last axis."""
    return [array[..., i] for i in range(array.shape[-1])]


def _rows(matrix: Any) -> list[Any]:
    """The rows of (..., n, m) as n arrays (..., m)."""
    return [matrix[..., i, :] for i in range(matrix.shape[-2])]


def _matrix(xp: Any, rows: Sequence[Sequence[Any]]) -> Any:
    """n rows of m entries (...) → (..., n, m)."""
    return xp.stack([xp.stack(row, -1) for row in rows], -2)


def _signed(xp: Any, matrix: Any, left: list[int], right: list[int]) -> Any:
    """diag(left) · matrix · diag(right)."""
    return xp.array(left)[:, None] * matrix * xp.array(right)


def _dominant_row(xp: Any, outer: Any) -> Any:
    """Of (..., 4, 4) outer products of a vector with itself, the row of the largest diagonal."""
    best, largest = outer[..., 0, :], outer[..., 0, :1]
    for i in range(1, 4):
        row, diagonal = outer[..., i, :], outer[..., i, i : i + 1]
        best = xp.where(diagonal > largest, row, best)
        largest = xp.maximum(diagonal, largest)
    return best


def _cross(xp: Any, a: Any, b: Any) -> Any:
    """The cross product of (..., 3) with (..., 3)."""
    (ax, ay, az), (bx, by, bz) = _last(a), _last(b)
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _unit(xp: Any, vector: Any) -> Any:
    """The vectors along the last axis at length 1; zero vectors stay zero."""
    square = xp.sum(vector * vector, -1, keepdims=True)
    return vector / xp.sqrt(xp.where(square > TINY, square, 1))
