"""Rotations: inverses, composition, gimbal lock, noise, half precision and gradients."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from mlx_headpose import pose

moderate = settings(max_examples=100, deadline=None, derandomize=True)


def angles(limit):
    """Angles in ±limit, whole degrees and quarter turns among them."""
    return st.floats(-limit, limit) | st.integers(-limit, limit).map(float)


poses = st.tuples(angles(180), angles(180), angles(180)).map(np.array)
frontal = st.tuples(angles(89), angles(179), angles(179)).map(np.array)
rotations = poses.map(pose.pose_to_matrix)


def close(a, b, atol=1e-9):
    np.testing.assert_allclose(np.array(a), np.array(b), atol=atol)


def turn(axis, degrees):
    degrees = np.asarray(degrees)
    flat = Rotation.from_euler(axis, degrees.reshape(-1, 1), degrees=True).as_matrix()
    return flat.reshape(*degrees.shape, 3, 3)


# Signs: a positive angle's effect on the nose (third column), in image axes.
@pytest.mark.parametrize(
    ("degrees", "column", "direction"),
    [
        ((30, 0, 0), 2, (-0.5, 0, 0.75**0.5)),  # yaw: nose to the image's left
        ((0, 30, 0), 2, (0, -0.5, 0.75**0.5)),  # pitch: nose up
        ((0, 0, 30), 0, (0.75**0.5, 0.5, 0)),  # roll: the image's right side of the head down
    ],
)
def test_signs(degrees, column, direction):
    close(pose.pose_to_matrix(np.array(degrees))[:, column], direction)


@moderate
@given(poses)
def test_factors(p):
    yaw, pitch, roll = p
    close(pose.pose_to_matrix(p), turn("x", pitch) @ turn("y", -yaw) @ turn("z", roll))
    close(pose.pose_to_r(p), turn("z", roll) @ turn("y", yaw) @ turn("x", pitch))


@moderate
@given(poses)
def test_mirrored_head_negates_yaw_and_roll(p):
    mirror = np.diag([-1, 1, 1])
    close(
        pose.pose_to_matrix(p * [-1, 1, -1]),
        mirror @ pose.pose_to_matrix(p) @ mirror,
    )


@moderate
@given(st.sampled_from([0, 1, 2]), angles(180), angles(180))
def test_turns_about_one_axis_add_up(axis, a, b):
    one, two, both = (np.eye(3)[axis] * degrees for degrees in (a, b, a + b))
    close(pose.pose_to_matrix(one) @ pose.pose_to_matrix(two), pose.pose_to_matrix(both))
    close(pose.pose_to_r(one) @ pose.pose_to_r(two), pose.pose_to_r(both))


@moderate
@given(rotations, rotations)
def test_composition(a, b):
    # R = F · Dᵀ · F reverses the order.
    close(pose.matrix_to_r(a @ b), pose.matrix_to_r(b) @ pose.matrix_to_r(a))
    (w, *v), (x, *u) = pose.matrix_to_quaternion(a), pose.matrix_to_quaternion(b)
    product = [w * x - np.dot(v, u), *(w * np.array(u) + x * np.array(v) + np.cross(v, u))]
    close(pose.quaternion_to_matrix(np.array(product)), a @ b)
    back = pose.pose_to_matrix(pose.matrix_to_pose(a @ b))
    assert pose.geodesic_degrees(back, a @ b) < 1e-3


@moderate
@given(frontal)
def test_pose_round_trip(p):
    close(pose.wrap(pose.matrix_to_pose(pose.pose_to_matrix(p)) - p), np.zeros(3), 1e-6)
    close(pose.wrap(pose.r_to_pose(pose.pose_to_r(p)) - p), np.zeros(3), 1e-6)


@moderate
@given(st.tuples(angles(180), angles(89), angles(89)).map(np.array))
def test_full_yaw_round_trip(p):
    if abs(abs(p[0]) - 90) < 0.01:  # gimbal lock
        return
    result = pose.matrix_to_pose(pose.pose_to_matrix(p), full_yaw=True)
    close(pose.wrap(result - p), np.zeros(3), 1e-6)


def test_head_from_behind():
    matrix = pose.pose_to_matrix(np.array([170.0, 10, -5]))
    close(pose.matrix_to_pose(matrix), [10, -170, 175])
    close(pose.matrix_to_pose(matrix, full_yaw=True), [170, 10, -5])


@moderate
@given(rotations, st.booleans())
@example(pose.pose_to_matrix(np.array([90.0, 20, 30])), False)
@example(pose.pose_to_matrix(np.array([-90.0, 20, 30])), True)
def test_matrix_round_trip_everywhere(matrix, full_yaw):
    result = pose.matrix_to_pose(matrix, full_yaw)
    assert np.all(result > -180)
    assert np.all(result <= 180)
    close(pose.pose_to_matrix(result), matrix, 3e-6)
    close(pose.matrix_to_r(pose.matrix_to_r(matrix)), matrix)


@pytest.mark.parametrize("yaw", [90, -90])
@pytest.mark.parametrize("offset", [0, 1e-9, 1e-5, 1e-4, 1e-3])
def test_gimbal_lock(yaw, offset):
    p = np.array([yaw - np.sign(yaw) * offset, 25.0, 40.0])
    matrix = pose.pose_to_matrix(p)
    result = pose.matrix_to_pose(matrix)
    if np.cos(np.radians(p[0])) < 1e-6:
        assert result[2] == 0
        close(result, [p[0], 25 + 40 if yaw < 0 else 25 - 40, 0], 1e-4)
        close(pose.pose_to_matrix(result), matrix, 1e-6)
    else:
        close(result, p, 1e-6)


@moderate
@given(rotations, arrays(float, (3, 3), elements=st.floats(-1e-4, 1e-4)))
@example(pose.pose_to_matrix(np.array([90.0, 20, 30])), np.full((3, 3), 1e-4))
def test_matrix_with_noise(matrix, noise):
    result = pose.pose_to_matrix(pose.matrix_to_pose(matrix + noise))
    assert pose.geodesic_degrees(result, matrix) < 0.1
    result = pose.quaternion_to_matrix(pose.matrix_to_quaternion(matrix + noise))
    assert pose.geodesic_degrees(result, matrix) < 0.1


@moderate
@given(st.floats(-1e6, 1e6))
@example(180.0)
@example(-180.0)
@example(np.nextafter(180.0, 200))
@example(np.nextafter(-180.0, 0))
@example(540.0)
def test_wrap(angle):
    wrapped = pose.wrap(angle)
    assert -180 < wrapped <= 180
    assert abs((wrapped - angle) / 360 - round((wrapped - angle) / 360)) < 1e-9
    assert pose.wrap(wrapped) == wrapped
    assert -180 < pose.wrap(mx.array(angle)).item() <= 180


@moderate
@given(arrays(float, 6, elements=st.floats(-5, 5)))
def test_6d_is_gram_schmidt(six):
    a, b = six[:3], six[3:]
    if np.linalg.norm(np.cross(a, b)) < 1e-3:
        return
    matrix = pose.rotation_6d_to_matrix(six)
    close(matrix.T @ matrix, np.eye(3))
    assert np.linalg.det(matrix) > 0
    close(matrix[:, 0] * np.linalg.norm(a), a)
    assert matrix[:, 1] @ b > 0
    close(matrix[:, 2] @ b, 0)


@moderate
@given(rotations)
def test_6d_round_trip(matrix):
    close(pose.rotation_6d_to_matrix(pose.matrix_to_rotation_6d(matrix)), matrix)


@moderate
@given(rotations)
@example(np.eye(3))
@example(np.diag([1.0, -1, -1]))
@example(np.diag([-1.0, 1, -1]))
@example(np.diag([-1.0, -1, 1]))
def test_quaternion(matrix):
    quaternion = pose.matrix_to_quaternion(matrix)
    w, *xyz = quaternion
    assert w >= 0
    assert np.isclose(np.linalg.norm(quaternion), 1)
    close(Rotation.from_quat([*xyz, w]).as_matrix(), matrix)
    close(pose.quaternion_to_matrix(quaternion), matrix)
    close(pose.quaternion_to_matrix(-3 * quaternion), matrix)


@pytest.mark.parametrize("axis", np.eye(3))
@pytest.mark.parametrize("tilt", [1e-3, 1e-6, 1e-8, 1e-10])
def test_quaternion_of_nearly_half_a_turn(axis, tilt):
    rng = np.random.default_rng(0)
    for _ in range(20):
        turn = np.pi * (axis + tilt * rng.normal(size=3))
        matrix = Rotation.from_rotvec(turn).as_matrix()
        close(pose.quaternion_to_matrix(pose.matrix_to_quaternion(matrix)), matrix, 1e-12)


@moderate
@given(rotations, rotations, rotations)
def test_geodesic_is_a_metric_that_rotations_keep(a, b, c):
    distance = pose.geodesic_radians(a, b)
    assert 0 <= distance <= np.pi
    close(distance, Rotation.from_matrix(a.T @ b).magnitude(), 1e-7)
    close(distance, pose.geodesic_radians(b, a))
    close(distance, pose.geodesic_radians(c @ a, c @ b), 1e-7)
    close(distance, pose.geodesic_radians(a @ c, b @ c), 1e-7)
    around = pose.geodesic_radians(a, c) + pose.geodesic_radians(c, b)
    assert distance <= around + 1e-7
    # R and D tell the same distance.
    close(distance, pose.geodesic_radians(pose.matrix_to_r(a), pose.matrix_to_r(b)), 1e-7)


@pytest.mark.parametrize("angle", [0, 1e-12, 1e-6, 1e-3, 1, 90, 179, 180 - 1e-6, 180 - 1e-9, 180])
def test_geodesic_near_its_ends(angle):
    base = pose.pose_to_matrix(np.array([20.0, -30, 50]))
    axis = np.array([1.0, 2, -2]) / 3
    other = base @ Rotation.from_rotvec(np.radians(angle) * axis).as_matrix()
    np.testing.assert_allclose(pose.geodesic_degrees(base, other), angle, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
@pytest.mark.parametrize("make", [np.asarray, mx.array], ids=["numpy", "mlx"])
def test_leading_shapes(shape, make):
    p = make(np.random.default_rng(0).uniform(-80, 80, (*shape, 3)).astype(np.float32))
    matrix = pose.pose_to_matrix(p)
    assert matrix.shape == (*shape, 3, 3)
    for result in (pose.matrix_to_pose(matrix), pose.matrix_to_pose(matrix, full_yaw=True)):
        assert result.shape == (*shape, 3)
        close(result, p, 1e-4)
    assert pose.r_to_pose(pose.pose_to_r(p)).shape == (*shape, 3)
    six = pose.matrix_to_rotation_6d(matrix)
    assert six.shape == (*shape, 6)
    assert pose.rotation_6d_to_matrix(six).shape == (*shape, 3, 3)
    quaternion = pose.matrix_to_quaternion(matrix)
    assert quaternion.shape == (*shape, 4)
    close(pose.quaternion_to_matrix(quaternion), matrix, 1e-6)
    assert pose.geodesic_degrees(matrix, matrix).shape == shape
    assert pose.axis_endpoints(p).shape == (*shape, 3, 2)


def test_axes_of_a_frontal_head_point_right_down_and_at_the_viewer():
    ends = np.array([[1, 0], [0, 1], [0, 0]])
    close(pose.axis_endpoints(np.zeros(3)), ends)
    close(pose.axis_endpoints(np.zeros(3), length=7), 7 * ends)


def test_border_conversions():
    close(pose.pose_para_to_pose(np.radians([10.0, 20, 30, 7, 7, 7, 7])), [20, 10, 30])
    close(pose.biwi_angles_to_pose(np.array([-10.0, 20, 30])), [20, 10, 30])


def test_biwi_real_labels(shared):
    """The released matrices' formula and the released angles tell the same pose."""
    paths = sorted((shared / "data" / "BIWI").rglob("frame_*_pose.bin"))
    a, b, c = np.stack([np.fromfile(path, "<f4")[3:] for path in paths]).astype(float).T
    matrix = turn("x", a) @ turn("y", b) @ turn("z", c)
    result = pose.biwi_angles_to_pose(np.stack([a, b, c], -1))
    close(pose.biwi_matrix_to_pose(matrix), result, 1e-6)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    rng = np.random.default_rng(1)
    p = mx.array(rng.uniform(-80, 80, (50, 3)).astype(np.float32)).astype(dtype)
    exact = np.array(p.astype(mx.float32))
    matrix = pose.pose_to_matrix(p)
    assert matrix.dtype == mx.float32
    close(matrix, pose.pose_to_matrix(exact), 1e-6)
    close(pose.pose_to_r(p), pose.pose_to_r(exact), 1e-6)
    # Squares of these overflow float16.
    six = mx.array(rng.uniform(-3e4, 3e4, (50, 6)).astype(np.float32)).astype(dtype)
    exact = np.array(six.astype(mx.float32))
    close(pose.rotation_6d_to_matrix(six), pose.rotation_6d_to_matrix(exact), 1e-4)
    coarse = matrix.astype(dtype)
    assert np.all(np.isfinite(np.array(pose.geodesic_degrees(coarse, coarse))))
    close(pose.geodesic_degrees(coarse, matrix), np.zeros(50), 1.0)
    close(pose.wrap(mx.array([-180, 190, 3600]).astype(dtype)), [180, -170, 0], 1e-3)


