"""Zero and zones on rendered videos: who faces the screen, and does it flicker?

    python -m bench.accuracy.facing --detector ../shared/weights/face_detection_yunet_2023mar.onnx

People sit before a laptop, whose camera is above its screen, and look at the screen, at a second
screen to the left, and away, for 1.5 to 5 seconds each. A frame is true where the true pose
points into the zone. F1 is over all frames and zones. The zero error is the angle between a
direction that a person looks in and the zero that was calibrated in another second of looking
there, in which the head is never quite still.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from mlx_headpose.inference.detectors import bounded
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.inference.motion import PredictiveFilter
from mlx_headpose.pose import geodesic_degrees, matrix_to_pose, pose_to_matrix
from mlx_headpose.space.facing import Attention, Rectangle, face_axis
from mlx_headpose.space.intrinsics import Camera
from mlx_headpose.space.perspective import as_placed
from mlx_headpose.space.position import head_position
from mlx_headpose.space.zero import calibrate
from mlx_headpose.synthetic.film import Actor, Film, Placed

FPS = 30
SIZE = (640, 480)
# A laptop's screen of 34 × 21 cm under its camera, and a larger screen to the left of it.
ZONES = [
    Rectangle("screen", (0.17, 0.01, 0.0), (-0.34, 0.0, 0.0), (0.0, 0.21, 0.0)),
    Rectangle("second", (-0.35, -0.1, 0.1), (-0.3, 0.0, 0.45), (0.0, 0.34, 0.0)),
]
TARGETS = {"screen": (0.0, 0.11, 0.0), "second": (-0.5, 0.07, 0.325), "away": (0.9, -0.1, 0.3)}
# Poses → what is known of them: the first is the truth, the second what was seen.
Look = Callable[[Placed, Film | None], tuple[np.ndarray, np.ndarray] | None]


@dataclass
class Result:
    """Frames by zone: hits, false alarms and misses; changes, true ones, and those seen."""

    hits: int = 0
    false: int = 0
    missed: int = 0
    true_changes: int = 0
    changes: int = 0

    @property
    def f1(self) -> float:
        """2 · hits / (2 · hits + false alarms + misses)."""
        return 2 * self.hits / max(2 * self.hits + self.false + self.missed, 1)


def towards(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3,) pose without roll of a head that faces a point."""
    x, y, z = np.asarray(target) - position
    across = np.hypot(y, z)
    pitch = np.degrees(np.arctan2(-y, -z))
    return np.array([np.degrees(np.arctan2(-x, across)), pitch, 0.0])


def looks(seconds: float, seed: int, fps: int = FPS) -> list[Placed]:
    """A person who looks from one target to the next, frame by frame."""
    rng = np.random.default_rng(seed)
    names, poses = list(TARGETS), []
    position = np.array([rng.uniform(-0.1, 0.1), rng.uniform(-0.03, 0.06), rng.uniform(0.5, 0.75)])
    name = "screen"
    while len(poses) < seconds * fps:
        spot = np.array(TARGETS[name]) + rng.normal(0, 0.02, 3)
        poses += [towards(position, spot)] * int(rng.uniform(1.5, 5) * fps)
        name = str(rng.choice([other for other in names if other != name]))
    steps = np.array(poses[: int(seconds * fps)])
    turn = int(0.3 * fps)
    window = np.hanning(turn + 2)[1:-1]
    padded = np.concatenate([steps[:1].repeat(turn, 0), steps, steps[-1:].repeat(turn, 0)])
    smooth = np.stack([np.convolve(p, window / window.sum(), "same") for p in padded.T], -1)
    smooth = smooth[turn:-turn]
    t = np.arange(len(smooth))[:, None] / fps
    sway = np.sin(t * (1.1, 1.7, 0.6) * 2 + np.array([0, 1, 2])) * (1.0, 1.0, 2.0)
    return [Placed(pose, position) for pose in smooth + sway]


def inside(placed: Placed) -> str | None:
    """The zone that a head truly faces."""
    axis = face_axis(placed.pose)
    best = min(ZONES, key=lambda zone: zone.outside(placed.position, axis))
    return best.name if best.outside(placed.position, axis) <= 0 else None


