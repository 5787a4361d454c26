"""How fast synthetic heads are drawn: `python bench/synthetic_heads.py [--size 128] [--count 200]`.

Reports images a second with one thread and with two, and where one thread's time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlx_headpose.data.synthetic import SyntheticHeads


def rate(size: int, count: int, threads: int) -> tuple[float, float]:
    """Images a second by the clock, and per second of processor time."""
    heads = SyntheticHeads(count + 1, size=size)
    heads.image(count)
    clock, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(heads.image, range(count)):
            pass
    return count / (time.perf_counter() - clock), count / (time.process_time() - processor)


def main() -> None:
    """Print the rates and the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--profile", type=int, default=0, help="slowest functions to list")
    args = parser.parse_args()
    start = time.perf_counter()
    SyntheticHeads(20000, size=args.size)
    print(f"20000 samples listed in {time.perf_counter() - start:.2f} s")
    for threads in (1, 2):
        clock, processor = rate(args.size, args.count, threads)
        print(
            f"{args.size} px, {threads} thread(s): {clock:.0f} images/s, "
            f"{processor:.0f} per second of processor time"
        )
    if args.profile:
        with cProfile.Profile() as profile:
            rate(args.size, args.count, 1)
        pstats.Stats(profile).sort_stats("tottime").print_stats(args.profile)


if __name__ == "__main__":
    main()
