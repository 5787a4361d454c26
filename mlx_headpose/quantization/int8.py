"""Post-training 8-bit quantisation with calibrated activations.

Batch norms are folded, each output channel's weights get their own scale, and each layer's input
range is chosen on calibration images so that the squared rounding error is smallest (clipping
a few large values buys finer steps for all others). Channels of very different size would share one
step, so the large ones are made smaller and their weights larger by the same factor, half of the
difference each (SmoothQuant, Xiao et al. 2023, equation 4); in a depthwise convolution, where each
channel has its own weights, all of it.

The first layers stay float32. On the fine maps there, values spread widest and rounding them costs
most, and they hold few of the weights.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..methods import Estimator
from .fold import fold_batch_norms
from .layers import LEVELS, InputRange, int8_layer
from .spec import Quantization
from .tree import CONVOLUTIONS, Watched, copy_of, layers, replace

# Values kept per layer and batch for the choice of the range.
SAMPLES = 20_000
# Share of all weights that the first layers, those that stay float32, may hold.
FLOAT = 0.015
CLIPPINGS = np.linspace(0.5, 1.0, 26)


def quantize_int8(model: Estimator, inputs: np.ndarray, batch_size: int = 10) -> Estimator:
    """An 8-bit copy of a network.

    Args:
        model: any estimator.
        inputs: (N, ...) what it reads, unlabelled; 100 typical ones are enough.
        batch_size: inputs in one forward pass.

    Returns:
        The quantised copy, in evaluation mode, with its `quantization`.
    """
    copy = copy_of(model)
    folded = fold_batch_norms(copy, mx.array(inputs[:2]))
    floats = layers(copy, (*CONVOLUTIONS, nn.Linear))
    inputs_of = _collect(copy, floats, inputs, batch_size)
    quantized = {
        name: int8_layer(floats[name], input_range(floats[name], inputs_of[name]))
        for name in _after_the_first(floats, list(inputs_of))
    }
    replace(copy, quantized)
    copy.quantization = Quantization("int8", tuple(quantized), folded)
    copy.eval()
    return copy


def _collect(
    model: Estimator, floats: dict[str, nn.Module], inputs: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """(n, C) of each layer's inputs: pixels at random, and the extremes of every channel.

    In the order in which the network runs its layers.
    """
    kept: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(0)

    def watch(name: str, x: mx.array, _y: mx.array) -> None:
        pixels = np.array(x, np.float32).reshape(-1, x.shape[-1])
        count = max(SAMPLES // pixels.shape[1], 1)
        few = len(pixels) <= count
        picked = pixels if few else pixels[rng.integers(0, len(pixels), count)]
        extremes = pixels.min(0, keepdims=True), pixels.max(0, keepdims=True)
        kept.setdefault(name, []).extend((picked, *extremes))

    replace(model, {name: Watched(layer, partial(watch, name)) for name, layer in floats.items()})
    for start in range(0, len(inputs), batch_size):
        mx.eval(model(mx.array(inputs[start : start + batch_size])))
    replace(model, floats)
    return {name: np.concatenate(values) for name, values in kept.items()}


def _after_the_first(floats: dict[str, Any], running: list[str]) -> list[str]:
    """The layers as they run, without the first ones, which hold up to `FLOAT` of the weights."""
    sizes = np.cumsum([floats[name].weight.size for name in running])
    return [name for name, size in zip(running, sizes, strict=True) if size > FLOAT * sizes[-1]]


def input_range(layer: Any, inputs: np.ndarray) -> InputRange:
    """How a layer's inputs are rounded, from (n, C) of them."""
    size = np.maximum(np.abs(inputs).max(axis=0), 1e-6)
    if getattr(layer, "groups", 1) == 1:
        weight = np.abs(np.array(layer.weight)).max(axis=tuple(range(layer.weight.ndim - 1)))
        size = np.sqrt(size / np.maximum(weight, 1e-6))
    channels = size / np.exp(np.log(size).mean())
    return InputRange(channels, *best_range(inputs / channels))


def best_range(values: np.ndarray) -> tuple[float, float]:
    """The range whose 256 levels round these values with the smallest mean squared error."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)

    def error(share: float) -> float:
        scale = max((high - low) * share, 1e-12) / LEVELS
        zero = round(-low * share / scale)
        levels = np.clip(np.round(values / scale) + zero, 0, LEVELS) - zero
        return float(np.square(levels * scale - values).mean())

    share = min(CLIPPINGS, key=error)
    return low * share, high * share
