"""Count a network's multiplications and additions, apart.

    python -m bench.speed.flops --model whenet

Counted are convolutions, linear layers and batch norms, as they run on one input; activations,
pooling and the products of attention are not. Publications differ in what they call a FLOP: a
multiplication with its addition is one for some and two for others.
"""

from __future__ import annotations

from functools import partial

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_headpose.cli.options import (
    Parser,
    add_method_option,
    add_model_options,
    make_config,
    positive,
)
from mlx_headpose.methods import Estimator, build
from mlx_headpose.quantization.fold import NORMS
from mlx_headpose.quantization.tree import CONVOLUTIONS, Watched, layers, replace


def count(model: Estimator, inputs: mx.array) -> dict[str, tuple[int, int]]:
    """Kind of layer → multiplications and additions of one forward pass."""
    counts = {"convolutions": [0, 0], "linear layers": [0, 0], "batch norms": [0, 0]}

    def watch(layer: nn.Module, _x: mx.array, y: mx.array) -> None:
        if isinstance(layer, NORMS):  # in evaluation one scale and one shift
            kind, multiplications, additions = "batch norms", y.size, y.size
        else:
            kind = "linear layers" if isinstance(layer, nn.Linear) else "convolutions"
            products = layer.weight.size // layer.weight.shape[0]  # of one output
            multiplications = y.size * products
            additions = y.size * (products - ("bias" not in layer))
        counts[kind][0] += multiplications
        counts[kind][1] += additions

    watched = layers(model, (*CONVOLUTIONS, *NORMS, nn.Linear))
    replace(model, {n: Watched(layer, partial(watch, layer)) for n, layer in watched.items()})
    model(inputs)
    replace(model, watched)
    return {kind: (pair[0], pair[1]) for kind, pair in counts.items()}


def main() -> None:
    peek = Parser("bench/speed/flops.py", "", add_help=False)
    add_method_option(peek)
    method = peek.parse_known_args()[0].model
    parser = Parser("bench/speed/flops.py", "Count a network's multiplications and additions.")
    add_method_option(parser)
    parser.add_argument("--input_size", type=positive, help="side of the input in pixels")
    add_model_options(parser, method)
    options = parser.parse_args()
    model = build(make_config(options, method, size=options.input_size))
    model.eval()
    size = model.config.preprocessing.size
    counts = count(model, mx.zeros((1, size, size, 3)))
    print(f"{method}, one input of {size} × {size} pixels")
    for kind, (multiplications, additions) in counts.items():
        print(f"{kind:14} {multiplications / 1e6:9.1f} M multiply  {additions / 1e6:9.1f} M add")
    multiplications, additions = (sum(c[i] for c in counts.values()) for i in (0, 1))
    print(f"{'all':14} {multiplications / 1e6:9.1f} M multiply  {additions / 1e6:9.1f} M add")
    print(f"together {(multiplications + additions) / 1e6:.1f} M")
    trainable = sum(value.size for _name, value in tree_flatten(model.trainable_parameters()))
    every = sum(value.size for _name, value in tree_flatten(model.parameters()))
    print(f"parameters {trainable:,} trainable, {every:,} with the norms' statistics")


if __name__ == "__main__":
    main()
