"""Smoothing on a video whose truth is known: synthetic heads that turn, shake and rest.

    python -m bench.accuracy.video --snapshot weights/hopelessnet-squeezenet1_1.safetensors

Error is the mean angle of the rotation between estimate and truth. Jitter is the mean angle between
the turn from one frame to the next as estimated and as it was: a head at rest, or turning evenly,
should show none.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mlx_headpose.inference.estimator import Head, HeadPoseEstimator
from mlx_headpose.inference.video import VideoReader, VideoWriter
from mlx_headpose.inference.video_estimator import VideoEstimator
from mlx_headpose.pose import geodesic_degrees, pose_to_matrix
from mlx_headpose.space.perspective import as_placed
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.builtin.scene import BuiltInScene, sample_shot
from mlx_headpose.synthetic.people import on_axis
from mlx_headpose.synthetic.rasterize import Camera
from mlx_headpose.synthetic.scene import render

FPS = 30
SIDE = 360
DISTANCE = 900.0  # mm from the camera
NOISE = 5.0  # standard deviation of a pixel's noise, of 255


def motion(seconds: float = 8.0, steepest: float = 55.0) -> np.ndarray:
    """(T, 3) poses: rest, slow turns, quick shakes, a nod, rest."""
    t = np.arange(0, seconds, 1 / FPS)

    def during(start: float, end: float) -> np.ndarray:
        return np.clip((t - start) / 0.3, 0, 1) * np.clip((end - t) / 0.3, 0, 1)

    turns = steepest * np.sin(2 * np.pi * (t - 1.5) / 3.0) * during(1.5, 4.5)
    shakes = 25 * np.sin(2 * np.pi * (t - 4.7) / 0.6) * during(4.7, 5.9)
    nods = 18 * np.sin(2 * np.pi * (t - 6) / 0.7) * during(6.0, 7.1)
    tilt = 12 * np.sin(2 * np.pi * (t - 1.5) / 3.0 + 1) * during(1.5, 4.5)
    return np.stack([turns + shakes, nods, tilt], -1)


def all_the_way_round(seconds: float = 5.0) -> np.ndarray:
    """(T, 3) poses: a rest, one whole turn of the body, a rest."""
    t = np.arange(0, seconds + 2, 1 / FPS)
    yaw = 360 * np.clip((t - 1) / seconds, 0, 1)
    return np.stack([(yaw + 180) % 360 - 180, 0 * t, 0 * t], -1)


def make_video(path: Path, person: int, poses: np.ndarray) -> None:
    """Film one synthetic head from the validation split."""
    heads = SyntheticHeads(person + 1, "val", 0, size=SIDE)
    people = heads.people
    rng = np.random.default_rng(person)
    with VideoWriter(path, FPS, lambda image, _: image) as writer:
        for step, pose in enumerate(poses):
            # The same light, background and clothes in every frame; the head drifts a little.
            still = np.random.default_rng(1000 + person)
            shot = sample_shot(still, people.expressions[person])
            placed = as_placed(pose, on_axis(DISTANCE)).astype(np.float32)
            scene = BuiltInScene(people.person(person), people.shapes[person], shot, placed)
            centre = 0.5 + 0.06 * np.sin(step / 25), 0.5 + 0.03 * np.sin(step / 40)
            picture = np.asarray(render(scene, Camera(DISTANCE, 0.0022, centre), SIDE, still)[0])
            noisy = picture + rng.normal(0, NOISE, picture.shape)
            writer.put(np.clip(noisy, 0, 255).astype(np.uint8), [])


def follow(path: Path, video: VideoEstimator) -> list[list[Head]]:
    """The heads of every frame."""
    with VideoReader(path) as reader:
        return [video(frame) for frame in reader]


def jitter(estimated: np.ndarray, true: np.ndarray) -> float:
    """Degrees per frame that (T, 3) poses turn otherwise than the truth."""
    a, b = pose_to_matrix(estimated), pose_to_matrix(true)
    steps = [m[1:] @ np.swapaxes(m[:-1], -1, -2) for m in (a, b)]
    return float(geodesic_degrees(*steps).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot")
    parser.add_argument("--detector")
    parser.add_argument("--people", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--keep", help="folder to keep the videos in")
    options = parser.parse_args()
    estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
    poses = motion()
    print("person  detect every  filter     error  jitter  at rest  seen  frames/s")
    with tempfile.TemporaryDirectory() as folder:
        for person in options.people:
            path = Path(options.keep or folder) / f"head{person}.mp4"
            if not path.exists():
                make_video(path, person, poses)
            for detect_every in (1, 3):
                for smooth in (False, True):
                    video = VideoEstimator(estimator, detect_every=detect_every, smooth=smooth)
                    start = time.perf_counter()
                    heads = follow(path, video)
                    seconds = time.perf_counter() - start
                    seen = np.array([len(those) == 1 for those in heads])
                    found = np.array([those[0].pose for those in heads if len(those) == 1])
                    error = geodesic_degrees(pose_to_matrix(found), pose_to_matrix(poses[seen]))
                    resting = np.flatnonzero(seen)[:40]
                    at_rest = jitter(found[: len(resting)], poses[resting])
                    print(
                        f"{person:6}  {detect_every:12}  {'One-Euro' if smooth else 'none':8}"
                        f"  {error.mean():6.2f}  {jitter(found, poses[seen]):6.2f}  {at_rest:7.2f}"
                        f"  {seen.mean():4.2f}  {len(heads) / seconds:8.1f}",
                        flush=True,
                    )
            path = Path(options.keep or folder) / f"round{person}.mp4"
            if not path.exists():
                make_video(path, person, all_the_way_round())
            heads = follow(path, VideoEstimator(estimator))
            print(
                f"{person:6}  all the way round: a face in "
                f"{np.mean([any(h.score is not None for h in those) for those in heads]):.2f} of"
                f" the frames, a head in {np.mean([len(those) > 0 for those in heads]):.2f},"
                f" under {len({h.track for those in heads for h in those})} number(s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
