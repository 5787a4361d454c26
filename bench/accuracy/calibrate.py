"""Fit the confidence of a rotation9d network to rendered validation heads, and store it.

    python -m bench.accuracy.calibrate --snapshot FILE --data_dir datasets/heads --output FILE \\
        [--average EARLIER --share 0.7] [--mirrored] [--margin 0.3]

With `--average`, the network's weights are first averaged with those of the earlier network that
its training began from, which keeps what that one knew (Wortsman et al., "Robust fine-tuning of
zero-shot models", CVPR 2022); `--share` is the snapshot's own. What only training computes is left
out. With `--mirrored` the network reads each crop and its mirror image from then on, and with
`--margin` crops have that margin (see `margins`).

Logistic regression (Platt 1999) of "the mean error of the three angles is within 10°" on the
length of the nine outputs. Half of the heads are shown darker, brighter or turned, so that the
confidence also knows what the network cannot see. One half fits, the other half is printed: the
confidence and how often it was right, by tenths.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import mlx.core as mx  # isort: skip
import numpy as np
from scipy.optimize import minimize

from bench.accuracy.margins import with_margin
from mlx_headpose.data import open_dataset
from mlx_headpose.data.augment import Augmentation, apply
from mlx_headpose.errors import InputError
from mlx_headpose.methods import Estimator, build
from mlx_headpose.methods.rotation9d.network import NineHead, logarithm
from mlx_headpose.pose import angle_errors
from mlx_headpose.weights import (
    for_inference,
    from_pretrained,
    load_strictly,
    save_pretrained,
    tensors_of,
)

BATCH = 64
RIGHT = 10.0  # degrees


def fit(z: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """(N,) inputs and whether each was right → a and b of the most likely sigmoid(a + b·z)."""

    def loss(values: np.ndarray) -> float:
        logit = values[0] + values[1] * z
        return float(np.logaddexp(0, logit).mean() - (logit * right).mean())

    a, b = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(a), float(b)


def average(model: Estimator, earlier: Path, share: float) -> None:
    """Give a network the average of its weights and an earlier network's; `share` is its own.

    Raises:
        InputError: the earlier one cannot be loaded, or is of another architecture or size.
    """
    own = tensors_of(model)
    theirs = tensors_of(for_inference(from_pretrained(earlier)))
    load_strictly(model, theirs, earlier)  # refuses what does not fit
    mean = {name: share * value + (1 - share) * theirs[name] for name, value in own.items()}
    load_strictly(model, mean, earlier)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--average", type=Path, help="the network that the training began from")
    parser.add_argument("--share", type=float, default=0.7, help="of the snapshot in the average")
    parser.add_argument("--mirrored", action="store_true", help="average mirror images as well")
    parser.add_argument("--margin", type=float, help="k of its crops from then on")
    parser.add_argument("--output", type=Path, help="where the network is written with it")
    options = parser.parse_args()
    try:
        model = for_inference(from_pretrained(options.snapshot))
        head = model.head
        if not isinstance(head, NineHead):
            raise InputError(f"{options.snapshot}: only rotation9d networks are calibrated")
        if options.average:
            average(model, options.average, options.share)
    except InputError as error:
        parser.error(str(error))
    config = model.config
    if options.mirrored:
        config = dataclasses.replace(config, mirrored=True)
    if options.margin is not None:
        preprocessing = with_margin(config.preprocessing, options.margin)
        config = dataclasses.replace(config, preprocessing=preprocessing)
    changed = build(config)
    load_strictly(changed, tensors_of(model), options.snapshot)
    model = changed.eval()
    dataset = open_dataset(
        "rendered", options.data_dir, crop=model.config.preprocessing.crop, yaw=180
    )
    harder = Augmentation(0.0, turn=180, rescale=1.2, exposure=6)
    lengths, errors = [], []
    for start in range(0, len(dataset), BATCH):
        samples = [
            model.config.inputs.training_sample(
                dataset, i, np.random.default_rng((7, i)), harder if i % 2 else Augmentation(0.0)
            )
            for i in range(start, min(start + BATCH, len(dataset)))
        ]
        images, poses, changes = (np.stack(part) for part in zip(*samples, strict=True))
        pixels, _ = apply(mx.array(images), mx.array(poses), mx.array(changes))
        outputs = model(pixels)
        lengths.append(np.sqrt(np.square(np.array(outputs[0])).sum((-2, -1)) / 3))
        errors.append(angle_errors(np.array(model.decode(outputs)), poses).mean(1))
    z, right = logarithm(np, np.concatenate(lengths)), np.concatenate(errors) <= RIGHT
    fits = (np.arange(len(z)) // 2) % 2 == 0
    calibration = fit(z[fits], right[fits])
    print(
        f"a {calibration[0]:.3f}, b {calibration[1]:.3f}, from {fits.sum()} heads; on the others:"
    )
    chance = 1 / (1 + np.exp(-calibration[0] - calibration[1] * z[~fits]))
    order = np.argsort(chance)
    print("confidence  right")
    for tenth in np.array_split(order, 10):
        print(f"{chance[tenth].mean():10.2f}  {right[~fits][tenth].mean():5.2f}")
    if options.output:
        config = dataclasses.replace(
            model.config, calibration=tuple(round(value, 4) for value in calibration)
        )
        calibrated = build(config)
        calibrated.update(model.parameters())
        save_pretrained(calibrated, options.output, half=True)


if __name__ == "__main__":
    main()
