"""By how much float16 moves the angles of networks: who may use it on GPUs.

Each network reads the crops of AFLW2000 in float32 and in float16, weights and features alike, on
this machine's CPU, where float16 is slow. `ModelConfig.float16` is for methods that stay below
0.05°.
"""

from __future__ import annotations

import argparse

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import mlx.core as mx  # isort: skip
import numpy as np

from mlx_headpose.data import open_dataset
from mlx_headpose.methods import Estimator
from mlx_headpose.pose import angle_errors
from mlx_headpose.quantization import folded, in_dtype
from mlx_headpose.weights import BUNDLED, from_pretrained


def change(model: Estimator, inputs: np.ndarray, batch: int = 16) -> np.ndarray:
    """(N, 3) degrees by which float16 moves yaw, pitch and roll."""
    plain = folded(model)
    half = in_dtype(plain, mx.float16)
    normalize = model.config.inputs.normalize
    changes = []
    for start in range(0, len(inputs), batch):
        values = normalize(mx.array(inputs[start : start + batch]))
        wide = [np.array(o, np.float64) for o in plain(values)]
        narrow = [
            np.array(o.astype(mx.float32), np.float64) for o in half(values.astype(mx.float16))
        ]
        poses = [np.asarray(model.head.decode(tuple(o))) for o in (wide, narrow)]  # type: ignore[arg-type]
        changes.append(angle_errors(*poses))
    return np.concatenate(changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", help="folder of AFLW2000")
    parser.add_argument("--snapshot", nargs="*", default=[str(BUNDLED)])
    parser.add_argument("--count", type=int, default=200, help="images, spread over the set")
    options = parser.parse_args()
    for snapshot in options.snapshot:
        model = from_pretrained(snapshot)
        crop = model.config.preprocessing.crop
        dataset = open_dataset("AFLW2000", options.data_dir, crop=crop)
        step = max(1, len(dataset) // options.count)
        reads = model.config.inputs
        chosen = range(0, len(dataset), step)
        inputs = np.stack([reads.sample(dataset, i) for i in chosen])
        worst = change(model, inputs).max(axis=1)
        print(
            f"{snapshot}: {len(worst)} images, median {np.median(worst):.4f}°, "
            f"99 % {np.quantile(worst, 0.99):.4f}°, largest {worst.max():.4f}°"
        )


if __name__ == "__main__":
    main()
