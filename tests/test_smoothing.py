"""Smoothing on rotations, and how much calmer it makes heads of known pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.squares import DT, faces

from mlx_headpose.inference.smoothing import OneEuro, PoseFilter, blend
from mlx_headpose.inference.tracking import Tracker
from mlx_headpose.inference.video_estimator import VideoEstimator
from mlx_headpose.pose import geodesic_errors

pytest.importorskip("cv2")
ROOT = Path(__file__).resolve().parent.parent


def test_blend_is_the_papers_alpha() -> None:
    cutoff, dt = 2.0, 0.02
    tau = 1 / (2 * np.pi * cutoff)
    assert blend(cutoff, dt) == pytest.approx(1 / (1 + tau / dt))


def test_one_euro_without_beta_is_a_low_pass_filter() -> None:
    low_pass = OneEuro(min_cutoff=1.5, beta=0)
    value = low_pass(np.array([0.0]), DT)
    for _ in range(10):
        value = low_pass(np.array([1.0]), DT)
    assert value[0] == pytest.approx(1 - (1 - blend(1.5, DT)) ** 10)


def test_a_constant_pose_stays() -> None:
    smooth = PoseFilter()
    for _ in range(5):
        np.testing.assert_allclose(smooth(np.array([40.0, -10, 5]), DT), [40, -10, 5], atol=1e-6)


@pytest.mark.parametrize("start", [(175.0, 0, 0), (85.0, 20, 10), (0.0, 80, 0)])
def test_turning_through_the_seam_has_no_jump(start: tuple[float, ...]) -> None:
    smooth = PoseFilter()
    before = None
    for step in range(40):
        yaw = (start[0] + step + 180) % 360 - 180
        true = np.array([yaw, start[1], start[2]])
        filtered = smooth(true, DT)
        assert geodesic_errors(filtered, true) < 6
        # The triple is the one near the measured angles, not its mirror image behind.
        assert np.abs((filtered - true + 180) % 360 - 180).max() < 15
        if before is not None:
            assert geodesic_errors(filtered, before) < 2
        before = filtered


def test_less_jitter_at_rest_and_little_lag_in_motion() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(0, 6, DT)
    yaw = np.where(time < 3, 0, np.minimum((time - 3) * 90, 90))
    true = np.stack([yaw, 0 * yaw, 0 * yaw], 1)
    noisy = true + rng.normal(0, 2, true.shape)
    smooth = PoseFilter()
    filtered = np.array([smooth(pose, DT) for pose in noisy])
    resting = slice(30, 90)

    def jitter(poses: np.ndarray) -> float:
        return float(geodesic_errors(poses[resting][1:], poses[resting][:-1]).mean())

    assert jitter(filtered) < jitter(noisy) / 3
    assert geodesic_errors(filtered, true).mean() < geodesic_errors(noisy, true).mean()


def test_smoothed_boxes_are_calmer_wherever_they_are() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 4))
    for corner in (0, 3000):
        tracker = Tracker(min_score=0.5)
        found = np.array([corner, corner, corner + 60, corner + 60]) + noise
        smooth = []
        for box in found:
            (track,) = tracker.update(faces(box), DT)
            smooth.append(track.smooth_box())
        assert np.std(smooth, axis=0).max() < 0.6 * np.std(found, axis=0).min()


def test_smoothing_on_a_head_of_known_pose(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.accuracy import video as bench
    from mlx_headpose.convert import convert_file
    from mlx_headpose.inference.estimator import HeadPoseEstimator

    weights = tmp_path / "squeezenet_1_1.safetensors"
    convert_file(shared / "weights" / "squeezenet_1_1.pkl", weights)
    estimator = HeadPoseEstimator.from_pretrained(
        weights, shared / "weights" / "face_detection_yunet_2023mar.onnx"
    )
    poses = bench.motion()[22:54]  # at rest, then turning
    bench.make_video(tmp_path / "head.mp4", 1, poses)
    jitter, error = {}, {}
    for smooth in (False, True):
        heads = bench.follow(tmp_path / "head.mp4", VideoEstimator(estimator, smooth=smooth))
        assert all([head.track for head in those] == [1] for those in heads)
        found = np.array([those[0].pose for those in heads])
        jitter[smooth] = bench.jitter(found[:20], poses[:20])
        error[smooth] = geodesic_errors(found, poses).mean()
    assert jitter[True] < jitter[False] / 3
    assert error[True] < 1.2 * error[False]
