"""What the benchmarks beside PyTorch share: the clock, turns, layouts and the table."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

Runs = dict[str, Callable[[], object]]

# Where others use the machine too, the processor's seconds say more than the wall clock's.
CPU_TIME = "--cpu_time" in sys.argv
CLOCK = "processor seconds" if CPU_TIME else "wall seconds"
clock = time.process_time if CPU_TIME else time.perf_counter


def add_clock_option(parser: argparse.ArgumentParser) -> None:
    """`--cpu_time`, which chooses the clock."""
    parser.add_argument(
        "--cpu_time",
        action="store_true",
        help="count the processor's seconds, for a machine that others use too; best with "
        "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1, because waiting threads count",
    )


def seconds(runs: Runs, repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turns after one call that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if number:
                taken[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def planes(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) images in PyTorch's order, (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def table(title: str, images: int, taken: dict[str, float]) -> None:
    """Print images per second of each, MLX's as a share of PyTorch's as well."""
    print(title, flush=True)
    for name, value in taken.items():
        share = f"  ({taken['PyTorch'] / value:.2f} of PyTorch)" if name == "MLX" else ""
        print(f"  {name:24} {images / value:8.2f} images/s{share}")
