"""The predictive filter beside One-Euro, on motions whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.accuracy.motion import run, with_noise
from mlx_headpose.inference.motion import PredictiveFilter
from mlx_headpose.inference.smoothing import PoseFilter
from mlx_headpose.pose import geodesic_degrees, pose_to_matrix, wrap


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_less_jitter_error_and_lag_than_one_euro(fps):
    seen = [with_noise(fps, 1.0, seed=0)]
    jitter, error, lag = run(PredictiveFilter, fps, seen)
    euro_jitter, euro_error, euro_lag = run(PoseFilter, fps, seen)
    assert jitter < euro_jitter
    assert error < euro_error
    assert lag < 0.25 * euro_lag


def test_the_noise_is_measured():
    for noise in (0.5, 2.0):
        rng = np.random.default_rng(0)
        one = PredictiveFilter()
        for _ in range(60):
            one(rng.normal(0, noise, 3), 1 / 30)
        assert one.noise == pytest.approx(noise, rel=0.3)


def test_a_steady_turn_through_180_degrees_is_followed():
    one = PredictiveFilter()
    for step in range(200):
        pose = wrap(np.array([3.0 * step, 10, -5]))
        found = one(pose, 1 / 30)
        if step > 60:
            assert geodesic_degrees(pose_to_matrix(found), pose_to_matrix(pose)) < 0.5
            assert np.abs(wrap(found - pose)).max() < 2


def test_a_rest_stays_where_it_is():
    one = PredictiveFilter()
    for _ in range(50):
        found = one(np.array([20.0, -10, 5]), 1 / 30)
    assert np.allclose(found, (20, -10, 5), atol=1e-6)


def test_frames_without_time_between_them():
    one = PredictiveFilter()
    for yaw in (0.0, 1.0, 2.0, 2.0):
        assert np.isfinite(one(np.array([yaw, 0, 0]), 0.0)).all()