@pytest.mark.parametrize("angle", [0, 1e-4, 0.1, 90, 179.9, 179.999, 180])
def test_geodesic_gradient_is_finite_and_bounded(angle):
    base = pose.pose_to_matrix(np.array([20.0, -30, 50]))
    other = base @ turn("x", angle)
    value, gradient = mx.value_and_grad(pose.geodesic_radians)(
        mx.array(base.astype(np.float32)), mx.array(other.astype(np.float32))
    )
    assert abs(value.item() - np.radians(angle)) < 1e-3
    assert np.all(np.isfinite(np.array(gradient)))
    assert mx.linalg.norm(gradient).item() < 2


@pytest.mark.parametrize("other", [np.eye(3), np.diag([1.0, -1, -1])])
def test_geodesic_gradient_through_6d_at_exactly_0_and_180(other):
    def loss(six):
        return pose.geodesic_radians(
            pose.rotation_6d_to_matrix(six), mx.array(other.astype(np.float32))
        )

    for six in ([1.0, 0, 0, 0, 1, 0], [0.0] * 6, [1.0, 0, 0, 1, 0, 0]):
        for dtype in (mx.float32, mx.float16, mx.bfloat16):
            gradient = mx.grad(loss)(mx.array(six).astype(dtype))
            assert np.all(np.isfinite(np.array(gradient.astype(mx.float32))))


