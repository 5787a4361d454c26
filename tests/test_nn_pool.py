"""Max pooling: MLX's own values and gradients, PyTorch's ceil mode, ties, slopes."""

from __future__ import annotations

from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from support.nn_compare import assert_close, assert_same_function, assert_slopes

from mlx_headpose.nn import MaxPool2d, max_pool2d


@pytest.mark.parametrize("kernel", [1, 2, 3, (3, 2)])
@pytest.mark.parametrize("size", [(11, 12), (8, 7)])
def test_is_mlx_s_ties_included(size, kernel):
    # Rounded values, so that most windows hold their maximum more than once.
    mx.random.seed(1)
    x = mx.round(mx.random.normal((2, *size, 3)) * 2)
    for stride, padding in product([None, 1, 2, 3, (1, 2)], [0, 1]):
        if padding and kernel == 1:
            continue
        ours = MaxPool2d(kernel, stride, padding)
        assert_same_function(ours, nn.MaxPool2d(kernel, stride, padding), x)


@pytest.mark.parametrize("size", range(4, 12))
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 3, 1)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_is_pytorch_s(size, kernel, stride, padding, ceil_mode):
    torch = pytest.importorskip("torch")
    x = mx.random.normal((2, size, size + 1, 3))
    pictures = torch.tensor(np.array(x)).permute(0, 3, 1, 2).requires_grad_()
    want = torch.nn.functional.max_pool2d(pictures, kernel, stride, padding, ceil_mode=ceil_mode)
    got = max_pool2d(x, kernel, stride, padding, ceil_mode)
    assert_close(got, mx.array(want.detach().permute(0, 2, 3, 1).numpy()), 0, "value")
    cotangent = mx.random.normal(got.shape)
    want.backward(torch.tensor(np.array(cotangent)).permute(0, 3, 1, 2))
    _, (dx,) = mx.vjp(lambda x: max_pool2d(x, kernel, stride, padding, ceil_mode), [x], [cotangent])
    assert_close(dx, mx.array(pictures.grad.permute(0, 2, 3, 1).numpy()), 1e-6, "gradient")


def test_gradients_are_slopes():
    # All values at least 0.1 apart, so that a small step changes no maximum.
    x = mx.random.permutation(mx.arange(2 * 7 * 8 * 3) * 0.1).reshape(2, 7, 8, 3)
    assert_slopes(lambda x: max_pool2d(x, 3, 2, 1), x, step=1e-3)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision(dtype):
    x = (mx.random.normal((2, 9, 9, 3)) * 1e4).astype(dtype)
    got, (dx,) = mx.vjp(lambda x: max_pool2d(x, 3, 2, 1), [x], [mx.ones((2, 5, 5, 3), dtype)])
    want, (wide_dx,) = mx.vjp(
        lambda x: max_pool2d(x, 3, 2, 1), [x.astype(mx.float32)], [mx.ones((2, 5, 5, 3))]
    )
    assert got[0].dtype == dx.dtype == dtype
    assert_close(got[0], want[0], 0, "value")
    assert_close(dx, wide_dx, 1e-2, "gradient")


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        max_pool2d(mx.zeros((1, 2, 2, 1)), 3)
