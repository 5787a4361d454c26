"""Norms: MLX's own and PyTorch's values and gradients, float32 statistics, running averages."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.nn_compare import assert_close, assert_same_function, assert_slopes

from mlx_headpose.nn import BatchNorm, GroupNorm

SHAPES = [(6, 8), (4, 5, 8), (3, 5, 6, 8), (2, 3, 4, 5, 8)]


def applied(layer):
    def function(x, weight, bias):
        layer.weight, layer.bias = weight, bias
        return layer(x)

    return function


def arguments(shape):
    mx.random.seed(3)
    x = mx.random.normal(shape) * 3 + 2
    return x, mx.random.normal(shape[-1:]), mx.random.normal(shape[-1:])


@pytest.mark.parametrize("shape", SHAPES[:3])  # mlx.nn takes no more axes
def test_batch_norm_is_mlx_s(shape):
    ours, reference = BatchNorm(8), nn.BatchNorm(8)
    args = arguments(shape)
    assert_same_function(applied(ours), applied(reference), *args)
    assert_close(ours.running_mean, reference.running_mean, 1e-6, "running mean")
    assert_close(ours.running_var, reference.running_var, 1e-6, "running variance")
    ours.eval(), reference.eval()
    assert_same_function(applied(ours), applied(reference), *args)


def test_batch_norm_of_five_axes():
    x, weight, bias = arguments(SHAPES[3])
    flat = applied(BatchNorm(8))(x.reshape(-1, 8), weight, bias)
    assert_close(applied(BatchNorm(8))(x, weight, bias), flat.reshape(x.shape), 0, "value")


def test_batch_norm_is_pytorch_s():
    torch = pytest.importorskip("torch")
    x, weight, bias = arguments((3, 5, 6, 8))
    reference = torch.nn.BatchNorm2d(8)
    with torch.no_grad():
        reference.weight.copy_(torch.tensor(np.array(weight)))
        reference.bias.copy_(torch.tensor(np.array(bias)))
    ours = BatchNorm(8)
    pictures = torch.tensor(np.array(x)).permute(0, 3, 1, 2).requires_grad_()
    for _ in range(3):
        want = reference(pictures)
        got = applied(ours)(x, weight, bias)
    assert_close(got, mx.array(want.detach().permute(0, 2, 3, 1).numpy()), 1e-5, "value")
    for name in ("running_mean", "running_var"):
        assert_close(ours[name], mx.array(getattr(reference, name).numpy()), 1e-6, name)
    cotangent = mx.random.normal(x.shape)
    want.backward(torch.tensor(np.array(cotangent)).permute(0, 3, 1, 2))
    _, (dx, dw, db) = mx.vjp(applied(ours), [x, weight, bias], [cotangent])
    assert_close(dx, mx.array(pictures.grad.permute(0, 2, 3, 1).numpy()), 1e-5, "dx")
    assert_close(dw, mx.array(reference.weight.grad.numpy()), 1e-5, "dw")
    assert_close(db, mx.array(reference.bias.grad.numpy()), 1e-5, "db")


def test_batch_norm_parameters_are_mlx_s():
    ours, reference = BatchNorm(8), nn.BatchNorm(8)
    for layer in (ours, reference):
        layer.unfreeze()
    for tree in ("parameters", "trainable_parameters"):
        names = [
            sorted(name for name, _ in tree_flatten(getattr(layer, tree)()))
            for layer in (ours, reference)
        ]
        assert names[0] == names[1]
    assert "running_mean" not in ours.trainable_parameters()
    assert not BatchNorm(8, affine=False, track_running_stats=False).parameters()


def test_batch_norm_without_parameters_or_statistics():
    x, _, _ = arguments((3, 5, 6, 8))
    ours = BatchNorm(8, affine=False, track_running_stats=False).eval()
    reference = nn.BatchNorm(8, affine=False, track_running_stats=False).eval()
    assert_same_function(ours, reference, x)


def test_a_single_value_per_channel_cannot_be_normalised():
    with pytest.raises(ValueError, match="more than one value"):
        BatchNorm(8)(mx.zeros((1, 8)))


@pytest.mark.parametrize("pytorch_compatible", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_group_norm_is_mlx_s(shape, groups, pytorch_compatible):
    make = {"pytorch_compatible": pytorch_compatible}
    args = arguments(shape)
    assert_same_function(
        applied(GroupNorm(groups, 8, **make)), applied(nn.GroupNorm(groups, 8, **make)), *args
    )


def test_group_norm_is_pytorch_s():
    torch = pytest.importorskip("torch")
    x, weight, bias = arguments((3, 5, 6, 8))
    want = torch.nn.functional.group_norm(
        torch.tensor(np.array(x)).permute(0, 3, 1, 2),
        4,
        torch.tensor(np.array(weight)),
        torch.tensor(np.array(bias)),
    )
    got = applied(GroupNorm(4, 8, pytorch_compatible=True))(x, weight, bias)
    assert_close(got, mx.array(want.permute(0, 2, 3, 1).numpy()), 1e-5, "value")


@pytest.mark.parametrize(
    "layer",
    [BatchNorm(8), GroupNorm(4, 8), GroupNorm(2, 8, pytorch_compatible=True)],
    ids=["batch", "group", "group-pytorch"],
)
def test_gradients_are_slopes(layer):
    assert_slopes(applied(layer), *arguments((3, 4, 4, 8)))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("make", [lambda: BatchNorm(8), lambda: GroupNorm(4, 8)])
def test_half_precision_neither_overflows_nor_loses_the_mean(make, dtype):
    # Squares of these values, and their sums, are far above float16's 65504.
    mx.random.seed(5)
    x = (mx.random.normal((4, 32, 32, 8)) * 300 + 2000).astype(dtype)
    weight, bias = mx.ones((8,)), mx.zeros((8,))
    cotangent = mx.random.normal(x.shape).astype(dtype)
    got, got_gradients = mx.vjp(applied(make()), [x, weight, bias], [cotangent])
    assert got[0].dtype == dtype
    wide = [x.astype(mx.float32), weight, bias]
    want, want_gradients = mx.vjp(applied(make()), wide, [cotangent.astype(mx.float32)])
    tolerance = 2e-3 if dtype == mx.float16 else 1e-2
    assert_close(got[0], want[0], tolerance, "value")
    for number, (ours, theirs) in enumerate(zip(got_gradients, want_gradients, strict=True)):
        assert_close(ours, theirs, tolerance, f"gradient {number}")


def test_the_variance_survives_a_mean_far_from_zero():
    mx.random.seed(6)
    x = mx.random.normal((8, 16, 16, 8)) + 3000.0
    layer = BatchNorm(8, momentum=1.0)
    layer(x)
    want = np.array(x, dtype=np.float64).var(axis=(0, 1, 2), ddof=1)
    assert_close(layer.running_var, mx.array(want), 1e-3, "variance")


def test_compiled_and_plain_agree():
    args = arguments((3, 4, 4, 8))

    def loss(x, weight, bias):
        return mx.sum(mx.square(applied(GroupNorm(4, 8))(x, weight, bias)) * x)

    plain = mx.grad(loss, argnums=(0, 1, 2))
    for got, want in zip(mx.compile(plain)(*args), plain(*args), strict=True):
        assert_close(got, want, 1e-5, "compiled gradient")


@pytest.mark.parametrize("make", [lambda: GroupNorm(3, 8), lambda: BatchNorm(8, eps=0.0)])
def test_bad_sizes_are_refused(make):
    with pytest.raises(ValueError, match=r"divide|eps"):
        make()
