"""Activations whose gradients keep and compute little, and a sigmoid that is fast on the CPU.

MLX's CPU build calls the C library's exp for every element, which in a network of swishes takes
longer than all convolutions. Here exp is a power of two, read off the bits of a float, times a
polynomial. Elementwise parts are compiled as those of `mlx.nn` are: they become one pass where a
compiler is there, and stay single operations where none is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..cpu.shards import each_shard
from .plain import use_mlx_kernels, with_gradient

Activation = Callable[[mx.array], mx.array]

_LOG2_E = 1.4426950408889634
# ln 2 = _LN2_HIGH + _LN2_LOW; the first has so few digits that k times it is exact.
_LN2_HIGH = 0.693359375
_LN2_LOW = math.log(2) - _LN2_HIGH
# Adding it leaves round(y) + 127, the exponent bits of 2^round(y), in the float's lowest bits.
_ROUND = 1.5 * 2**23 + 127


def _exp_series() -> list[float]:
    """Coefficients of exp on [−ln 2 / 2, ln 2 / 2], highest first, by Chebyshev's points."""
    degree = 5
    angles = np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1)
    points = math.log(2) / 2 * np.cos(angles)
    return [float(c) for c in np.polyfit(points, np.exp(points), degree)]


_SERIES = _exp_series()


@partial(mx.compile, shapeless=True)
def _split(x: mx.array) -> tuple[mx.array, mx.array]:
    """x → (exp(r), a float whose lowest bits hold k's exponent), where exp(−x) = exp(r) · 2^k."""
    # Beyond ±87 the power would leave float32; the sigmoid is 0 or 1 there to all digits.
    x = mx.minimum(mx.maximum(x, -87.0), 87.0)
    rounded = x * -_LOG2_E + _ROUND
    k = rounded - _ROUND
    r = k * -_LN2_HIGH - x - k * _LN2_LOW
    power = r * _SERIES[0] + _SERIES[1]
    for coefficient in _SERIES[2:]:
        power = power * r + coefficient
    return power, rounded


def _sigmoid_float32(x: mx.array) -> mx.array:
    fraction, bits = _split(x)
    whole = mx.left_shift(bits.view(mx.int32), 23).view(mx.float32)
    return _complement(fraction, whole)


@partial(mx.compile, shapeless=True)
def _complement(fraction: mx.array, whole: mx.array) -> mx.array:
    return 1 / (1 + fraction * whole)


def _sigmoid(x: mx.array) -> mx.array:
    if use_mlx_kernels():
        return mx.sigmoid(x)
    return _sigmoid_float32(x.astype(mx.float32)).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def _sigmoid_slope(y: mx.array, dy: mx.array) -> mx.array:
    return dy * y * (1 - y)


@partial(mx.compile, shapeless=True)
def _silu_slope(y: mx.array, s: mx.array, dy: mx.array) -> mx.array:
    return dy * (s + y * (1 - s))


@partial(mx.compile, shapeless=True)
def _relu_slope(y: mx.array, dy: mx.array) -> mx.array:
    return mx.sign(y) * dy


@partial(mx.compile, shapeless=True)
def _relu6_slope(y: mx.array, dy: mx.array) -> mx.array:
    return mx.sign(y) * mx.sign(6 - y) * dy


def _with_gradient(
    slope: Callable[[mx.array, mx.array, mx.array], mx.array],
) -> Callable[[Activation], Activation]:
    """Give an activation its own gradient, slope(x, dy, y), in every shard."""

    def decorate(function: Activation) -> Activation:
        return each_shard(with_gradient(function, slope))

    return decorate


@_with_gradient(lambda x, dy, y: _sigmoid_slope(y, dy))
def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + exp(−x)), on the CPU to 5e-7 of its value."""
    return _sigmoid(x)


def _silu_and_sigmoid(x: mx.array) -> list[mx.array]:
    s = _sigmoid(x)
    return [x * s, s]


# Its gradient needs the sigmoid instead of the input, so nothing more is kept for it.
_silu = with_gradient(
    _silu_and_sigmoid, lambda x, dy, outputs: _silu_slope(outputs[0], outputs[1], dy[0])
)


@each_shard
def silu(x: mx.array) -> mx.array:
    """x · sigmoid(x), also called swish."""
    return _silu(x)[0]


@_with_gradient(lambda x, dy, y: _relu_slope(y, dy))
def relu(x: mx.array) -> mx.array:
    """max(x, 0). Its gradient needs only the result, so the input need not be kept."""
    return nn.relu(x)


@_with_gradient(lambda x, dy, y: _relu6_slope(y, dy))
def relu6(x: mx.array) -> mx.array:
    """min(max(x, 0), 6). Its gradient needs only the result."""
    return nn.relu6(x)


@each_shard
def hard_sigmoid(x: mx.array) -> mx.array:
    """min(max(x + 3, 0), 6) / 6, a sigmoid of three straight lines (Howard et al. 2019)."""
    return nn.relu6(x + 3) * (1 / 6)


@each_shard
def hard_swish(x: mx.array) -> mx.array:
    """x · hard_sigmoid(x), a `silu` of straight lines and a parabola (Howard et al. 2019)."""
    return x * nn.relu6(x + 3) * (1 / 6)
