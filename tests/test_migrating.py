"""Other programs' conventions against golden data, or the documents that define them."""

from __future__ import annotations

import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlx_headpose import pose as poses
from mlx_headpose.pose import (
    axis_endpoints,
    from_mediapipe,
    from_opal,
    from_sixdrepnet,
    from_vision,
    matrix_to_pose,
    pose_to_r,
    r_to_pose,
    to_mediapipe,
    to_opal,
    to_sixdrepnet,
    to_vision,
    wrap,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migrating.md"


@pytest.fixture
def random_poses():
    rng = np.random.default_rng(0)
    return rng.uniform([-170, -80, -80], [170, 80, 80], (100, 3))


def test_sixdrepnets_package(shared):
    with np.load(shared / "golden" / "sixdrepnet_repvgg_b1g2_deploy_224.npz") as golden:
        found = from_sixdrepnet(golden["euler_pyr"])
        expected = r_to_pose(golden["output0"])
        assert np.abs(wrap(found - expected)).max() < 1e-3
        np.testing.assert_allclose(to_sixdrepnet(found), golden["euler_pyr"])


def test_opal(shared):
    with np.load(shared / "golden" / "opal_panoptic_quaternion_128.npz") as golden:
        found = from_opal(golden["euler_ypr"])
        expected = matrix_to_pose(golden["headpose"])
        assert np.abs(wrap(found - expected)).max() < 1e-3
        np.testing.assert_allclose(to_opal(found), golden["euler_ypr"])


def test_hopenets_and_whenets_angles_are_ours(shared):
    with np.load(shared / "golden" / "geometry.npz") as golden:
        pose = golden["pitch_yaw_roll_deg"][:, [1, 0, 2]]
        np.testing.assert_allclose(
            axis_endpoints(pose, 100.0), golden["axis_endpoints_100px"], atol=1e-3
        )
        rotated = np.swapaxes(golden["whenet_rotate_zyx"], -1, -2)
        np.testing.assert_allclose(pose_to_r(pose), rotated, atol=1e-6)


def test_mediapipes_axes(random_poses):
    # By its document: x right, y up, z towards the camera. What the head's axes do in the image
    # must be what is drawn for the pose: right, down and out of the face.
    turns = Rotation.random(100, random_state=1).as_matrix()
    scaled = np.tile(np.eye(4), (100, 1, 1))
    scaled[:, :3, :3] = 1.3 * turns
    scaled[:, :3, 3] = [4.0, -2.0, -50.0]
    axes = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    moved = axes @ np.swapaxes(turns, -1, -2)  # (N, 3 axes, 3)
    in_image = moved[..., :2] * [1, -1]
    np.testing.assert_allclose(axis_endpoints(from_mediapipe(scaled)), in_image, atol=1e-9)
    np.testing.assert_allclose(axis_endpoints(from_mediapipe(turns)), in_image, atol=1e-9)
    back = from_mediapipe(to_mediapipe(random_poses))
    np.testing.assert_allclose(back, random_poses, atol=1e-9)
    matrix = to_mediapipe(random_poses)
    assert matrix.shape == (100, 4, 4)
    np.testing.assert_allclose(matrix[:, 3], np.tile([0, 0, 0, 1.0], (100, 1)))


def test_visions_signs_are_its_headers(random_poses):
    quarter = 0.4
    right, down, out = axis_endpoints(from_vision(np.array([0.0, 0.0, quarter])))
    assert right[1] < 0 < down[0]  # counterclockwise: the chin goes to the image's right
    assert np.abs(out).max() < 1e-9
    assert axis_endpoints(from_vision(np.array([0.0, quarter, 0.0])))[2][1] > 0  # nods down
    # Counterclockwise about the axis upwards, seen from above: the nose goes to the right.
    assert axis_endpoints(from_vision(np.array([quarter, 0.0, 0.0])))[2][0] > 0
    np.testing.assert_allclose(from_vision(to_vision(random_poses)), random_poses)


def test_both_kinds_of_arrays(random_poses):
    values = random_poses.astype(np.float32)
    for name in ("sixdrepnet", "opal", "vision", "mediapipe"):
        there, back = getattr(poses, f"to_{name}"), getattr(poses, f"from_{name}")
        found = back(there(mx.array(values)))
        assert isinstance(found, mx.array)
        np.testing.assert_allclose(np.array(found), values, atol=2e-3)


def test_the_pages_functions_exist():
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:from|to)_[a-z]+\b", text)) - {"from_pretrained"}
    public = {name for name in poses.__all__ if name.startswith(("from_", "to_"))}
    assert public <= named
    assert named <= public
