"""Layers with 8-bit weights and 8-bit inputs.

MLX has no integer convolution and no product of two integer matrices. The weights are stored as
int8; the sums of products are exact integers, or rounded at their 24th bit, that MLX computes in
float32.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..nn import conv2d

LEVELS = 255


class _Int8(nn.Module):
    """What both layers share: weights of −127..127 per output channel, inputs of 0..255."""

    def __init__(self, weight: mx.array, bias: mx.array | None):
        super().__init__()
        axes = tuple(range(1, weight.ndim))
        scale = mx.maximum(mx.abs(weight).max(axes), 1e-12) / 127
        spread = scale.reshape(-1, *([1] * len(axes)))
        self.weight = mx.round(weight / spread).astype(mx.int8)
        self.weight_scale = scale
        if bias is not None:
            self.bias = bias
        self.input_scale = mx.array(1.0)
        self.input_zero = mx.array(0.0)
        self.freeze()

    def set_range(self, low: float, high: float) -> None:
        """Which inputs the 256 levels cover; 0 is always one of them exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-12) / LEVELS
        self.input_scale = mx.array(scale)
        self.input_zero = mx.array(float(round(-low / scale)))

    def quantize(self, x: mx.array) -> mx.array:
        """Inputs → their integers relative to 0's, in float32."""
        levels = mx.clip(mx.round(x / self.input_scale) + self.input_zero, 0, LEVELS)
        return levels - self.input_zero

    def rescale(self, y: mx.array) -> mx.array:
        """Sums of integers → outputs."""
        y = y * (self.input_scale * self.weight_scale)
        return y + self.bias if "bias" in self else y


class Int8Conv2d(_Int8):
    """A convolution of 8-bit numbers; see `nn.Conv2d` for the geometry."""

    def __init__(self, conv: Any):
        super().__init__(conv.weight, conv.bias if "bias" in conv else None)
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, C) → (N, Ho, Wo, O)."""
        weight = self.weight.astype(mx.float32)
        x = self.quantize(x)
        return self.rescale(
            conv2d(x, weight, self.stride, self.padding, self.dilation, self.groups)
        )


class Int8Linear(_Int8):
    """A linear layer of 8-bit numbers."""

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.weight, linear.bias if "bias" in linear else None)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., C) → (..., O)."""
        return self.rescale(self.quantize(x) @ self.weight.astype(mx.float32).T)


def int8_layer(layer: nn.Module) -> Int8Conv2d | Int8Linear:
    """The 8-bit layer of a convolution or a linear layer, its input range still unset."""
    return Int8Linear(layer) if isinstance(layer, nn.Linear) else Int8Conv2d(layer)
