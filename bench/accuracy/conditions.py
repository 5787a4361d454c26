"""Errors and confidence of a network in dark, bright, grey and turned images.

    python -m bench.accuracy.conditions [--snapshot FILE] [--dataset rendered --data_dir FOLDER]
    python -m bench.accuracy.conditions --dataset AFLW2000 --data_dir datasets/AFLW2000

Every image is changed before it is cut. Darker and brighter images are scaled in their encoded
values, rounded to whole ones and clipped, as a camera with too short or too long an exposure
writes them; "12 bits" is what a 16-bit file with a 12-bit camera's values reads as. Errors are of
the rotation; the ratio is to unaltered images. A turned image's head has the turned pose.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import mlx.core as mx  # isort: skip
import numpy as np
from PIL import Image

from mlx_headpose.core.crop import cut
from mlx_headpose.data import open_dataset
from mlx_headpose.data.augment import UNCHANGED, Change
from mlx_headpose.data.base import turned_about
from mlx_headpose.pose import angle_errors, geodesic_errors
from mlx_headpose.weights import BUNDLED, from_pretrained

BATCH = 64
Alter = Callable[[np.ndarray], np.ndarray]


def gain(factor: float) -> Alter:
    """Values times a factor, rounded and clipped."""
    return lambda image: np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    """Without colours."""
    return np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, 2)


LIGHT: dict[str, Alter] = {
    "unaltered": lambda image: image,
    "1/4": gain(1 / 4),
    "1/8": gain(1 / 8),
    "1/16": gain(1 / 16),
    "12 bits": gain(4095 / 65535),
    "1/64": gain(1 / 64),
    "times 2": gain(2),
    "times 4": gain(4),
    "grey": grey,
    "black": gain(0),
}
TURNS = (45.0, 90.0, 135.0, 180.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, default=BUNDLED)
    parser.add_argument("--dataset", default="rendered")
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--filename_list", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="images, evenly from the set")
    options = parser.parse_args()
    model = from_pretrained(options.snapshot)
    preprocessing = model.config.preprocessing
    dataset = open_dataset(
        options.dataset, options.data_dir, options.filename_list, crop=preprocessing.crop
    )
    chosen = np.unique(np.linspace(0, len(dataset) - 1, options.count).astype(int))
    poses = dataset.poses[chosen].astype(np.float64)

    def run(alter: Alter, turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        found, confidences = [], []
        for start in range(0, len(chosen), BATCH):
            crops = []
            for index in chosen[start : start + BATCH]:
                box = dataset.crop_box(int(index))
                image = Image.fromarray(alter(np.asarray(dataset.image(int(index)))))
                if turn:
                    image = turned_about(image, box, turn)
                crops.append(cut(image, box, preprocessing))
            outputs = model(mx.array(np.stack(crops)))
            found.append(np.array(model.decode(outputs), np.float64))
            confidence = model.confidence(outputs)
            if confidence is not None:
                confidences.append(np.array(confidence, np.float64))
        return np.concatenate(found), np.concatenate(confidences or [np.full(1, np.nan)])

    print(f"{len(chosen)} images of {dataset.name}")
    print("image      rotation  ratio    MAE  confidence  0.95 and more")
    first = None
    for name, alter in LIGHT.items():
        found, confidence = run(alter)
        error = geodesic_errors(found, poses).mean()
        first = first or error
        print(
            f"{name:10} {error:8.2f}  {error / first:5.2f} {angle_errors(found, poses).mean():6.2f}"
            f"  {confidence.mean():10.2f}  {(confidence >= 0.95).mean():13.2f}",
            flush=True,
        )
    for turn in TURNS:
        found, confidence = run(LIGHT["unaltered"], turn)
        change = Change(np.zeros(4), turn, UNCHANGED)
        error = geodesic_errors(found, np.stack([change.turned(pose) for pose in poses]))
        sure = confidence >= 0.95
        print(
            f"turned {turn:3.0f} {error.mean():8.2f}  {error.mean() / first:5.2f}      –"
            f"  {confidence.mean():10.2f}  {sure.mean():13.2f}  of these beyond 60°:"
            f" {(error[sure] > 60).mean() if sure.any() else 0:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
