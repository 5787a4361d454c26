"""How well networks tell heads from what a detector takes for heads.

    python -m bench.accuracy.absence --data_dir datasets/wide/val-scenes [FILE ...]

The crops of a part that `render --kind crops` made, with heads and without. Printed for heads from
the front (|yaw| below 60°), the side and the back (from 120°), for each network: the mean rotation
error, and the share whose confidence is above that of 90 % of the crops without a head.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX
from mlx_headpose.data import open_dataset
from mlx_headpose.data.augment import Augmentation
from mlx_headpose.evaluation.detection import VIEWS
from mlx_headpose.pose import geodesic_errors
from mlx_headpose.predictor import Predictor
from mlx_headpose.weights import BUNDLED, for_inference, from_pretrained

SHARE = 0.9


def above(confidences: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N,) whether each confidence is above those of `SHARE` of the crops that show no head.

    Args:
        confidences: (N,) of crops.
        there: (N,) whether each shows a head.
    """
    return confidences > np.quantile(confidences[~there], SHARE)


def measure(snapshot: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a network and a part of crops: (N, 3) poses, (N,) errors in degrees, (N,) confidences.

    Poses and errors of crops without a head are NaN.

    Raises:
        InputError: the network or the crops cannot be read.
    """
    model = for_inference(from_pretrained(snapshot))
    crop = model.config.preprocessing.crop
    crops = open_dataset("rendered", folder, crop=crop, yaw=180, absent=True)
    inputs = [
        model.config.inputs.training_sample(
            crops, index, np.random.default_rng(index), Augmentation(0.0)
        )[0]
        for index in range(len(crops))
    ]
    found, confidences = Predictor(model).many(inputs)
    errors = np.full(len(crops), np.nan)
    there = ~np.isnan(crops.poses).any(1)
    errors[there] = geodesic_errors(found[there], crops.poses[there])
    return crops.poses, errors, confidences


def by_view(snapshot: Path, folder: Path) -> dict[str, tuple[int, float, float]]:
    """View → heads, their mean error in degrees, and the share that is surer; see `measure`."""
    poses, errors, confidences = measure(snapshot, folder)
    there = ~np.isnan(errors)
    surer, yaw = above(confidences, there), np.abs(poses[:, 0])
    views = {}
    for view, (least, most) in VIEWS.items():
        those = there & (yaw >= least) & (yaw < most)
        views[view] = int(those.sum()), float(errors[those].mean()), float(surer[those].mean())
    return views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snapshots", type=Path, nargs="*", default=[BUNDLED], metavar="FILE")
    parser.add_argument("--data_dir", type=Path, required=True, help="a part of crops")
    options = parser.parse_args()
    for snapshot in options.snapshots:
        print(snapshot)
        for view, (heads, error, share) in by_view(snapshot, options.data_dir).items():
            print(f"  {view:5}  {heads:5} heads  {error:6.2f}°  {share:.3f}")


if __name__ == "__main__":
    main()