def follow(frames: list[Placed], look: Look, film: Film | None, fps: int = FPS) -> Result:
    """Zones seen and true in a video."""
    attention, result = Attention(), Result()
    smooth = PredictiveFilter()
    before: str | None = None
    for placed in frames:
        truth = inside(placed)
        seen = look(placed, film)
        if seen is not None:
            pose, position = seen
            attention.update(ZONES, position, smooth(pose, 1 / fps), 1 / fps)
        result.hits += truth is not None and attention.zone == truth
        result.false += attention.zone is not None and attention.zone != truth
        result.missed += truth is not None and attention.zone != truth
        result.true_changes += truth != before
        before = truth
    result.changes = attention.changes
    return result


def noisy(noise: float, seed: int = 0) -> Look:
    """What a network with errors of `noise` degrees about each axis would see."""
    rng = np.random.default_rng(seed)

    def look(placed: Placed, _: Film | None) -> tuple[np.ndarray, np.ndarray]:
        off = pose_to_matrix(rng.normal(0, noise, 3))
        scale = 1 + rng.normal(0, 0.05)
        return matrix_to_pose(pose_to_matrix(placed.pose) @ off), placed.position * scale

    return look


def network(estimator: HeadPoseEstimator) -> Look:
    """What the estimator sees in the rendered frames."""

    def look(placed: Placed, film: Film | None) -> tuple[np.ndarray, np.ndarray] | None:
        assert film is not None
        heads = estimator(film.frame([placed]), max_heads=1)
        if not heads:
            return None
        position = head_position(
            np.array(heads[0].box), heads[0].pose, film.camera, bounded(estimator.detector)
        )
        return as_placed(heads[0].pose, position), position

    return look


def zero_error(look: Look, film: Film | None, seed: int) -> float:
    """Degrees between a direction and the zero calibrated on it in another second."""
    rng = np.random.default_rng(seed)
    position = np.array([0.0, 0.0, 0.6])
    aim = rng.uniform((-25, -15, -10), (25, 15, 10))
    t = np.arange(2 * FPS)[:, None] / FPS
    sway = 0.6 * np.sin(2 * np.pi * t * (0.7, 1.1, 0.9) + rng.uniform(0, 6, 3))
    seen = [look(Placed(aim + s, position), film) for s in sway]
    poses = np.array([pose for pose, _ in filter(None, seen)])
    half = len(poses) // 2
    zero = calibrate(poses[:half])
    later = calibrate(zero(poses[half:])).rotation
    # What the head itself did between the two seconds is no error of the zero.
    turned = [calibrate(aim + s).rotation for s in (sway[:FPS], sway[FPS:])]
    return float(geodesic_degrees(later, turned[0].T @ turned[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot")
    parser.add_argument("--detector")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    print("poses                  F1     changes  true changes  zero error: mean  largest")
    for noise in (1.0, 2.0, 3.0):
        results = [follow(looks(60, i), noisy(noise, i), None) for i in range(10)]
        zeros = [zero_error(noisy(noise, i), None, i) for i in range(10)]
        show(f"truth and noise of {noise:g}°", results, zeros)
    estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
    results, zeros = [], []
    for person in tqdm(range(options.people), disable=None):
        film = Film(Camera.from_fov(60, *SIZE), [Actor(person)], person, noise=4.0)
        results.append(follow(looks(options.seconds, person), network(estimator), film))
        zeros.append(zero_error(network(estimator), film, person))
    show("rendered, the network", results, zeros)


def show(name: str, results: list[Result], zeros: list[float]) -> None:
    total = Result(*np.sum([list(vars(r).values()) for r in results], 0).tolist())
    print(
        f"{name:21}  {total.f1:.3f}  {total.changes:7}  {total.true_changes:12}"
        f"  {np.mean(zeros):15.2f}°  {np.max(zeros):6.2f}°",
        flush=True,
    )


if __name__ == "__main__":
    main()