@pytest.mark.parametrize("six", [[1.0, 0, 0, 1, 0, 0], [0.0] * 6])
def test_a_singular_matrix_is_far_from_everything(six):
    singular = pose.rotation_6d_to_matrix(np.array(six))
    assert np.isclose(pose.geodesic_degrees(singular, np.eye(3)), 180)


FUNCTIONS = {
    "pose_to_matrix": (pose.pose_to_matrix, (3,), 40),
    "pose_to_r": (pose.pose_to_r, (3,), 40),
    "rotation_6d_to_matrix": (pose.rotation_6d_to_matrix, (6,), 1),
    "matrix_to_pose": (pose.matrix_to_pose, (3, 3), None),
    "r_to_pose": (pose.r_to_pose, (3, 3), None),
    "geodesic": (lambda m: pose.geodesic_radians(m, m[::-1] * 1), (3, 3), None),
    "wrap": (pose.wrap, (3,), 500),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient_equals_finite_differences(name):
    function, shape, scale = FUNCTIONS[name]
    rng = np.random.default_rng(3)
    if scale is None:
        point = pose.pose_to_matrix(rng.uniform(-60, 60, (4, 3)))
    else:
        point = rng.uniform(-scale, scale, (4, *shape))
    weights = rng.normal(size=np.shape(function(point)))
    gradient = mx.grad(lambda x: mx.sum(function(x) * mx.array(weights.astype(np.float32))))(
        mx.array(point.astype(np.float32))
    )
    # The same source in float64 gives the differences.
    step = 1e-6
    expected = np.empty_like(point)
    for index in np.ndindex(point.shape):
        delta = np.zeros_like(point)
        delta[index] = step
        expected[index] = ((function(point + delta) - function(point - delta)) * weights).sum()
    expected /= 2 * step
    np.testing.assert_allclose(np.array(gradient), expected, atol=1e-4 * np.abs(expected).max())


def test_turning_an_image_turns_its_poses():
    angles = np.array(((0, 0, 10), (40, -20, 5), (170, 30, -60), (np.nan,) * 3))
    turned = pose.turned_in_plane(angles, 25)
    np.testing.assert_allclose(turned[0], (0, 0, 35), atol=1e-9)
    x, y = np.cos(np.radians(25)), np.sin(np.radians(25))
    before, after = pose.pose_to_matrix(angles[:3]), pose.pose_to_matrix(turned[:3])
    # What points to the right in the image points downwards a little after it was turned clockwise.
    np.testing.assert_allclose(after[:, 0], x * before[:, 0] - y * before[:, 1], atol=1e-9)
    np.testing.assert_allclose(after[:, 1], y * before[:, 0] + x * before[:, 1], atol=1e-9)
    assert np.isnan(turned[3]).all()
    np.testing.assert_allclose(pose.turned_in_plane(mx.array(angles), 25), turned, atol=1e-3)
