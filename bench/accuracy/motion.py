"""Filters of poses beside each other: jitter at rest, error in motion, lag.

    python -m bench.accuracy.motion [--network --people 3]

A head rests, turns, shakes and nods (the motion of `bench.accuracy.video`); the network's errors
are independent from frame to frame, with `--noise` degrees of standard deviation about each axis.
With `--network` they are a network's own, on rendered people with camera noise, whom the detector
finds in each of 30 frames a second: part of these errors stays as long as the head does.
Jitter is the mean angle between consecutive outputs while the head rests. Lag is the shift in time
of the true motion that is nearest to the output. `--match` tunes each filter's first argument so
that the jitter at 30 frames a second is that of One-Euro: only then do lags compare.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial.transform import Rotation, Slerp
from tqdm import tqdm

from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.inference.motion import PredictiveFilter
from mlx_headpose.inference.smoothing import PoseFilter
from mlx_headpose.pose import geodesic_degrees, matrix_to_pose, pose_to_matrix
from mlx_headpose.space.intrinsics import Camera
from mlx_headpose.synthetic.film import Actor, Film, facing_camera

SIZE = (640, 480)
AWAY = 0.6  # m from the camera
FINE = 240  # frames a second of the true motion
Filter = Callable[[np.ndarray, float], np.ndarray]


def motion(seconds: float = 14.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, (T, 3) true poses and (T,) whether the head rests."""
    t = np.arange(0, seconds, 1 / FINE)

    def during(start: float, end: float, soft: float = 0.3) -> np.ndarray:
        share = np.clip((t - start) / soft, 0, 1) * np.clip((end - t) / soft, 0, 1)
        return share * share * (3 - 2 * share)

    yaw = 50 * np.sin(2 * np.pi * (t - 3) / 3.0) * during(3, 6)
    yaw += 25 * np.sin(2 * np.pi * (t - 6.2) / 0.7) * during(6.2, 7.6)
    yaw += 40 * during(9.5, 14.3, 0.4)  # a glance to the side that stays there
    pitch = 15 * np.sin(2 * np.pi * (t - 7.6) / 0.8) * during(7.6, 9.2)
    roll = 10 * np.sin(2 * np.pi * (t - 3) / 3.0 + 1) * during(3, 6)
    rests = (t < 2.9) | (t > 11)
    return t, np.stack([yaw, pitch, roll], -1), rests


@dataclass(frozen=True)
class Seen:
    """A motion as it was seen: (T,) times, (T, 3) true poses, (T,) rests, and (T, 3) poses seen."""

    times: np.ndarray
    truth: np.ndarray
    rests: np.ndarray
    poses: np.ndarray


def with_noise(fps: int, noise: float, seed: int) -> Seen:
    """Poses with independent errors of `noise` degrees about each axis."""
    t, truth, rests = (values[:: FINE // fps] for values in motion())
    rng = np.random.default_rng(seed)
    off = Rotation.from_rotvec(np.radians(rng.normal(0, noise, (len(t), 3))))
    seen = matrix_to_pose((Rotation.from_matrix(pose_to_matrix(truth)) * off).as_matrix())
    return Seen(t, truth, rests, seen)


def by_network(fps: int, estimator: HeadPoseEstimator, person: int) -> Seen:
    """Poses that an estimator sees in a rendered video of a person."""
    t, truth, rests = (values[:: FINE // fps] for values in motion())
    film = Film(Camera.from_fov(60, *SIZE), [Actor(person)], person, noise=4.0)
    poses: list[np.ndarray] = []
    for pose in tqdm(truth, unit="frame", disable=None):
        placed = facing_camera(pose, np.array((0.0, 0.0, AWAY)))
        heads = estimator(film.frame([placed]), max_heads=1)
        poses.append(heads[0].pose if heads else poses[-1])  # the last known pose where it is lost
    return Seen(t, truth, rests, np.array(poses))


def run(make: Callable[[], Filter] | None, fps: int, videos: Sequence[Seen]) -> np.ndarray:
    """(3,) jitter at rest and error in motion in degrees, lag in seconds: means over the videos."""
    t, truth, _ = motion()
    turns = Slerp(t, Rotation.from_matrix(pose_to_matrix(truth)))
    results = []
    for video in videos:
        times, still = video.times, video.rests
        one = make() if make else None
        out = np.array([one(p, 1 / fps) for p in video.poses]) if one else video.poses
        matrices = pose_to_matrix(out)
        steps = geodesic_degrees(matrices[1:], matrices[:-1])
        settled = still[1:] & (times[1:] > 1) & ((times[1:] < 2.9) | (times[1:] > 12))
        moving = ~still & (times > 3)
        error = geodesic_degrees(matrices, pose_to_matrix(video.truth))[moving].mean()
        late = partial(_behind, turns, times[moving], matrices[moving], float(t[-1]))
        lag = minimize_scalar(late, bounds=(-0.2, 0.5), method="bounded").x
        results.append((steps[settled].mean(), error, lag))
    return np.mean(results, 0)


def _behind(turns: Slerp, times: np.ndarray, matrices: np.ndarray, end: float, lag: float) -> float:
    """Mean degrees between what was put out and the true motion `lag` seconds earlier."""
    moved = turns(np.clip(times - lag, 0, end)).as_matrix()
    return float(geodesic_degrees(matrices, moved).mean())


def matched(make: Callable[[float], Filter], jitter: float, videos: Sequence[Seen]) -> float:
    """The first argument for which a filter has a given jitter at 30 frames a second."""

    def excess(logarithm: float) -> float:
        return run(lambda: make(float(np.exp(logarithm))), 30, videos)[0] - jitter

    return float(np.exp(brentq(excess, np.log(0.1), np.log(30), xtol=0.02)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--match", action="store_true")
    parser.add_argument("--network", action="store_true", help="errors of a network")
    parser.add_argument("--people", type=int, default=3, help="whom the network sees")
    parser.add_argument("--snapshot")
    parser.add_argument("--detector")
    options = parser.parse_args()
    if options.network:
        estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
        videos = {30: [by_network(30, estimator, person) for person in range(options.people)]}
    else:
        videos = {
            fps: [with_noise(fps, options.noise, seed) for seed in range(options.seeds)]
            for fps in (15, 30, 60)
        }
    first = 1.0
    if options.match:
        first = matched(PredictiveFilter, run(PoseFilter, 30, videos[30])[0], videos[30])
        print(f"predictive filter of equal jitter: {first:.2f}")
    filters = {"raw": None, "One-Euro": PoseFilter, "predictive": lambda: PredictiveFilter(first)}
    print("frames/s  filter      jitter at rest  error in motion  lag in frames  in ms")
    for fps, those in videos.items():
        for name, make in filters.items():
            jitter, error, lag = run(make, fps, those)
            print(
                f"{fps:8}  {name:10}  {jitter:13.2f}°  {error:14.2f}°  {lag * fps:13.2f}"
                f"  {1000 * lag:5.0f}"
            )


if __name__ == "__main__":
    main()
