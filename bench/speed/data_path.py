"""How fast photos become training batches, and what decoding at reduced scale changes.

    python -m bench.speed.data_path --data_dir datasets/AFLW2000

Rates are per second of CPU time, which is per core, and of wall time with one thread per core.
"""

from __future__ import annotations

import argparse
import os
import time

import mlx_headpose

# isort: split

import mlx.core as mx  # isort: skip
import numpy as np

from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import open_dataset
from mlx_headpose.data.augment import Augmentation, apply
from mlx_headpose.data.base import resample
from mlx_headpose.data.loader import Loader


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="folder of AFLW2000")
    parser.add_argument("--input_size", type=int, default=128)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    dataset = open_dataset("AFLW2000", options.data_dir)
    dataset.select(np.arange(len(dataset)) < options.images)
    size = options.input_size
    width, height = dataset.image(0).size
    print(f"{len(dataset)} JPEGs of {width}×{height} → {size} px, mlx-headpose", end=" ")
    print(mlx_headpose.__version__)

    for workers in (1, os.cpu_count() or 1):
        loader = Loader(
            dataset,
            ImageInput(Preprocessing(size=size)),
            batch_size=32,
            augmentation=Augmentation(),
            workers=workers,
        )
        wall, cpu = time.perf_counter(), time.process_time()
        for batch in loader.batches():
            last = batch
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        count = len(loader) * loader.batch_size
        print(f"{workers} threads: {count / cpu:.0f} images per CPU second, {count / wall:.0f}/s")

    arrays = [mx.array(a) for a in (last.inputs, last.poses, last.changes)]
    mx.eval(apply(*arrays))
    cpu = time.process_time()
    for _ in range(5):
        mx.eval(apply(*arrays))
    each = (time.process_time() - cpu) / 5 / len(last.ids)
    print(f"augmentation on {mx.default_device()}: {1e3 * each:.2f} ms of CPU time an image")

    psnr = []
    for index in range(0, len(dataset), 10):
        box = dataset.crop_box(index)
        exact = resample(dataset.image(index), box, size).astype(float)
        error = np.mean((dataset.cut(index, box, size) - exact) ** 2)
        psnr.append(10 * np.log10(255**2 / max(error, 1e-6)))
    low, median = np.percentile(psnr, [1, 50])
    print(f"reduced decoding against full: PSNR median {median:.1f} dB, 1st percentile {low:.1f}")


if __name__ == "__main__":
    main()
