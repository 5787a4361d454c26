"""Latency, rate and memory of the camera loop: one head at 640×480, the networks that come along.

    python -m bench.speed.live [--detector FILE] [--seconds 60]

The camera delivers rendered frames that were made before, thirty a second, or with `--fast` as fast
as they are taken. Latency is from the capture of a frame until its heads are known. For the growth
of an hour's run give `--seconds 3600`: resident memory after a minute and at the end.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from bench.memory import resident_bytes
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.inference.loop import stream
from mlx_headpose.synthetic.demo import FPS, Demo

FRAMES = 150  # five seconds, there and back


class Film:
    """A camera that delivers frames that are there.

    Args:
        frames: blue-green-red.
        fast: whether a frame is there as soon as it is asked for.
    """

    def __init__(self, frames: list[np.ndarray], fast: bool):
        self.frames = frames
        self.fast = fast
        self.count = 0
        self.start = time.perf_counter()

    def isOpened(self) -> bool:
        return True

    def get(self, property_: int) -> float:
        height, width = self.frames[0].shape[:2]
        return {3: width, 4: height, 5: FPS}.get(property_, 0.0)

    def read(self) -> tuple[bool, np.ndarray]:
        self.count += 1
        wait = self.start + self.count / FPS - time.perf_counter()
        time.sleep(0.002 if self.fast else max(0.0, wait))
        there_and_back = self.count % (2 * len(self.frames) - 2)
        return True, self.frames[min(there_and_back, 2 * len(self.frames) - 2 - there_and_back)]

    def release(self) -> None:
        pass


def resident_mb() -> float:
    """Memory of this process that is in RAM."""
    return resident_bytes() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot")
    parser.add_argument("--detector")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--detect_every", type=int)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
    demo = Demo()
    frames = [np.ascontiguousarray(demo.frame(i / FPS)[..., ::-1]) for i in range(FRAMES)]
    latencies, heads, early, spent = [], 0, 0.0, 0.0
    seen = None
    for seen in stream(
        estimator, lambda: Film(frames, options.fast), detect_every=options.detect_every
    ):
        if seen.frame.time > 2:  # networks and caches are warm
            spent = spent or time.process_time()
            latencies.append(1000 * (seen.latency or 0))
            heads += len(seen.heads)
        if not early and seen.frame.time > min(60, options.seconds / 2):
            early = resident_mb()
        if seen.frame.time > options.seconds:
            break
    assert seen is not None
    spent = 1000 * (time.process_time() - spent) / len(latencies)
    middle, slow = np.percentile(latencies, (50, 95))
    print(
        f"{len(latencies) / (options.seconds - 2):.1f} frames/s, {seen.dropped} dropped,"
        f" {heads / len(latencies):.2f} heads a frame; latency p50 {middle:.1f} ms, p95 {slow:.1f}"
        f" ms; {spent:.0f} ms of processor time a frame; memory {early:.0f} MB, then"
        f" {resident_mb():.0f} MB; load of the machine {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
