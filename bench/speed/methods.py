"""Size and speed of every method, with random weights: one table for the documentation.

    python -m bench.speed.methods

Speed is of the network alone, uint8 pixels to angles, on the default device: the median of
--repeats rounds through all methods, so that a change in the machine's load meets all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip

from mlx_headpose.methods import Estimator, build, config_class
from mlx_headpose.weights import tensors_of

NETWORKS: dict[str, tuple[str, dict]] = {
    "HopeLessNet SqueezeNet 1.0": ("hopenet", {"arch": "squeezenet1_0"}),
    "HopeLessNet SqueezeNet 1.1": ("hopenet", {"arch": "squeezenet1_1"}),
    "HopeLessNet MobileNetV2": ("hopenet", {"arch": "mobilenetv2"}),
    "HopeLessNet ResNet-18": ("hopenet", {"arch": "resnet18"}),
    "HopeNet ResNet-50": ("hopenet", {"arch": "resnet50"}),
    "HopeNet ResNet-50, group norm": ("hopenet", {"arch": "resnet50", "norm": "group"}),
    "WHENet EfficientNet-B0": ("whenet", {}),
    "pyramid EfficientNetV2-S": ("pyramid", {}),
    "TokenHPE ViT-B/16": ("tokenhpe", {}),
    "NLML_HPE, 468 landmarks": ("nlml", {}),
}


def seconds(model: Estimator, batch: int) -> float:
    inputs = model.config.inputs.example(batch)
    start = time.perf_counter()
    mx.eval(model.decode(model(inputs)))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=8)
    options = parser.parse_args()
    models = {}
    for name, (method, fields) in NETWORKS.items():
        models[name] = build(config_class(method)(**fields))
        models[name].eval()
        mx.eval(models[name].parameters())
    times: dict[tuple[str, int], list[float]] = {}
    batches = sorted({1, options.batch_size})
    for repeat in range(options.repeats + 1):
        for name, model in models.items():
            for batch in batches:
                taken = seconds(model, batch)
                if repeat:  # the first round warms up
                    times.setdefault((name, batch), []).append(taken)
    print(f"{'network':32}{'parameters':>12}{'MB':>7}{'ms, one face':>14}{'faces/s':>10}")
    for name, model in models.items():
        count = sum(value.size for value in tensors_of(model).values())
        one = statistics.median(times[name, 1])
        rate = batches[-1] / statistics.median(times[name, batches[-1]])
        print(
            f"{name:32}{count / 1e6:>10.2f} M{count * 4 / 1e6:>7.1f}{1e3 * one:>14.1f}{rate:>10.1f}"
        )


if __name__ == "__main__":
    main()
