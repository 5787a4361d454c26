"""How fast synthetic heads are rendered.

    python -m bench.speed.synthetic_heads [--size 128] [--count 200]

Reports images a second with one thread and with two, and where one thread's time goes; with
`--mesh FILE`, of the head model's people. `--effects` reports what each group of camera effects
costs instead.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.effects import GROUPS, Effects
from mlx_headpose.synthetic.photo import PLAIN
from mlx_headpose.synthetic.scene import SUPERSAMPLING


def rate(size: int, count: int, threads: int, mesh: Path | None) -> tuple[float, float]:
    """Images a second by the clock, and per second of processor time."""
    photo = PLAIN if mesh is None else Effects()
    # A head model's kinds of hair are prepared when the first head wears them.
    first = 1 if mesh is None else 60
    heads = SyntheticHeads(count + first, size=size, mesh=mesh, photo=photo)
    for index in range(count, count + first):
        heads.rendered(index)
    clock, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(heads.rendered, range(count)):
            pass
    return count / (time.perf_counter() - clock), count / (time.process_time() - processor)


def effects(size: int, count: int) -> None:
    """Print milliseconds of processor time per picture, of all groups and of each alone."""
    large = round(size * SUPERSAMPLING)
    # What blur, noise and the JPEG's coder cost depends on what they see: a head.
    head = SyntheticHeads(1, "val", size=large).image(0)
    skin = np.array((0.5, 0.3, 0.2), np.float32)

    def cost(photo: Effects) -> float:
        start = time.process_time()
        for number in range(count):
            rng = np.random.default_rng(number)
            photo.background(large, rng)
            picture = head.copy()
            photo.occlude(picture, skin, rng)
            photo.develop(picture, size, rng)
        return 1000 * (time.process_time() - start) / count

    cost(Effects())
    print(f"{size} px, all camera effects: {cost(Effects()):.2f} ms")
    without = cost(Effects(GROUPS))
    print(f"none of them, but the picture scaled down: {without:.2f} ms")
    for group in GROUPS:
        alone = cost(Effects([name for name in GROUPS if name != group]))
        print(f"{group} adds {alone - without:.2f} ms")


def main() -> None:
    """Print the rates and the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--profile", type=int, default=0, help="slowest functions to list")
    parser.add_argument("--mesh", type=Path, help="head model to render, with all camera effects")
    parser.add_argument("--effects", action="store_true", help="time the camera effects instead")
    args = parser.parse_args()
    if args.effects:
        effects(args.size, args.count)
        return
    start = time.process_time()
    SyntheticHeads(20000, size=args.size, mesh=args.mesh)
    print(f"20000 samples listed in {time.process_time() - start:.2f} s of processor time")
    for threads in (1, 2):
        clock, processor = rate(args.size, args.count, threads, args.mesh)
        print(
            f"{args.size} px, {threads} thread(s): {clock:.0f} images/s, "
            f"{processor:.0f} per second of processor time"
        )
    if args.profile:
        with cProfile.Profile() as profile:
            rate(args.size, args.count, 1, args.mesh)
        pstats.Stats(profile).sort_stats("tottime").print_stats(args.profile)


if __name__ == "__main__":
    main()
