"""Activations: MLX's own values and gradients, at the ends of float32, and in half precision."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from support.nn_compare import assert_close, assert_same_function, assert_slopes

from mlx_headpose.nn import relu, relu6, sigmoid, silu

PAIRS = [(relu, nn.relu), (relu6, nn.relu6), (sigmoid, mx.sigmoid), (silu, nn.silu)]
NAMES = ["relu", "relu6", "sigmoid", "silu"]


@pytest.mark.parametrize(("ours", "reference"), PAIRS, ids=NAMES)
@pytest.mark.parametrize("shape", [(3, 5, 7, 4), (9,), (2, 0)])
def test_is_mlx_s(ours, reference, shape):
    if 0 in shape:
        assert ours(mx.zeros(shape)).shape == shape
        return
    mx.random.seed(7)
    assert_same_function(ours, reference, mx.random.normal(shape) * 3)


@pytest.mark.cpu
def test_sigmoid_is_accurate_everywhere():
    x = np.linspace(-87, 87, 100_001).astype(np.float32)
    want = 1 / (1 + np.exp(-x.astype(np.float64)))
    error = np.abs(np.array(sigmoid(mx.array(x)), dtype=np.float64) - want) / want
    assert error.max() < 5e-7


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_the_ends_of_the_range(dtype):
    x = mx.array([-60000.0, -200.0, 0.0, 200.0, 60000.0], dtype)
    got = sigmoid(x)
    assert got.dtype == dtype
    assert_close(got, mx.array([0.0, 0.0, 0.5, 1.0, 1.0]), 1e-6, "sigmoid")
    assert_close(silu(x), mx.maximum(x, 0), 1e-6, "silu")
    for function in (sigmoid, silu):
        _, (dx,) = mx.vjp(function, [x], [mx.ones_like(x)])
        assert bool(mx.all(mx.isfinite(dx)))
    assert bool(mx.isnan(sigmoid(mx.array(float("nan")))))


@pytest.mark.parametrize("function", [sigmoid, silu])
def test_gradients_are_slopes(function):
    assert_slopes(function, mx.random.normal((5, 6, 7)))


@pytest.mark.parametrize("function", [relu, relu6])
def test_gradients_of_the_cut_ones_are_slopes(function):
    # No value within a step of the corners at 0 and 6.
    x = mx.arange(-4, 10).astype(mx.float32) + 0.5
    assert_slopes(function, x, step=1e-2)


def test_plain_and_compiled_agree():
    x = mx.random.normal((4, 5))
    for function in (relu, relu6, sigmoid, silu):
        assert_close(mx.compile(function)(x), function(x), 1e-6, "compiled")
