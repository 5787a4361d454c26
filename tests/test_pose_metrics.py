"""Metrics: hand-computed cases, invariances, and predictions that are not numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlx_headpose import pose

moderate = settings(max_examples=60, deadline=None, derandomize=True)
poses = arrays(float, (5, 3), elements=st.floats(-180, 180))


def test_by_hand():
    metrics = pose.pose_metrics([[10, 0, 0], [-30, 0, 0]], [[0, 0, 0], [0, 0, 0]])
    expected = {"yaw": 20, "pitch": 0, "roll": 0, "mae": 20 / 3, "geodesic": 20}
    expected |= {"left": 20, "down": 0, "front": 20, "vmae": 40 / 3}
    for name, value in expected.items():
        assert np.isclose(getattr(metrics, name), value, atol=1e-9)
    assert metrics.to_dict() == {name: getattr(metrics, name) for name in expected}
    assert all(type(value) is float for value in metrics.to_dict().values())


def test_vectors_are_the_rows_of_r():
    a, b = np.array([20.0, -10, 35]), np.array([-5.0, 40, 10])
    rows = (pose.pose_to_r(a) * pose.pose_to_r(b)).sum(-1)
    np.testing.assert_allclose(pose.vector_errors(a, b), np.degrees(np.arccos(rows)), atol=1e-9)


@pytest.mark.parametrize(("axis", "index"), [("yaw", 0), ("pitch", 1), ("roll", 2)])
def test_each_angle_has_its_own_figure(axis, index):
    predicted = np.zeros((3, 3))
    predicted[:, index] = [3, -6, 9]
    metrics = pose.pose_metrics(predicted, np.zeros((3, 3))).to_dict()
    for other in ("yaw", "pitch", "roll"):
        assert np.isclose(metrics[other], 6 if other == axis else 0)
    still = ("down", "left", "front")[index]
    for vector in ("left", "down", "front"):
        assert np.isclose(metrics[vector], 0 if vector == still else 6, atol=1e-9)


def test_angles_wrap():
    metrics = pose.pose_metrics([[179, 10, -350]], [[-179, 10, 10]])
    assert np.isclose(metrics.yaw, 2)
    assert np.isclose(metrics.roll, 0)
    assert np.isclose(metrics.geodesic, 2)


@moderate
@given(poses)
def test_a_perfect_prediction(p):
    metrics = pose.pose_metrics(p, p)
    assert all(value < 1e-6 for value in metrics.to_dict().values())


@moderate
@given(poses, poses)
def test_symmetric_and_in_range(a, b):
    one, two = pose.pose_metrics(a, b).to_dict(), pose.pose_metrics(b, a).to_dict()
    for name, value in one.items():
        assert 0 <= value <= 180
        assert np.isclose(value, two[name], atol=1e-6)
    # No vector turns further than the head; together they tell of its whole turn.
    vectors, turn = pose.vector_errors(a, b), pose.geodesic_errors(a, b)
    assert np.all(vectors <= turn[:, None] + 1e-6)
    cosines = np.cos(np.radians(vectors)).sum(-1)
    np.testing.assert_allclose(cosines, 1 + 2 * np.cos(np.radians(turn)), atol=1e-9)


@moderate
@given(poses, poses, arrays(float, 3, elements=st.floats(-180, 180)))
def test_turning_both_sides_changes_no_rotation_error(a, b, turn):
    turn = pose.pose_to_matrix(turn)
    turned = [pose.matrix_to_pose(turn @ pose.pose_to_matrix(p)) for p in (a, b)]
    before, after = pose.geodesic_errors(a, b), pose.geodesic_errors(*turned)
    np.testing.assert_allclose(before, after, atol=1e-3)
    before, after = pose.vector_errors(a, b), pose.vector_errors(*turned)
    np.testing.assert_allclose(before, after, atol=1e-3)


@moderate
@given(poses, poses, poses)
def test_triangle_inequality(a, b, c):
    for errors in (pose.angle_errors, pose.geodesic_errors, pose.vector_errors):
        assert np.all(errors(a, b) <= errors(a, c) + errors(c, b) + 1e-6)


@moderate
@given(poses, poses, st.integers(-2, 2))
def test_full_turns_change_nothing(a, b, turns):
    for errors in (pose.angle_errors, pose.geodesic_errors, pose.vector_errors):
        np.testing.assert_allclose(errors(a + 360 * turns, b), errors(a, b), atol=1e-6)


@moderate
@given(poses, poses, st.permutations(range(5)))
def test_neither_order_nor_repetition_changes_a_mean(a, b, order):
    before = pose.pose_metrics(a, b).to_dict()
    after = pose.pose_metrics(np.tile(a[order], (3, 1)), np.tile(b[order], (3, 1))).to_dict()
    for name, value in before.items():
        assert np.isclose(value, after[name], atol=1e-9)


@moderate
@given(poses, poses)
def test_mirroring_both_sides_changes_only_the_names(a, b):
    mirror = np.array([-1, 1, -1])
    before, after = pose.pose_metrics(a, b), pose.pose_metrics(a * mirror, b * mirror)
    for name, value in before.to_dict().items():
        assert np.isclose(value, getattr(after, name), atol=1e-6)


def test_legacy_flatters_and_says_so():
    true = np.array([[0.0, 0, 0], [-170, 0, 20]])
    predicted = np.array([[180.0, 100, 5], [175, 0, 20]])
    with pytest.warns(UserWarning, match="flatters"):
        legacy = pose.pose_metrics(predicted, true, legacy=True)
    honest = pose.pose_metrics(predicted, true)
    with pytest.warns(UserWarning, match="flatters"):
        assert pose.pose_metrics(true, predicted, legacy=True) == legacy
    assert np.isclose(legacy.yaw, (0 + 15) / 2)
    assert np.isclose(legacy.pitch, 80 / 2)
    assert np.isclose(legacy.roll, 2.5)
    assert np.isclose(honest.yaw, (180 + 15) / 2)
    assert np.isclose(honest.pitch, 100 / 2)
    for name in ("geodesic", "vmae", "left", "down", "front", "roll"):
        assert getattr(legacy, name) == getattr(honest, name)


@pytest.mark.filterwarnings("ignore:legacy")
def test_every_error_takes_lists_and_checks_what_it_takes():
    for errors in (pose.angle_errors, pose.legacy_angle_errors, pose.vector_errors):
        assert errors([[10, 0, 0]], [[4, 0, 0]]).max() == pytest.approx(6)
        assert np.isnan(errors([[np.inf, 0, 0]], [[4, 0, 0]])).any()
        with pytest.raises(ValueError, match="poses must be"):
            errors([[10, 0, 0]], [[4, 0]])
    assert pose.geodesic_errors([[10, 0, 0]], [[4, 0, 0]]).max() == pytest.approx(6)


@moderate
@given(poses, poses)
def test_legacy_is_never_above_the_honest_error(a, b):
    with pytest.warns(UserWarning, match="180"):
        legacy = pose.legacy_angle_errors(a, b)
    shifted = [np.abs(a - b + shift) for shift in (0, 180, -180, 360, -360)]
    np.testing.assert_array_equal(legacy, np.min(shifted, axis=0))
    assert np.all(legacy <= pose.angle_errors(a, b) + 1e-9)
    assert np.all(legacy <= 90 + 1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:legacy")
def test_a_prediction_that_is_no_number_spoils_the_figures(bad, index, legacy):
    predicted = np.zeros((4, 3))
    predicted[2, index] = bad
    metrics = pose.pose_metrics(predicted, np.zeros((4, 3)), legacy=legacy)
    broken = {"mae", "geodesic", "vmae", ("yaw", "pitch", "roll")[index]}
    for field in dataclasses.fields(metrics):
        value = getattr(metrics, field.name)
        if field.name in broken:
            assert np.isnan(value)
    assert not metrics.mae < 10


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((2, 3)), np.zeros((1, 3))),
        (np.zeros((2, 2)), np.zeros((2, 2))),
        (np.zeros(3), np.zeros(3)),
    ],
)
def test_wrong_shapes(predicted, true):
    with pytest.raises(ValueError, match="poses"):
        pose.pose_metrics(predicted, true)
