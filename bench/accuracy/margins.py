"""How much around a face a network should see: errors by crop, on rendered validation heads.

    python -m bench.accuracy.margins --data_dir datasets/heads [--snapshot FILE]

Printed for margins of k around the box of the 68 landmarks are the mean rotation errors of all
heads and by view: front (|yaw| below 60°), side, and back (from 120°).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX
from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import open_dataset
from mlx_headpose.evaluation.detection import VIEWS
from mlx_headpose.pose import geodesic_errors
from mlx_headpose.predictor import Predictor
from mlx_headpose.weights import BUNDLED, for_inference, from_pretrained

MARGINS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
BATCH = 64


def with_margin(preprocessing: Preprocessing, k: float) -> Preprocessing:
    """The same with another margin, around annotated and detected faces alike."""
    crop = preprocessing.crop
    changed = dataclasses.replace(crop, test=crop.test.with_k(k), face=crop.face.with_k(k))
    return dataclasses.replace(preprocessing, crop=changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, default=BUNDLED)
    parser.add_argument("--data_dir", type=Path, required=True, help="rendered heads")
    options = parser.parse_args()
    model = for_inference(from_pretrained(options.snapshot))
    predictor = Predictor(model)
    print("   k     all   " + "   ".join(VIEWS))
    for k in MARGINS:
        inputs = ImageInput(with_margin(model.config.preprocessing, k))
        crop = inputs.preprocessing.crop
        heads = open_dataset("rendered", options.data_dir, crop=crop, yaw=180)
        found = []
        for start in range(0, len(heads), BATCH):
            batch = range(start, min(start + BATCH, len(heads)))
            found.append(predictor.many([inputs.sample(heads, i) for i in batch])[0])
        errors = geodesic_errors(np.concatenate(found), heads.poses)
        yaw = np.abs(heads.poses[:, 0])
        views = [errors[(yaw >= low) & (yaw < high)].mean() for low, high in VIEWS.values()]
        print(f"{k:4.2f}  {errors.mean():6.2f}" + "".join(f"  {view:6.2f}" for view in views))


if __name__ == "__main__":
    main()
