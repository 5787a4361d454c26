"""Hours at the webcam: memory and latency of `predict.py --source 0`, with a simulated camera.

    python -m bench.speed.load_webcam --seconds 3600 \
        --snapshot weights/hopelessnet-squeezenet1_1.safetensors

The command runs as a user starts it; only OpenCV's camera and window are stood in for. The camera
shows synthetic heads that come in and leave before a moving background, and has its next frame
ready as soon as the last one is shown. Latency is the time from a frame's capture until it is
shown. Memory is flat if the largest resident set after the warm-up is under 5 % above its end.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFilter

from bench.memory import resident_bytes
from mlx_headpose.cli.predict import run
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.builtin.scene import BuiltInScene, sample_shot
from mlx_headpose.synthetic.rasterize import Camera
from mlx_headpose.synthetic.scene import render

WIDTH, HEIGHT, SIDE = 640, 480, 200
POOL = 200
POSES = 10  # pictures of each person, shown one after the other
SAMPLE_S = 5.0
WARM_UP_S = 300.0


def head_pictures(person: int) -> list[np.ndarray]:
    """(SIDE, SIDE, 3) pictures of one person who shakes the head."""
    people = SyntheticHeads(person + 1, "val", 0, size=SIDE).people
    pictures = []
    for step in range(POSES):
        still = np.random.default_rng(1000 + person)
        shot = sample_shot(still, people.expressions[person])
        pose = np.array([40 * np.sin(2 * np.pi * step / POSES), 5.0 * person - 8, 0.0])
        scene = BuiltInScene(people.person(person), people.shapes[person], shot, pose)
        camera = Camera(900.0, 0.0022, (0.5, 0.5))
        pictures.append(np.asarray(render(scene, camera, SIDE, still)[0]))
    return pictures


def make_pool() -> np.ndarray:
    """(POOL, HEIGHT, WIDTH, 3) uint8 RGB: each person crosses the picture at some time."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    blurred = np.asarray(noise.filter(ImageFilter.GaussianBlur(6)), np.float32)
    scene = np.clip((blurred - 128) * 6 + 128, 0, 255).astype(np.uint8)
    pool = np.stack([np.roll(scene, 3 * step, axis=1) for step in range(POOL)])
    # Frames in which each person is seen; at times all, at times nobody.
    visits = [(5, 120), (30, 150), (60, 110), (100, 185)]
    for person, (start, end) in enumerate(visits):
        pictures = head_pictures(person)
        top = 20 + 70 * person
        for step in range(start, end):
            left = round((step - start) / (end - start) * (WIDTH + SIDE)) - SIDE
            low, high = max(left, 0), min(left + SIDE, WIDTH)
            picture = pictures[step // 3 % POSES]
            pool[step, top : top + SIDE, low:high] = picture[
                : HEIGHT - top, low - left : high - left
            ]
    return pool


def resident_mb() -> float:
    """What this process has in memory now."""
    return resident_bytes() / (1 << 20)


class Stage:
    """Stands in for the camera and the window, and keeps the record."""

    def __init__(self, pool: np.ndarray, seconds: float, log: Path | None):
        self.pool = np.ascontiguousarray(pool[..., ::-1])  # OpenCV's blue-green-red
        self.seconds = seconds
        self.log = log
        self.shown = threading.Semaphore(1)
        self.captured: list[float] = []
        # Growing lists would be the growth we look for: 8 bytes a frame in one block.
        self.latencies = np.zeros(2_000_000, np.float32)
        self.latencies.fill(np.nan)
        self.frames = 0
        self.begin, self.begin_cpu = time.perf_counter(), time.process_time()
        self.samples: list[tuple[float, float]] = []

    # The camera.
    def isOpened(self) -> bool:
        return True

    def get(self, field: int) -> float:
        sides = {cv2.CAP_PROP_FRAME_WIDTH: WIDTH, cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT}
        return sides.get(field, 30)

    def release(self) -> None:
        pass

    def read(self) -> tuple[bool, np.ndarray]:
        self.shown.acquire(timeout=60)
        rounds, step = divmod(self.frames, POOL)
        pixels = self.pool[step]
        # Every other round runs mirrored, so that two rounds are not the same.
        pixels = np.ascontiguousarray(pixels[:, ::-1] if rounds % 2 else pixels)
        self.captured = [time.perf_counter()]
        return True, pixels

    # The window.
    def imshow(self, _: str, pixels: np.ndarray) -> None:
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        now = time.perf_counter()
        self.latencies[self.frames] = now - self.captured[0]
        self.frames += 1
        due = len(self.samples) * SAMPLE_S
        if now - self.begin >= due:
            self.samples.append((now - self.begin, resident_mb()))
            if self.log:
                with self.log.open("a") as file:
                    json.dump([*self.samples[-1], self.frames], file)
                    file.write("\n")

    def wait_key(self, _: int) -> int:
        self.shown.release()
        return ord("q") if time.perf_counter() - self.begin > self.seconds else -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", required=True)
    parser.add_argument("--detector")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--log", type=Path, help="file for one line of JSON every few seconds")
    options = parser.parse_args()
    stage = Stage(make_pool(), options.seconds, options.log)
    cv2.VideoCapture = lambda _: stage
    cv2.imshow, cv2.waitKey = stage.imshow, stage.wait_key
    cv2.getWindowProperty = lambda *_: 1.0
    cv2.destroyAllWindows = lambda: None
    arguments = ["--source", "0", "--snapshot", options.snapshot]
    run("predict.py", arguments + (["--detector", options.detector] if options.detector else []))
    report(stage)


def report(stage: Stage) -> None:
    """Print latency and memory."""
    times, memory = np.array(stage.samples).T
    latency = 1000 * stage.latencies[1 : stage.frames]
    print(f"{stage.frames} frames in {times[-1]:.0f} s, {stage.frames / times[-1]:.1f} frames/s")
    used = time.process_time() - stage.begin_cpu
    print(f"{1000 * used / stage.frames:.0f} ms of processor time a frame")
    shares = (50, 90, 99, 99.9)
    values = ", ".join(f"{s} % {np.percentile(latency, s):.0f}" for s in shares)
    print(f"latency in ms: {values}, largest {latency.max():.0f}")
    warm = times >= WARM_UP_S
    if warm.sum() > 1:
        first, rest = memory[warm][0], memory[warm]
        print(
            f"resident memory: {first:.0f} MB after {WARM_UP_S:.0f} s, then {rest.min():.0f} to"
            f" {rest.max():.0f} MB, at the end {rest[-1]:.0f} MB:"
            f" growth {100 * (rest.max() / first - 1):+.1f} %"
        )
    else:
        print(f"resident memory: {memory[0]:.0f} MB at first, {memory[-1]:.0f} MB at the end")


if __name__ == "__main__":
    main()
