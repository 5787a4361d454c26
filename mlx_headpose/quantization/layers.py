"""Layers with 8-bit weights and 8-bit inputs.

MLX has no integer convolution and no product of two integer matrices. The weights are stored as
int8; the sums of products are integers that MLX computes in float32: exact, or rounded at their
24th bit, and on Metal rounded earlier in the 3×3 convolutions that MLX computes by Winograd's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..nn import conv2d

LEVELS = 255


@dataclass(frozen=True)
class InputRange:
    """Which inputs of a layer the 256 levels cover.

    Attributes:
        channels: (C,) relative scale of each input channel.
        low, high: the range in these scales; 0 is always one of the levels exactly.
    """

    channels: np.ndarray
    low: float
    high: float


class _Int8(nn.Module):
    """What both layers share: inputs of 0..255, weights of −127..127 per output channel.

    The scales of the input channels are part of the weights, so that all products of an output can
    be summed as integers.
    """

    def __init__(self, layer: Any, inputs: InputRange | None):
        super().__init__()
        channels = input_channels(layer)
        inputs = inputs or InputRange(np.ones(channels), 0.0, 1.0)
        low, high = min(inputs.low, 0.0), max(inputs.high, 0.0)
        step = max(high - low, 1e-12) / LEVELS
        self.input_scale = mx.array(inputs.channels * step, mx.float32)
        self.input_zero = mx.array(float(round(-low / step)))
        weight = layer.weight * weight_view(self.input_scale, layer)
        axes = tuple(range(1, weight.ndim))
        self.weight_scale = mx.maximum(mx.abs(weight).max(axes), 1e-20) / 127
        spread = self.weight_scale.reshape(-1, *([1] * len(axes)))
        self.weight = mx.round(weight / spread).astype(mx.int8)
        if "bias" in layer:
            self.bias = layer.bias
        self.freeze()

    def quantize(self, x: mx.array) -> mx.array:
        """(..., C) inputs → their integers relative to 0's, in float32."""
        levels = mx.clip(mx.round(x / self.input_scale) + self.input_zero, 0, LEVELS)
        return levels - self.input_zero

    def rescale(self, y: mx.array) -> mx.array:
        """Sums of integers → outputs."""
        y = y * self.weight_scale
        return y + self.bias if "bias" in self else y


class Int8Conv2d(_Int8):
    """A convolution of 8-bit numbers; see `nn.Conv2d` for the geometry."""

    def __init__(self, conv: Any, inputs: InputRange | None = None):
        super().__init__(conv, inputs)
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, C) → (N, Ho, Wo, O)."""
        weight = self.weight.astype(mx.float32)
        x = self.quantize(x)
        return self.rescale(
            conv2d(x, weight, self.stride, self.padding, self.dilation, self.groups, exact=True)
        )


class Int8Linear(_Int8):
    """A linear layer of 8-bit numbers."""

    def __call__(self, x: mx.array) -> mx.array:
        """(..., C) → (..., O)."""
        return self.rescale(self.quantize(x) @ self.weight.astype(mx.float32).T)


def int8_layer(layer: nn.Module, inputs: InputRange | None = None) -> Int8Conv2d | Int8Linear:
    """The 8-bit layer of a convolution or a linear layer; without a range, one to load into."""
    kind = Int8Linear if isinstance(layer, nn.Linear) else Int8Conv2d
    return kind(layer, inputs)


def input_channels(layer: Any) -> int:
    """Of a convolution or a linear layer."""
    return layer.weight.shape[-1] * getattr(layer, "groups", 1)


def weight_view(channels: mx.array, layer: Any) -> mx.array:
    """(C,) numbers of the input channels, shaped to meet a layer's weights."""
    groups = getattr(layer, "groups", 1)
    if groups == 1:
        return channels
    outputs = layer.weight.shape[0]
    per_group = channels.reshape(groups, -1)  # each group of outputs sees its own inputs
    spread = mx.repeat(per_group, outputs // groups, axis=0)
    return spread.reshape(outputs, 1, 1, -1)
