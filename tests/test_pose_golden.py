"""Pose conversions against what each published code computed."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from scipy.io import loadmat

from mlx_headpose import pose

ARRAYS = {"numpy": (np.asarray, 1e-6), "mlx": (lambda x: mx.array(x.astype(np.float32)), 2e-4)}


@pytest.fixture(params=ARRAYS)
def convert(request):
    """Call a function with numpy or MLX arrays; degrees may differ by `tolerance` (a share of it
    for lengths)."""
    make, tolerance = ARRAYS[request.param]

    def call(function, *arrays, **options):
        result = function(*(make(array) for array in arrays), **options)
        assert isinstance(result, np.ndarray if request.param == "numpy" else mx.array)
        return np.array(result)

    call.tolerance = tolerance
    return call


@pytest.fixture(scope="module")
def geometry(shared):
    return np.load(shared / "golden" / "geometry.npz")


@pytest.fixture(scope="module")
def dad(shared):
    return np.load(shared / "golden" / "dad_geometry.npz")


def ours(pitch_yaw_roll):
    return pitch_yaw_roll[:, [1, 0, 2]]


@pytest.mark.parametrize(
    ("key", "function"),
    [
        ("nlml_euler_to_R", pose.pose_to_matrix),
        ("sixdrepnet_get_R", pose.pose_to_r),
        ("whenet_rotate_zyx", lambda p: pose.pose_to_r(p).swapaxes(-1, -2)),
    ],
)
def test_euler_to_matrix(geometry, convert, key, function):
    matrix = convert(function, ours(geometry["pitch_yaw_roll_deg"]))
    np.testing.assert_allclose(matrix, geometry[key], atol=convert.tolerance / 100)


@pytest.mark.parametrize(
    ("key", "function"),
    [("nlml_euler_to_R", pose.matrix_to_pose), ("sixdrepnet_get_R", pose.r_to_pose)],
)
def test_matrix_to_euler(geometry, convert, key, function):
    expected = ours(geometry["pitch_yaw_roll_deg"])
    np.testing.assert_allclose(convert(function, geometry[key]), expected, atol=convert.tolerance)


def test_6d_to_matrix(geometry, convert):
    matrix = convert(pose.rotation_6d_to_matrix, geometry["ortho6d"])
    np.testing.assert_allclose(matrix, geometry["ortho6d_matrix"], atol=1e-6)


def test_axis_endpoints(geometry, convert):
    ends = convert(pose.axis_endpoints, ours(geometry["pitch_yaw_roll_deg"]), length=100)
    np.testing.assert_allclose(ends, geometry["axis_endpoints_100px"], atol=convert.tolerance)


def test_biwi_matrix(geometry, convert):
    result = convert(pose.biwi_matrix_to_pose, geometry["biwi_file_matrix"])
    expected = ours(geometry["biwi_pitch_yaw_roll_deg"])
    np.testing.assert_allclose(result, expected, atol=convert.tolerance)


def test_dad_matrix(dad, convert):
    result = convert(pose.dad_matrix_to_pose, dad["R"])
    np.testing.assert_allclose(result, ours(dad["pitch_yaw_roll_deg"]), atol=convert.tolerance)


def test_aflw2000_landmarks_are_turned_by_d(shared):
    """Turned back by D of their poses, the 3D landmarks become one shape; by R they do not."""
    folder = shared / "data" / "AFLW2000"
    files = [loadmat(path) for path in sorted(folder.glob("*.mat"))[:60]]
    truth = pose.pose_para_to_pose(np.stack([file["Pose_Para"][0] for file in files]))
    points = np.stack([file["pt3d_68"] for file in files]).astype(float)
    points -= points.mean(-1, keepdims=True)
    points /= np.linalg.norm(points, axis=(1, 2), keepdims=True)

    def spread(matrix):
        shapes = matrix.swapaxes(-1, -2) @ points
        return np.linalg.norm(shapes - shapes.mean(0), axis=(1, 2)).mean()

    assert spread(pose.pose_to_matrix(truth)) < 0.1
    assert spread(pose.pose_to_r(truth)) > 0.4
