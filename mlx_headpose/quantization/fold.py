"""Folding batch norm into the convolution before it: in evaluation both are linear."""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ..errors import InputError
from ..models import Estimator
from ..nn import BatchNorm
from .tree import CONVOLUTIONS, Watched, layers, replace

NORMS = (BatchNorm, nn.BatchNorm)
# Relative to the largest output; float32 rounding alone moves a deep network by about 1e-4.
TOLERANCE = 1e-2


def find_pairs(model: Estimator, inputs: mx.array) -> dict[str, str]:
    """Batch norm → the convolution whose output it reads, found by watching one forward pass."""
    producers: dict[int, tuple[str, mx.array]] = {}
    pairs: dict[str, str] = {}

    def convolved(name: str, _x: mx.array, y: mx.array) -> None:
        producers[id(y)] = (name, y)  # holding y keeps its id from being used again

    def normalised(name: str, x: mx.array, _y: mx.array) -> None:
        if id(x) in producers:
            pairs[name] = producers[id(x)][0]

    convolutions, norms = layers(model, CONVOLUTIONS), layers(model, NORMS)
    replace(model, {n: Watched(conv, partial(convolved, n)) for n, conv in convolutions.items()})
    replace(model, {n: Watched(norm, partial(normalised, n)) for n, norm in norms.items()})
    model(inputs)
    replace(model, convolutions | norms)
    return pairs


def fold_batch_norms(model: Estimator, inputs: mx.array) -> tuple[tuple[str, str], ...]:
    """Fold, in place, every batch norm that follows a convolution.

    Args:
        model: in evaluation mode.
        inputs: (N, ...) what the network reads, to find which layers follow each other.

    Returns:
        Names of each batch norm that is gone and of the convolution that it is in now.

    Raises:
        InputError: the folded network computes something else.
    """
    before = model(inputs)
    mx.eval(before)
    pairs = find_pairs(model, inputs)
    modules = layers(model, (*CONVOLUTIONS, *NORMS))
    for norm_name, conv_name in pairs.items():
        norm, conv = modules[norm_name], modules[conv_name]
        scale = mx.rsqrt(norm.running_var + norm.eps)
        scale = scale * norm.weight if "weight" in norm else scale
        shift = (norm.bias if "bias" in norm else 0) - norm.running_mean * scale
        conv.weight = conv.weight * scale[:, None, None, None]
        conv.bias = conv.bias * scale + shift if "bias" in conv else shift
    replace(model, {name: nn.Identity() for name in pairs})
    for folded, original in zip(model(inputs), before, strict=True):
        if mx.abs(folded - original).max() > TOLERANCE * mx.maximum(mx.abs(original).max(), 1e-6):
            raise InputError("a convolution feeds more than its batch norm; it cannot be folded")
    return tuple(sorted(pairs.items()))
