"""Poses relative to a direction that a person looked in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlx_headpose.errors import InputError
from mlx_headpose.pose import geodesic_degrees, matrix_to_pose, pose_to_matrix
from mlx_headpose.space.zero import Calibration, Zero, calibrate


def around(pose, noise=1.0, count=30, seed=0):
    """(N, 3) poses of a head that keeps still but for noise."""
    return pose + np.random.default_rng(seed).normal(0, noise, (count, 3))


def test_the_direction_itself_becomes_zero():
    pose = np.array([35.0, -20, 8])
    zero = calibrate(around(pose))
    assert np.abs(zero(pose)).max() < 0.5
    assert zero.spread == pytest.approx(1.6, abs=0.5)
    aside = calibrate(around(pose), (10, 5, 0))
    assert np.abs(aside(pose) - (10, 5, 0)).max() < 0.5


def test_poses_are_relative_as_rotations():
    """A camera that hangs beside and below sees a nod as a turn of all three angles."""
    hanging = pose_to_matrix(np.array([40.0, 25, 0]))
    zero = Zero(hanging)
    for true in ((0, 20, 0), (30, 0, 0), (-50, 10, 20), (120, 5, 0)):
        seen = matrix_to_pose(hanging @ pose_to_matrix(np.array(true, float)), full_yaw=True)
        assert np.allclose(zero(seen), true)
    seen = matrix_to_pose(hanging @ pose_to_matrix(np.array([0.0, 20, 0])))
    assert abs(seen[1] - 25 - 20) > 3  # what a difference of angles would be off by
    assert np.allclose(zero(np.stack([seen, seen])), [[0, 20, 0]] * 2)


def test_saved_and_loaded(tmp_path):
    zero = calibrate(around(np.array([12.0, 3, -4])), (5, 0, 0), "screen")
    zero.save(tmp_path / "zero.json")
    again = Zero.load(tmp_path / "zero.json")
    assert geodesic_degrees(zero.rotation, again.rotation) < 1e-6
    assert (again.direction, again.name) == ((5, 0, 0), "screen")


def test_a_second_of_poses():
    calibration = Calibration()
    for frame in range(29):
        assert calibration.add(5 + frame / 30, np.array([10.0, 0, 0])) is None
    zero = calibration.add(6.0, None)
    assert zero is not None
    assert np.allclose(zero(np.array([10.0, 0, 0])), 0)


def test_slow_networks_get_more_time():
    calibration = Calibration()
    for second in range(4):  # one pose a second
        assert calibration.add(second, np.array([10.0, 0, 0])) is None
    assert calibration.add(4, np.array([10.0, 0, 0])) is not None
    nobody = Calibration()
    for second in range(5):
        assert nobody.add(second, None) is None
    with pytest.raises(InputError, match="in 0 frames only"):
        nobody.add(5, None)


def test_a_head_that_moves_or_is_not_there():
    with pytest.raises(InputError, match="in 0 frames only"):
        calibrate([])
    with pytest.raises(InputError, match="turned by"):
        calibrate(np.linspace((-30, 0, 0), (30, 0, 0), 30))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not readable JSON"),
        ("[]", "no zero that"),
        ('{"quaternion": [1, 2]}', "not 4 numbers"),
        ('{"quaternion": [0, 0, 0, 0]}', "no rotation"),
        ('{"quaternion": [1, NaN, 0, 0]}', "not finite"),
        ('{"quaternion": [1, 0, 0, 0], "direction": "up"}', "not 3 numbers"),
        ('{"quaternion": [1, 0, 0, 0], "spread": []}', "not 1 numbers"),
    ],
)
def test_untrusted_files_end_in_a_sentence(tmp_path, content, problem):
    path = tmp_path / "zero.json"
    path.write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        Zero.load(path)
    assert str(path) in str(caught.value)


def test_a_minimal_file(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"quaternion": [2, 0, 0, 0]}))
    assert np.allclose(Zero.load(path)(np.array([10.0, 20, 5])), (10, 20, 5))
