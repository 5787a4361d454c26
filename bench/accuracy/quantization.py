"""What smaller weights cost: size on disk and change of the angles, in one table.

    python -m bench.accuracy.quantization --snapshot workdirs_whenet_circle/best.safetensors

Calibrated on 100 images, compared with float32 on others of the same set.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mlx_headpose.cli.options import Parser, positive
from mlx_headpose.cli.quantize import BATCH, HALF, add_options, open_images, quantize
from mlx_headpose.evaluation.evaluate import evaluate
from mlx_headpose.pose import angle_errors
from mlx_headpose.quantization import SCHEMES
from mlx_headpose.weights import from_pretrained, save_pretrained


def main() -> None:
    parser = Parser(
        "bench/accuracy/quantization.py", "Size and change of every kind of quantisation."
    )
    parser.add_argument("--snapshot", required=True, help="a trained network (.safetensors)")
    add_options(parser)
    parser.add_argument("--images", type=positive, default=500, help="how many are compared")
    options = parser.parse_args()
    model = from_pretrained(options.snapshot)
    calibration, unseen = open_images(model, options)
    unseen.select(np.arange(len(unseen)) < options.images)
    original = evaluate(model, unseen, BATCH)
    print(f"{len(unseen)} images of {unseen.name}; mean change of the angles in degrees")
    print(
        f"{'':8} {'MB':>6} {'layers':>6} {'yaw':>6} {'pitch':>6} {'roll':>6} {'mean':>6} "
        f"{'95 %':>6} {'MAE':>6} {'img/s':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for scheme in ("float32", HALF, *SCHEMES):
            options.quantize = scheme
            network = quantize(model, calibration, options) if scheme in SCHEMES else model
            path = Path(folder) / f"{scheme}.safetensors"
            save_pretrained(network, path, half=scheme == HALF)
            found = evaluate(from_pretrained(path), unseen, BATCH)
            change = angle_errors(found.predictions, original.predictions)
            yaw, pitch, roll = change.mean(axis=0)
            layers = len(network.quantization.layers) if network.quantization else 0
            large = np.quantile(change.max(axis=1), 0.95)
            print(
                f"{scheme:8} {path.stat().st_size / 1e6:6.2f} {layers:6} {yaw:6.3f} {pitch:6.3f} "
                f"{roll:6.3f} {change.mean():6.3f} {large:6.2f} "
                f"{found.metrics().mae:6.2f} {len(found.ids) / found.seconds:6.1f}"
            )


if __name__ == "__main__":
    main()
