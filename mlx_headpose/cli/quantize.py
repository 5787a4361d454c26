"""`export.py --quantize`: a smaller network, and what it costs."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..data import DATASETS, Dataset, dataset_name
from ..errors import InputError
from ..evaluation.evaluate import Evaluation, evaluate, sample_inputs
from ..export.hub import Origin, write_network
from ..methods import Estimator
from ..pose import angle_errors
from ..quantization import SCHEMES, quantize_int8, quantize_weights
from ..weights import from_pretrained
from .datasets import open_for
from .options import positive

BATCH = 20
# Smaller only in the file: the network that is read back has float32 weights again.
HALF = "half"
CALIBRATION = (
    "calibration_dataset",
    "calibration_dir",
    "calibration_list",
    "calibration_images",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of quantisation."""
    group = parser.add_argument_group("quantisation")
    group.add_argument(
        "--quantize",
        choices=(*SCHEMES, HALF),
        help="int8: weights and activations of 8 bits after the first layers; mlx8, mlx4: MLX's "
        "own quantised weights; half: weights stored in 16 bits, computed with in 32",
    )
    group.add_argument(
        "--calibration_dataset",
        default="synthetic",
        help="images that show the network's usual input; their labels only enter the report",
    )
    group.add_argument("--calibration_dir", type=Path, help="folder of its files")
    group.add_argument("--calibration_list", type=Path, help="text file with one sample a line")
    group.add_argument(
        "--calibration_images", type=positive, default=100, help="how many of them are looked at"
    )


def quantize(model: Estimator, calibration: Dataset, options: argparse.Namespace) -> Estimator:
    """The quantised copy that the options ask for."""
    inputs = first_inputs(model, calibration, options.calibration_images)
    if options.quantize == "int8":
        return quantize_int8(model, inputs)
    return quantize_weights(model, int(options.quantize[-1]), inputs)


def write_quantized(
    model: Estimator, options: argparse.Namespace, output: Path, origin: Origin
) -> None:
    """Quantise, write, and print size and change of angle on images that calibration did not see.

    What is compared is the network that the written file holds.

    Args:
        model: float32.
        options: options of `add_options`.
        output: the `.safetensors` file or the folder to write.
        origin: where the network comes from.
    """
    if model.quantization is not None:
        raise InputError("the network is quantised already; give the float32 one")
    half = options.quantize == HALF
    calibration, unseen = open_images(model, options)
    smaller = model if half else quantize(model, calibration, options)
    write_network(smaller, output, origin, mx.float16 if half else None)
    written = output if output.suffix == ".safetensors" else output / "model.safetensors"
    print(f"wrote {output} ({written.stat().st_size / 1e6:.2f} MB)")
    print(f"on {len(unseen)} images of {unseen.name} that calibration did not see:")
    networks = model, from_pretrained(output)
    before, after = (evaluate(network, unseen, BATCH) for network in networks)
    print(describe_change(before, after))


def open_images(model: Estimator, options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Images to calibrate with, and others to compare on.

    Raises:
        InputError: there are fewer than two, or the options name none.
    """
    name = dataset_name(options.calibration_dataset)
    folder, names = options.calibration_dir, options.calibration_list
    if (folder or names) and not DATASETS[name].has_files:
        raise InputError(f"{folder or names}: say by --calibration_dataset what lies there")
    calibration, unseen = (open_for(model.config, name, folder, names) for _ in range(2))
    if len(calibration) < 2:
        raise InputError(f"{calibration.name}: has too few images to calibrate with")
    # Small sets are shared half and half.
    count = min(options.calibration_images, len(calibration) // 2)
    number = np.arange(len(calibration))
    calibration.select(number < count)
    unseen.select(number >= count)
    return calibration, unseen


def first_inputs(model: Estimator, dataset: Dataset, count: int) -> np.ndarray:
    """(count, ...) what the network reads of a dataset's first samples."""
    batches = islice(sample_inputs(model, dataset, BATCH, []), -(-count // BATCH))
    return np.concatenate([inputs for _, inputs in batches])[:count]


def describe_change(before: Evaluation, after: Evaluation) -> str:
    """One line: how far the angles moved, and the error before and after."""
    change = angle_errors(after.predictions, before.predictions)
    yaw, pitch, roll = change.mean(axis=0)
    return (
        f"mean change yaw {yaw:.3f}°, pitch {pitch:.3f}°, roll {roll:.3f}°, "
        f"all {change.mean():.3f}°, at most {change.max():.3f}°; "
        f"MAE {before.metrics().mae:.3f}° before, {after.metrics().mae:.3f}° after"
    )
