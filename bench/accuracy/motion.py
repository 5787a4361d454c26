"""Filters of poses beside each other: jitter at rest, error in motion, lag.

    python -m bench.accuracy.motion

A head rests, turns, shakes and nods (the motion of `bench.accuracy.video`); the network's errors
are independent from frame to frame, with `--noise` degrees of standard deviation about each axis.
Jitter is the mean angle between consecutive outputs while the head rests. Lag is the shift in time
of the true motion that is nearest to the output. `--match` tunes each filter's first argument so
that the jitter at 30 frames a second is that of One-Euro: only then do lags compare.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial.transform import Rotation, Slerp

from mlx_headpose.inference.motion import PredictiveFilter
from mlx_headpose.inference.smoothing import PoseFilter
from mlx_headpose.pose import geodesic_degrees, matrix_to_pose, pose_to_matrix

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


def run(make: Callable[[], Filter] | None, fps: int, noise: float, seeds: int) -> np.ndarray:
    """(3,) jitter at rest and error in motion in degrees, lag in seconds: means over the seeds."""
    t, truth, rests = motion()
    turns = Slerp(t, Rotation.from_matrix(pose_to_matrix(truth)))
    every = FINE // fps
    times, poses, still = t[::every], truth[::every], rests[::every]
    results = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        off = Rotation.from_rotvec(np.radians(rng.normal(0, noise, (len(times), 3))))
        seen = matrix_to_pose((Rotation.from_matrix(pose_to_matrix(poses)) * off).as_matrix())
        one = make() if make else None
        out = np.array([one(p, 1 / fps) for p in seen]) if one else seen
        matrices = pose_to_matrix(out)
        steps = geodesic_degrees(matrices[1:], matrices[:-1])
        settled = still[1:] & (times[1:] > 1) & ((times[1:] < 2.9) | (times[1:] > 12))
        moving = ~still & (times > 3)
        error = geodesic_degrees(matrices, pose_to_matrix(poses))[moving].mean()

        def late(lag: float, matrices: np.ndarray = matrices, moving: np.ndarray = moving) -> float:
            moved = turns(np.clip(times[moving] - lag, 0, t[-1])).as_matrix()
            return float(geodesic_degrees(matrices[moving], moved).mean())

        lag = minimize_scalar(late, bounds=(-0.2, 0.5), method="bounded").x
        results.append((steps[settled].mean(), error, lag))
    return np.mean(results, 0)


def matched(make: Callable[[float], Filter], jitter: float, noise: float, seeds: int) -> float:
    """The first argument for which a filter has a given jitter at 30 frames a second."""

    def excess(logarithm: float) -> float:
        return run(lambda: make(float(np.exp(logarithm))), 30, noise, seeds)[0] - jitter

    return float(np.exp(brentq(excess, np.log(0.1), np.log(30), xtol=0.02)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--match", action="store_true")
    options = parser.parse_args()
    noise, seeds = options.noise, options.seeds
    first = 1.0
    if options.match:
        target = run(PoseFilter, 30, noise, seeds)[0]
        first = matched(PredictiveFilter, target, noise, seeds)
        print(f"predictive filter of equal jitter: {first:.2f}")
    filters = {"raw": None, "One-Euro": PoseFilter, "predictive": lambda: PredictiveFilter(first)}
    print("frames/s  filter      jitter at rest  error in motion  lag in frames  in ms")
    for fps in (15, 30, 60):
        for name, make in filters.items():
            jitter, error, lag = run(make, fps, noise, seeds)
            print(
                f"{fps:8}  {name:10}  {jitter:13.2f}°  {error:14.2f}°  {lag * fps:13.2f}"
                f"  {1000 * lag:5.0f}"
            )


if __name__ == "__main__":
    main()
