"""Folding what is linear in evaluation: batch norms into convolutions, branches into one layer."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import InputError
from ..methods import Estimator
from ..nn import BatchNorm, ConvTranspose2d
from .tree import CONVOLUTIONS, Watched, layers, replace, sharing_copy_of

NORMS = (BatchNorm,)
# Layers that can hold the norm behind them, where no checkpoint has to say so.
PRODUCTS = (*CONVOLUTIONS, ConvTranspose2d, nn.Linear)
# Relative to the largest output; float32 rounding alone moves a trained network by about 1e-4.
TOLERANCE = 1e-2


def fold_branches(model: Estimator) -> Estimator:
    """The network with each layer's parallel branches folded into one convolution (RepVGG).

    Without such layers, or folded already, it is the network itself. The head is shared.

    Raises:
        InputError: the network is quantised, which keeps its layers as they are.
    """
    backbone: Any = model.backbone
    if not hasattr(backbone, "folded") or backbone.deploy:
        return model
    if model.quantization is not None:
        raise InputError("the network is quantised; fold the float32 one, then quantise it")
    changes: dict[str, Any] = {"deploy": True}
    folded = Estimator(dataclasses.replace(model.config, **changes), backbone.folded(), model.head)
    folded.train(model.training)
    return folded


class ScaleAndShift(nn.Module):
    """A batch norm in evaluation mode, with what it multiplies and adds computed once."""

    def __init__(self, norm: BatchNorm):
        super().__init__()
        self.scale, self.shift = norm.scale_and_shift()

    def __call__(self, x: mx.array) -> mx.array:
        """(N, ..., C) → the same shape and dtype."""
        return (x * self.scale + self.shift).astype(x.dtype)


def folded(model: Estimator) -> Estimator:
    """The network as it predicts: its batch norms, and branches of layers, folded into products.

    The network itself stays as it is, and shares all other tensors with the copy that is returned,
    in evaluation mode. A quantised one's norms are folded as far as they can be.
    """
    quantized = model.quantization is not None
    copy: Estimator = sharing_copy_of(model if quantized else fold_branches(model))
    copy.eval()
    if quantized or not layers(copy, NORMS):
        return copy
    pairs = find_pairs(copy, copy.config.inputs.example(1), PRODUCTS)
    fold_pairs(copy, pairs)
    replace(copy, {name: ScaleAndShift(norm) for name, norm in layers(copy, NORMS).items()})
    return copy


def find_pairs(
    model: Estimator, inputs: mx.array, kinds: tuple[type, ...] = CONVOLUTIONS
) -> dict[str, str]:
    """Batch norm → the layer whose output it reads, found by watching one forward pass.

    Args:
        model: in evaluation mode.
        inputs: what the network reads; nothing is computed.
        kinds: the kinds of layers that count.
    """
    producers: dict[int, tuple[str, mx.array]] = {}
    pairs: dict[str, str] = {}

    def convolved(name: str, _x: mx.array, y: mx.array) -> None:
        producers[id(y)] = (name, y)  # holding y keeps its id from being used again

    def normalised(name: str, x: mx.array, _y: mx.array) -> None:
        if id(x) in producers:
            pairs[name] = producers[id(x)][0]

    convolutions, norms = layers(model, kinds), layers(model, NORMS)
    replace(model, {n: Watched(conv, partial(convolved, n)) for n, conv in convolutions.items()})
    replace(model, {n: Watched(norm, partial(normalised, n)) for n, norm in norms.items()})
    model(inputs)
    replace(model, convolutions | norms)
    return pairs


def fold_pairs(model: Estimator, pairs: dict[str, str]) -> None:
    """Fold, in place, each batch norm into the layer that `find_pairs` found."""
    modules = layers(model, (*PRODUCTS, *NORMS))
    for norm_name, name in pairs.items():
        layer = modules[name]
        scale, shift = modules[norm_name].scale_and_shift()
        layer.weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        layer.bias = layer.bias * scale + shift if "bias" in layer else shift
    replace(model, {name: nn.Identity() for name in pairs})


def largest_change(outputs: tuple[mx.array, ...], others: tuple[mx.array, ...]) -> float:
    """Largest difference between two results of a network, relative to the largest value."""
    pairs = zip(outputs, others, strict=True)
    changes = [mx.abs(a - b).max() / mx.maximum(mx.abs(b).max(), 1e-6) for a, b in pairs]
    return float(mx.stack(changes).max())


def rounding_tolerance(model: Estimator, inputs: mx.array) -> float:
    """How far rounding may move the outputs; untrained networks can magnify it without bound.

    Never beyond half of the largest output: a wrong fold changes outputs by their own size.
    """
    inputs = model.config.inputs.normalize(inputs)
    before = model(inputs)
    noise = (1e-5 * mx.random.normal(inputs.shape, key=mx.random.key(i)) for i in range(2))
    change = max(largest_change(model(inputs + n), before) for n in noise)
    return min(max(TOLERANCE, 3 * change), 0.5)


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
    tolerance = rounding_tolerance(model, inputs)
    pairs = find_pairs(model, inputs)
    fold_pairs(model, pairs)
    if largest_change(model(inputs), before) > tolerance:
        raise InputError("a convolution feeds more than its batch norm; it cannot be folded")
    return tuple(sorted(pairs.items()))
