"""What each trick for Linux's CPUs gains (`mlx_headpose/cpu/` and `nn/winograd.py`), in turns.

    python -m bench.speed.tuning [--rounds 7] [--threads 2] [--tricks memory winograd]

One is left out at a time. Printed is the time without it as a share of the time with all, so 1.25
is a trick that saves a fifth. What gains less than 3 % in every column does not belong there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext

from bench.speed.table import Library, ours, serve

TRICKS = {
    "": "all of them",
    "blas": "the optimised BLAS",
    "kernels": "its kernels chosen by the processor",
    "memory": "freed memory kept",
    "pages": "large pages",
    "shards": "shards of a batch, one per core",
    "winograd": "3×3 convolutions by Winograd's filtering",
}
WORK = (
    ("squeezenet1_1", "inference", 1),
    ("resnet50", "inference", 8),
    ("pyramid", "inference", 8),
    ("squeezenet1_1", "training", 8),
    ("resnet50", "training", 8),
)


def without(trick: str) -> None:
    """Tune this process as `import mlx_headpose` does, but for one trick."""
    os.environ["MLX_HEADPOSE_NO_TUNING"] = "1"
    import mlx_headpose  # noqa: F401
    from mlx_headpose.cpu import blas, memory

    if trick == "pages":
        memory._large_pages = lambda _: None
    if trick == "kernels":
        blas.best_kernels = nullcontext
    if trick != "memory":
        memory.keep_freed_memory()
    if trick != "blas":
        blas.load_optimised_blas()
    from mlx_headpose.cpu import shards
    from mlx_headpose.nn import winograd

    if trick == "shards":
        shards.shards_on_cores = lambda _: nullcontext()
    if trick == "winograd":
        winograd.pays = lambda *_: False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each variant")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--tricks", nargs="+", choices=list(TRICKS)[1:], default=list(TRICKS)[1:], metavar="NAME"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        without(options.worker)
        serve(ours)
        return
    columns = [f"{network} {mode} {batch}" for network, mode, batch in WORK]
    print(f"| without | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    tricks = ["", *options.tricks]
    ratios: dict[str, list[float]] = {trick: [] for trick in tricks}
    for work in WORK:
        variants = {
            trick: Library(trick, options.threads, "bench.speed.tuning") for trick in tricks
        }
        taken: dict[str, list[float]] = {trick: [] for trick in tricks}
        for variant in variants.values():
            variant.ask(json.dumps(work))
        for _ in range(options.rounds):
            for trick, variant in variants.items():
                time.sleep(0.05)
                taken[trick].append(variant.ask()[0])
        for variant in variants.values():
            variant.close()
        medians = {trick: statistics.median(values) for trick, values in taken.items()}
        for trick, value in medians.items():
            ratios[trick].append(value / medians[""])
        print(work, {k: round(1e3 * v, 1) for k, v in medians.items()}, "ms", file=sys.stderr)
    for trick in options.tricks:
        print(f"| {TRICKS[trick]} | {' | '.join(f'{ratio:.2f}' for ratio in ratios[trick])} |")


if __name__ == "__main__":
    main()
