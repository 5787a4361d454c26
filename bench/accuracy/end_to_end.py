"""What a user really gets on AFLW2000: errors with detected boxes, margins, and confidence.

    python -m bench.accuracy.end_to_end --snapshot weights/hopelessnet-squeezenet1_1.safetensors \
        --data_dir datasets/AFLW2000 --filename_list datasets/AFLW2000/files.txt \
        --curve confidence.png

Images 0, 2, 4, ... of the list calibrate the crop margin and the confidence; images 1, 3, 5, ...
test them. A face that the detector does not find has no error: the share of these is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip
import numpy as np
from scipy.optimize import minimize
from tqdm import tqdm

from mlx_headpose.core.crop import AROUND_LANDMARKS, TRAINING, Margins, cut
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.detection.heads.boxes import overlap
from mlx_headpose.detection.yunet import FaceDetector
from mlx_headpose.figures import new_figure, write_figure
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.methods import Estimator
from mlx_headpose.pose import angle_errors

MARGINS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
OVERLAP = 0.4
GOOD = 10.0  # degrees of mean error that confidence speaks of
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--filename_list")
    parser.add_argument("--detector")
    parser.add_argument("--curve", help="PNG of confidence against error")
    options = parser.parse_args()

    estimator = HeadPoseEstimator.from_pretrained(options.snapshot)
    model = estimator.model
    published = open_dataset("AFLW2000", options.data_dir, options.filename_list)
    landmarks = open_dataset(
        "AFLW2000", options.data_dir, options.filename_list, crop=AROUND_LANDMARKS
    )
    boxes = detect(landmarks, FaceDetector.from_pretrained(options.detector))
    found = np.isfinite(boxes).all(1)
    calibration = np.arange(len(boxes)) % 2 == 0
    print(f"found {found.mean():.4f} of {len(boxes)} faces")

    margins = estimator.margins
    errors = {}
    for margin in MARGINS:
        chosen = margins.with_k(margin)
        predicted, _ = predict(model, landmarks, boxes, chosen, found & calibration)
        errors[margin] = angle_errors(predicted, landmarks.poses[found & calibration]).mean()
        print(f"margin {margin:.2f}: MAE {errors[margin]:.3f} on the calibration half", flush=True)
    best = min(errors, key=lambda margin: errors[margin])
    print(f"best margin {best}; the estimator's own {margins.k[0]}")

    chosen = margins.with_k(best)
    test = found & ~calibration
    print("test half                                  yaw   pitch    roll     MAE")
    for name, dataset, those, how in (
        ("ground truth, published protocol", published, published.boxes, published.margins),
        ("ground truth, box around pt3d_68", landmarks, landmarks.boxes, TRAINING),
        ("detected, calibrated margin", landmarks, boxes, chosen),
    ):
        predicted, confidence = predict(model, dataset, those, how, found)
        error = angle_errors(predicted, dataset.poses[found])
        half = test[found]
        row = [*error[half].mean(0), error[half].mean()]
        print(f"{name:40}" + "".join(f"{value:8.3f}" for value in row))
        everything = [*error.mean(0), error.mean()]
        print(f"{'  all found images':40}" + "".join(f"{value:8.3f}" for value in everything))
    if np.isfinite(confidence).all():
        calibrate(confidence, error.mean(1), ~half, options.curve)


def detect(dataset: Dataset, detector: FaceDetector) -> np.ndarray:
    """(N, 4) the detected box that overlaps the annotated one best; NaN where none does."""
    boxes = np.full((len(dataset), 4), np.nan)
    for index in tqdm(range(len(dataset)), "detect", unit="image", disable=None):
        (faces,) = detector([np.asarray(dataset.image(index))])
        overlaps = overlap(faces.boxes, dataset.boxes[index][None])[:, 0]
        if len(faces) and overlaps.max() >= OVERLAP:
            boxes[index] = faces.boxes[overlaps.argmax()]
    return boxes


def predict(
    model: Estimator, dataset: Dataset, boxes: np.ndarray, margins: Margins, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(M, 3) poses and (M,) confidences of the chosen samples."""
    indices = np.flatnonzero(which)
    poses, confidences = [], []
    for start in tqdm(range(0, len(indices), BATCH), str(margins), disable=None, leave=False):
        crops = [
            cut(dataset.image(i), margins.apply(boxes[i]), model.config.preprocessing)
            for i in indices[start : start + BATCH]
        ]
        outputs = model(mx.array(np.stack(crops)))
        poses.append(np.array(model.decode(outputs)))
        confidence = model.confidence(outputs)
        confidences.append(
            np.full(len(crops), np.nan) if confidence is None else np.array(confidence)
        )
    return np.concatenate(poses), np.concatenate(confidences)


def calibrate(
    confidence: np.ndarray, errors: np.ndarray, calibration: np.ndarray, curve: str | None
) -> None:
    """How far the network's confidence is from the chance of an error below `GOOD`.

    Prints the logistic curve that would correct it, fitted on one half (0 and 1 where nothing is to
    correct), and how it holds on the other as it is.
    """
    good = errors < GOOD
    p = np.clip(confidence.astype(np.float64), 1e-6, 1 - 1e-6)
    logit = np.log(p / (1 - p))

    def loss(weights: np.ndarray) -> float:
        z = weights[0] + weights[1] * logit[calibration]
        return float(np.logaddexp(0, np.where(good[calibration], -z, z)).mean())

    intercept, slope = minimize(loss, [0.0, 1.0], method="Nelder-Mead").x
    print(f"calibrated: logit = {intercept:.3f} + {slope:.3f} · the network's own")
    p, truth, error = p[~calibration], good[~calibration], errors[~calibration]
    order = np.argsort(p)
    print("test half by confidence:  mean confidence, share below 10°, mean error, images")
    rows = [
        (p[part].mean(), truth[part].mean(), error[part].mean(), len(part))
        for part in np.array_split(order, 10)
    ]
    for row in rows:
        print("  {:.3f}  {:.3f}  {:6.2f}  {}".format(*row))
    print(f"mean gap {np.mean([abs(row[0] - row[1]) for row in rows]):.3f}")
    if curve:
        draw(rows, p, error, curve)


def draw(rows: list[tuple[float, ...]], p: np.ndarray, error: np.ndarray, path: str) -> None:
    """Two curves: confidence against its own truth, and against the mean error."""
    figure = new_figure(9, 4)
    truth, errors = figure.subplots(1, 2)
    confidence, share, mean, _ = zip(*rows, strict=True)
    truth.plot([0, 1], [0, 1], color="grey", lw=1, ls="--", label="perfect")
    truth.plot(confidence, share, "o-", label="AFLW2000, test half")
    truth.set(
        xlabel="confidence", ylabel=f"share with a mean error below {GOOD:.0f}°", xlim=(0, 1),
        ylim=(0, 1.02),
    )  # fmt: skip
    truth.legend()
    errors.plot(p, error, ".", ms=3, alpha=0.4, label="one image")
    errors.plot(confidence, mean, "o-", label="mean of a tenth of the images")
    errors.set(xlabel="confidence", ylabel="mean error of the three angles (°)", ylim=(0, 40))
    errors.legend()
    for axes in (truth, errors):
        axes.grid(alpha=0.3)
    write_figure(figure, Path(path))


if __name__ == "__main__":
    main()
