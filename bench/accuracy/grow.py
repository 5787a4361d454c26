"""Begin a larger rotation9d network from a trained one.

    python -m bench.accuracy.grow --snapshot FILE --output FILE [--size 96] [--stages 4]

Of another input size everything is kept, and the layer that sees places gets its weights by
interpolation over these places. Of another number of stages the stages that both have are kept, and
the others and the head begin from random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import mlx.core as mx  # isort: skip
import numpy as np
from scipy.ndimage import zoom

from mlx_headpose.errors import InputError
from mlx_headpose.methods import Estimator, build
from mlx_headpose.methods.rotation9d.network import REDUCED, Config
from mlx_headpose.weights import (
    for_inference,
    from_pretrained,
    load_strictly,
    save_pretrained,
    tensors_of,
)

PLACES = "head.fc1.weight"


def resampled(weight: np.ndarray, side: int) -> np.ndarray:
    """(width, h·h·64) weights of a map of h×h → those of side×side that answer alike."""
    width, h = len(weight), round((weight.shape[1] / REDUCED) ** 0.5)
    places = weight.reshape(width, h, h, REDUCED)
    factor = side / h
    grown = zoom(places, (1, factor, factor, 1), order=1, grid_mode=True, mode="nearest")
    return grown.reshape(width, -1) / factor**2


def grown(snapshot: Path, size: int | None, stages: int | None) -> tuple[Estimator, int]:
    """The larger network, and how many of its tensors are the smaller one's.

    Args:
        snapshot: the smaller network.
        size: pixels of the larger one's input; None leaves it.
        stages: of the larger one's ResNet-18; None leaves them.

    Raises:
        InputError: the snapshot cannot be loaded or grown, or the measures are impossible.
    """
    old = for_inference(from_pretrained(snapshot))
    if not isinstance(old.config, Config) or (stages and old.config.arch != "resnet18"):
        raise InputError(f"{snapshot}: only rotation9d networks of a ResNet-18 grow")
    size = size or old.config.preprocessing.size
    config = dataclasses.replace(
        old.config,
        stages=stages or old.config.stages,
        preprocessing=dataclasses.replace(old.config.preprocessing, size=size),
        calibration=(),
    )
    new = build(config)
    tensors, known = tensors_of(new), tensors_of(old)
    if config.stages == old.config.stages:
        seen = resampled(np.array(known[PLACES]), size // config.stride)
        known[PLACES] = mx.array(seen.astype(np.float32))
    else:
        known = {name: value for name, value in known.items() if not name.startswith("head.")}
    kept = {name: known[name] for name in tensors if name in known}
    load_strictly(new, tensors | kept, snapshot)
    return new, len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, help="pixels (default: as it is)")
    parser.add_argument("--stages", type=int, help="of the ResNet-18 (default: as it is)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    mx.random.seed(options.seed)
    try:
        new, kept = grown(options.snapshot, options.size, options.stages)
    except InputError as error:
        parser.error(str(error))
    save_pretrained(new, options.output)
    print(f"{options.output}: {kept} of {len(tensors_of(new))} tensors kept")


if __name__ == "__main__":
    main()
