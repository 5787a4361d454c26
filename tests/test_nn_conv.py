"""Convolutions: the values and gradients of MLX and PyTorch over a sweep, TensorFlow's padding."""

from __future__ import annotations

from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.nn_compare import assert_close, assert_same_function, assert_slopes

from mlx_headpose.nn import Conv2d, ConvTranspose2d, conv2d, conv_transpose2d

# groups, input channels, output channels: dense, grouped, depthwise, depthwise ×2
CHANNELS = [(1, 3, 4), (2, 4, 6), (4, 4, 4), (4, 4, 8)]


@pytest.mark.parametrize(("groups", "inputs", "outputs"), CHANNELS)
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(12, 13), (7, 10)])
def test_conv2d_is_mlx_s(size, kernel, groups, inputs, outputs):
    mx.random.seed(1)
    x = mx.random.normal((2, *size, inputs))
    weight = mx.random.normal((outputs, kernel, kernel, inputs // groups))
    for stride, padding, dilation in product([1, 2, 3], [0, 1, 2], [1, 2]):
        if dilation * (kernel - 1) < min(size) + 2 * padding:
            setting = (stride, padding, dilation, groups)
            assert_same_function(
                lambda x, w, setting=setting: conv2d(x, w, *setting),
                lambda x, w, setting=setting: mx.conv2d(x, w, *setting),
                x,
                weight,
            )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((1, 3), (1, 2), (0, 1), (1, 1)),
        ((3, 1), (2, 1), (1, 0), (2, 1)),
        ((3, 5), (2, 3), (2, 1), (2, 3)),
        ((1, 1), (4, 2), (0, 0), (1, 1)),  # some pixels meet no window
    ],
)
@pytest.mark.parametrize(("groups", "inputs", "outputs"), CHANNELS[:3])
def test_axes_may_differ(kernel, stride, padding, dilation, groups, inputs, outputs):
    x = mx.random.normal((2, 15, 14, inputs))
    weight = mx.random.normal((outputs, *kernel, inputs // groups))
    setting = (stride, padding, dilation, groups)
    assert_same_function(
        lambda x, w: conv2d(x, w, *setting), lambda x, w: mx.conv2d(x, w, *setting), x, weight
    )


@pytest.mark.parametrize("size", [(2, 2), (3, 4), (7, 6)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 5)])
def test_depthwise_on_few_pixels(size, kernel):
    mx.random.seed(3)
    x = mx.random.normal((8, *size, 6))
    weight = mx.random.normal((6, *kernel, 1))
    for stride, padding, dilation in product([1, 2, (2, 1)], [2, (1, 2)], [1, 2]):
        setting = (stride, padding, dilation, 6)
        reached = [n + 2 * p for n, p in zip(size, np.broadcast_to(padding, 2), strict=True)]
        if any(dilation * (k - 1) >= n for k, n in zip(kernel, reached, strict=True)):
            continue
        assert_same_function(
            lambda x, w, setting=setting: conv2d(x, w, *setting),
            lambda x, w, setting=setting: mx.conv2d(x, w, *setting),
            x,
            weight,
        )
    # A batch below eight goes another way.
    few = conv2d(x[:4], weight, 2, "same", 1, 6)
    assert_close(conv2d(x, weight, 2, "same", 1, 6)[:4], few, 1e-6, "batch")
    half = conv2d(x.astype(mx.bfloat16), weight.astype(mx.bfloat16), 2, "same", 1, 6)
    assert half.dtype == mx.bfloat16
    assert_close(half[:4], few, 2e-2, "bfloat16")


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_asymmetric_padding_is_padding_beforehand(groups, stride):
    x = mx.random.normal((2, 9, 8, 4))
    weight = mx.random.normal((4, 3, 3, 4 // groups))

    def reference(x, w):
        padded = mx.pad(x, [(0, 0), (0, 1), (2, 3), (0, 0)])
        return mx.conv2d(padded, w, stride, 0, 1, groups)

    assert_same_function(
        lambda x, w: conv2d(x, w, stride, ((0, 1), (2, 3)), 1, groups), reference, x, weight
    )


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 2), (3, 1), (3, 2), (5, 2), (5, 3)])
def test_same_padding_is_tensorflow_s(size, kernel, stride):
    # TensorFlow: ceil(size / stride) windows, padding as even as can be, an odd zero at the end.
    x = mx.random.normal((1, size, size, 3))
    weight = mx.random.normal((2, kernel, kernel, 3))
    got = conv2d(x, weight, stride, "same")
    assert got.shape[1] == -(-size // stride)
    total = max((got.shape[1] - 1) * stride + kernel - size, 0)
    one = (total // 2, total - total // 2)
    want = mx.conv2d(mx.pad(x, [(0, 0), one, one, (0, 0)]), weight, stride)
    assert_close(got, want, 1e-5, "value")


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv_transpose2d_is_mlx_s(kernel, stride):
    mx.random.seed(2)
    x = mx.random.normal((2, 5, 6, 3))
    weight = mx.random.normal((4, kernel, kernel, 3))
    for padding, dilation in product(range(min(kernel, 2)), [1, 2]):
        setting = (stride, padding, dilation)
        assert_same_function(
            lambda x, w, setting=setting: conv_transpose2d(x, w, *setting),
            lambda x, w, setting=setting: mx.conv_transpose2d(x, w, *setting),
            x,
            weight,
        )


@pytest.mark.parametrize(
    "setting", [(2, 1, 1, 1), (3, 0, 1, 2), (2, 1, 2, 1), ((2, 3), (1, 0), 1, (1, 2))]
)
def test_conv_transpose2d_is_pytorch_s(setting):
    # With output padding MLX's own gradient has a wrong shape, so PyTorch is the reference.
    torch = pytest.importorskip("torch")
    stride, padding, dilation, extra = setting
    x = mx.random.normal((2, 5, 6, 3))
    weight = mx.random.normal((4, 3, 3, 3))
    theirs = [
        torch.tensor(np.array(a)).permute(order).requires_grad_()
        for a, order in ((x, (0, 3, 1, 2)), (weight, (3, 0, 1, 2)))
    ]
    want = torch.nn.functional.conv_transpose2d(
        *theirs, stride=stride, padding=padding, dilation=dilation, output_padding=extra
    )
    got = conv_transpose2d(x, weight, stride, padding, dilation, extra)
    assert_close(got, mx.array(want.detach().permute(0, 2, 3, 1).numpy()), 1e-5, "value")
    cotangent = mx.random.normal(got.shape)
    want.backward(torch.tensor(np.array(cotangent)).permute(0, 3, 1, 2))
    _, (dx, dw) = mx.vjp(
        lambda x, w: conv_transpose2d(x, w, stride, padding, dilation, extra),
        [x, weight],
        [cotangent],
    )
    assert_close(dx, mx.array(theirs[0].grad.permute(0, 2, 3, 1).numpy()), 1e-5, "dx")
    assert_close(dw, mx.array(theirs[1].grad.permute(1, 2, 3, 0).numpy()), 1e-5, "dw")


@pytest.mark.parametrize(("groups", "inputs", "outputs"), CHANNELS)
def test_gradients_are_slopes(groups, inputs, outputs):
    x = mx.random.normal((2, 7, 6, inputs))
    weight = mx.random.normal((outputs, 3, 3, inputs // groups))
    assert_slopes(lambda x, w: conv2d(x, w, 2, 1, 1, groups), x, weight)


def test_transposed_gradients_are_slopes():
    x, weight = mx.random.normal((2, 4, 5, 3)), mx.random.normal((4, 3, 3, 3))
    assert_slopes(lambda x, w: conv_transpose2d(x, w, 2, 1, 1, 1), x, weight)


@pytest.mark.parametrize(("groups", "inputs", "outputs"), CHANNELS[:3])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision(dtype, groups, inputs, outputs):
    mx.random.seed(4)
    x = mx.random.normal((2, 9, 9, inputs)).astype(dtype)
    weight = mx.random.normal((outputs, 3, 3, inputs // groups)).astype(dtype)
    cotangent = mx.random.normal((2, 5, 5, outputs)).astype(dtype)
    results = []
    for kind in (dtype, mx.float32):
        values, gradients = mx.vjp(
            lambda x, w: conv2d(x, w, 2, 1, 1, groups),
            [x.astype(kind), weight.astype(kind)],
            [cotangent.astype(kind)],
        )
        results.append([*values, *gradients])
    tolerance = 2e-3 if dtype == mx.float16 else 1e-2
    for got, want in zip(*results, strict=True):
        assert got.dtype == dtype
        assert_close(got, want, tolerance, str(dtype))


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (Conv2d(4, 6, 3, groups=2), nn.Conv2d(4, 6, 3, groups=2)),
        (Conv2d(4, 6, (3, 1), bias=False), nn.Conv2d(4, 6, (3, 1), bias=False)),
        (ConvTranspose2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3)),
    ],
)
def test_layers_hold_mlx_s_parameters(ours, reference):
    shapes = [
        sorted((name, value.shape) for name, value in tree_flatten(layer.parameters()))
        for layer in (ours, reference)
    ]
    assert shapes[0] == shapes[1]
    ours.update(reference.parameters())
    x = mx.random.normal((2, 8, 8, 4))
    assert_close(ours(x), reference(x), 1e-5, "value")


def test_a_window_that_does_not_fit_and_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="does not fit"):
        conv2d(mx.zeros((1, 4, 4, 3)), mx.zeros((2, 5, 5, 3)))
    with pytest.raises(ValueError, match="input channels"):
        conv2d(mx.zeros((1, 4, 4, 2)), mx.zeros((2, 3, 3, 3)))
    with pytest.raises(ValueError, match="same"):
        conv2d(mx.zeros((1, 4, 4, 3)), mx.zeros((2, 3, 3, 3)), padding="valid")


def test_the_gradient_of_a_sum_is_a_broadcast_constant():
    x = mx.random.normal((1, 4, 4, 3))
    for ours, reference in ((Conv2d, nn.Conv2d), (ConvTranspose2d, nn.ConvTranspose2d)):
        layer, other = ours(3, 5, 2, 2), reference(3, 5, 2, 2)
        layer.update(other.parameters())
        assert_close(
            mx.grad(lambda x, layer=layer: layer(x).sum())(x),
            mx.grad(lambda x, other=other: other(x).sum())(x),
            1e-5,
            f"gradient of {ours.__name__}'s sum",
        )
