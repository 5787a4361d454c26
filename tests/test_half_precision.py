"""float16 and bfloat16: nothing overflows, and networks answer as in float32."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_headpose.backbones.vit import EPSILON
from mlx_headpose.data.augment import UNCHANGED
from mlx_headpose.errors import InputError
from mlx_headpose.export.mlxfn import narrow
from mlx_headpose.methods import METHODS, build, config_class, config_from_dict
from mlx_headpose.methods.tokenhpe.network import TokenAttention
from mlx_headpose.nn import Conv2d, mean_pool2d
from mlx_headpose.training.optimizer import Optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import in_bfloat16, make_step
from mlx_headpose.weights import save_pretrained

HALVES = [mx.float16, mx.bfloat16]
# Small networks. Largest differences in degrees, in float16 and bfloat16: eight times the bits, and
# nearly parallel vectors of an untrained network magnify rounding.
NETWORKS = {
    "hopenet": ({"arch": "mobilenetv2"}, 0.1, 1.0),
    "nlml": ({}, 0.1, 1.0),
    "opal": ({}, 1.0, 8.0),
    "pyramid": ({}, 0.1, 1.0),
    "rotation9d": ({}, 1.0, 8.0),
    "semiuhpe": ({"arch": "resnet50"}, 1.0, 8.0),
    "sixdrepnet": ({"arch": "resnet18"}, 1.0, 8.0),
    "tokenhpe": ({"width": 96, "depth": 2, "backbone_heads": 2}, 3.0, 24.0),
    "whenet": ({}, 0.1, 1.0),
}


def test_every_method_is_here():
    assert set(NETWORKS) == set(METHODS)


def test_weights_beyond_float16_are_refused(tmp_path):
    model = build(config_from_dict({"model_type": "hopenet", "arch": "mobilenetv2"}))
    weights = tree_flatten(model.backbone.parameters())
    name, weight = [(name, value) for name, value in weights if value.ndim > 1][-1]
    model.backbone.update(tree_unflatten([(name, weight + 1e6)]))
    with pytest.raises(InputError, match="has weights that float16 cannot hold; keep float32"):
        save_pretrained(model, tmp_path / "net.safetensors", half=True)
    assert not list(tmp_path.iterdir())
    save_pretrained(model, tmp_path / "net.safetensors", half=True, dtype=mx.bfloat16)
    with pytest.raises(InputError, match=f"{name} has weights that float16 cannot hold"):
        narrow(model, mx.float16)


@pytest.mark.parametrize("method", NETWORKS)
def test_networks_answer_as_in_float32(method):
    changes, *tolerances = NETWORKS[method]
    if not config_class(method)().inputs.landmarks:
        changes = {**changes, "preprocessing": {"size": 64}}
    mx.random.seed(0)
    model = build(config_from_dict({"model_type": method, **changes}))
    model.eval()
    inputs = model.config.inputs.example(2)
    inputs = model.config.inputs.normalize(inputs)
    wanted = model(inputs)
    angles = np.array(model.decode(wanted))
    for dtype, tolerance in zip(HALVES, tolerances, strict=True):
        model.set_dtype(dtype)
        outputs = model(inputs.astype(dtype))
        assert all(bool(mx.isfinite(output).all()) for output in outputs)
        difference = np.array(model.decode(outputs).astype(mx.float32)) - angles
        assert np.abs((difference + 180) % 360 - 180).max() < tolerance


@pytest.mark.parametrize("method", NETWORKS)
def test_networks_train_in_bfloat16(method):
    changes = dict(NETWORKS[method][0])
    if not config_class(method)().inputs.landmarks:
        changes["preprocessing"] = {"size": 64}
    mx.random.seed(0)
    model = build(config_from_dict({"model_type": method, **changes}))
    model.train()
    options = TrainingOptions(bfloat16=True, augment=0)
    optimizer = Optimizer(model, options)
    step = make_step(model, optimizer, options, None)
    poses = mx.random.uniform(-60, 60, (4, 3))
    result = step(model.config.inputs.example(4), poses, mx.array(np.tile(UNCHANGED, (4, 1))))
    assert np.isfinite(float(result.loss))
    assert all(bool(mx.isfinite(v).all()) for _, v in tree_flatten(model.parameters()))


@pytest.mark.parametrize("method", ["hopenet", "pyramid", "whenet"])
def test_layers_in_training_do_not_widen(method, monkeypatch):
    changes = {"arch": "resnet18"} if method == "hopenet" else {}
    model = build(config_from_dict({"model_type": method, **changes}))
    model.train()
    model.update(in_bfloat16(model, model.trainable_parameters()))
    seen = set()
    plain = Conv2d.__call__

    def watch(layer, x):
        seen.add(x.dtype)
        return plain(layer, x)

    monkeypatch.setattr(Conv2d, "__call__", watch)
    outputs = model(mx.random.normal((2, 64, 64, 3)).astype(mx.bfloat16))
    assert seen == {output.dtype for output in outputs} == {mx.bfloat16}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("method", ["hopenet", "pyramid", "whenet"])
def test_heads_of_bins_bear_the_largest_logits(method, dtype):
    changes = {"arch": "squeezenet1_1"} if method == "hopenet" else {}
    model = build(config_from_dict({"model_type": method, **changes}))
    model.eval()
    shapes = [output.shape for output in model(mx.zeros((1, 64, 64, 3)))]
    rng = np.random.default_rng(0)
    outputs = tuple(
        mx.array(rng.uniform(-6e4, 6e4, (4, shape[1])).astype(np.float32)).astype(dtype)
        for shape in shapes
    )
    wide = tuple(output.astype(mx.float32) for output in outputs)
    for answer in (model.head.decode, model.head.confidence):
        got, want = answer(outputs), answer(wide)
        np.testing.assert_allclose(np.array(got.astype(mx.float32)), np.array(want), atol=1e-2)
    for got in model.head.probabilities(outputs):
        assert bool(mx.isfinite(got).all())
        np.testing.assert_allclose(got.astype(mx.float32).sum(-1), 1, atol=1e-2)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_mean_of_a_large_picture(dtype):
    mx.random.seed(1)
    x = (mx.random.normal((2, 112, 112, 3)) + 40).astype(dtype)  # the sum is half a million
    got, (slope,) = mx.vjp(mean_pool2d, [x], [mx.ones((2, 1, 1, 3), dtype)])
    assert got[0].dtype == slope.dtype == dtype
    want = np.array(x.astype(mx.float32)).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(np.array(got[0].astype(mx.float32)), want, rtol=4e-3)
    np.testing.assert_allclose(np.array(slope.astype(mx.float32)), 1 / 112**2, rtol=4e-3)


def test_the_mean_in_float32_is_mlx_s():
    x = mx.random.normal((2, 5, 7, 3))
    assert mx.array_equal(mean_pool2d(x), x.mean(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("dtype", HALVES)
def test_layer_norm_bears_values_whose_squares_overflow(dtype):
    layer = nn.LayerNorm(64, EPSILON)
    x = (mx.random.normal((2, 9, 64)) * 300 + 2000).astype(dtype)
    want = np.array(layer(x.astype(mx.float32)))
    layer.set_dtype(dtype)
    np.testing.assert_allclose(np.array(layer(x).astype(mx.float32)), want, atol=0.03)


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_over_many_tokens_still_sums_to_one(dtype):
    mx.random.seed(2)
    layer = TokenAttention(16, 2)
    layer.set_dtype(dtype)
    weights = layer.weights(mx.random.normal((1, 1000, 16)).astype(dtype)).astype(mx.float32)
    np.testing.assert_allclose(np.array(weights.sum(-1)), 1, atol=0.05)
    value = layer(mx.ones((1, 1000, 16), dtype)).astype(mx.float32)
    few = layer(mx.ones((1, 3, 16), dtype)).astype(mx.float32)
    np.testing.assert_allclose(np.array(value[:, :3]), np.array(few), atol=0.02)
