"""Shards: values, gradients and statistics are the whole batch's, each part in its stream."""

from __future__ import annotations

import threading

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.nn_compare import assert_close
from support.toy_training import ToySet, toy_model

from mlx_headpose.cpu import blas as _blas
from mlx_headpose.cpu.shards import (
    Shards,
    current_shard,
    shard,
    shard_count,
    shards,
    shards_for,
    shards_on_cores,
)
from mlx_headpose.data.augment import UNCHANGED
from mlx_headpose.evaluation.evaluate import evaluate
from mlx_headpose.methods.hopenet import network as hopenet
from mlx_headpose.methods.opal import network as opal
from mlx_headpose.methods.pyramid import network as pyramid
from mlx_headpose.methods.semiuhpe import network as semiuhpe
from mlx_headpose.methods.sixdrepnet import network as sixdrepnet
from mlx_headpose.methods.tokenhpe import network as tokenhpe
from mlx_headpose.methods.whenet import network as whenet
from mlx_headpose.nn import (
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    GroupNorm,
    MaxPool2d,
    hard_sigmoid,
    hard_swish,
    is_statistic,
    mean_pool2d,
    relu,
    relu6,
    sigmoid,
    silu,
)
from mlx_headpose.nn.plain import with_gradient
from mlx_headpose.training.optimizer import Optimizer, single_optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import freeze, make_step, training_mode

# Streams of MLX's own convolutions, as a GPU's path has them, wait for each other on the CPU.
pytestmark = pytest.mark.cpu

LAYERS = {
    "convolution": lambda: Conv2d(8, 6, 3, stride=2, padding=1),
    "stem": lambda: Conv2d(8, 6, 7, padding="same", bias=False),
    "grouped": lambda: Conv2d(8, 8, 3, groups=2),
    "depthwise": lambda: Conv2d(8, 8, 3, padding=1, groups=8),
    "transposed": lambda: ConvTranspose2d(8, 4, 2, stride=2),
    "batch norm": lambda: BatchNorm(8),
    "group norm": lambda: GroupNorm(4, 8, pytorch_compatible=True),
    "pool": lambda: MaxPool2d(3, stride=2, padding=1),
    "mean": lambda: lambda x: mean_pool2d(x).squeeze((1, 2)),
    "relu": lambda: relu,
    "relu6": lambda: relu6,
    "sigmoid": lambda: sigmoid,
    "silu": lambda: silu,
    "hard sigmoid": lambda: hard_sigmoid,
    "hard swish": lambda: hard_swish,
    "sum": lambda: lambda x: x + x * 3.0,
    "gate": lambda: lambda x: x * sigmoid(mean_pool2d(x)),
    "per channel": lambda: lambda x: (x * mx.arange(8.0)).astype(mx.float32),
    "per sample": lambda: lambda x: x * mx.arange(1.0, 1.0 + x.shape[0])[:, None, None, None],
}


def in_shards(function, count):
    return lambda x: function(Shards.split(x, count)).join()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_it_does_of_the_whole_batch(name, count):
    mx.random.seed(1)
    layer = LAYERS[name]()
    x = mx.random.normal((5, 9, 9, 8)) * 3 + 2  # 5 samples: the parts differ in size
    whole, parts = layer(x), in_shards(layer, count)(x)
    assert_close(parts, whole, 1e-6, "value")
    cotangent = mx.random.normal(whole.shape)
    (want,), (got,) = (
        mx.vjp(function, [x], [cotangent])[1] for function in (layer, in_shards(layer, count))
    )
    assert_close(got, want, 2e-6, "gradient")


def test_batch_norm_learns_and_remembers_the_same():
    mx.random.seed(2)
    x, weight, bias = mx.random.normal((5, 4, 4, 8)) * 3 + 50, mx.arange(8.0), mx.ones(8)

    def run(split):
        norm = BatchNorm(8)

        def function(x, weight, bias):
            norm.weight, norm.bias = weight, bias
            return in_shards(norm, 3)(x) if split else norm(x)

        gradients = mx.vjp(function, [x, weight, bias], [mx.cos(x)])[1]
        return [*gradients, norm.running_mean, norm.running_var]

    for number, (got, want) in enumerate(zip(run(True), run(False), strict=True)):
        assert_close(got, want, 1e-5, f"array {number}")


NETWORKS = {
    "resnet18": lambda: hopenet.build(hopenet.Config(arch="resnet18", alpha=0.01)),
    "resnet18 group": lambda: hopenet.build(
        hopenet.Config(arch="resnet18", alpha=0.01, norm="group")
    ),
    "mobilenetv2": lambda: hopenet.build(hopenet.Config(arch="mobilenetv2", alpha=0.01)),
    "squeezenet": lambda: hopenet.build(hopenet.Config(arch="squeezenet1_1", alpha=0.01)),
    "whenet": lambda: whenet.build(whenet.Config()),
    "tokenhpe": lambda: tokenhpe.build(tokenhpe.Config(**tokenhpe.Config.quick)),
    "pyramid": lambda: pyramid.build(pyramid.Config()),
    "repvgg": lambda: sixdrepnet.build(sixdrepnet.Config(arch="repvgg_a0")),
    "mobilenetv3": lambda: sixdrepnet.build(sixdrepnet.Config(arch="mobilenetv3_small")),
    "opal": lambda: opal.build(opal.Config()),
    "semiuhpe": lambda: semiuhpe.build(semiuhpe.Config(arch="efficientnetv2_s")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_and_predicts_as_with_the_whole_batch(name):
    mx.random.seed(3)
    model = NETWORKS[name]()
    size = model.config.preprocessing.size if name == "tokenhpe" else 64
    images = mx.random.uniform(-1, 1, (7, size, size, 3))
    poses = mx.random.uniform(-60, 60, (7, 3))
    weights = model.parameters()

    def run(count, images):
        model.update(weights)
        model.train()
        mx.random.seed(4)  # dropped blocks are the same
        with shards(count):
            loss, gradients = nn.value_and_grad(
                model, lambda images: model.loss(model(images), poses)[0]
            )(images)
            statistics = {k: v for k, v in tree_flatten(model.parameters()) if is_statistic(k)}
            model.eval()
            results = {"loss": loss, "gradients": gradients, "statistics": statistics}
            results["outputs"] = model(images)
            mx.eval(results)
        return {
            key: np.concatenate(
                [np.zeros(1), *(np.array(v).ravel() for _, v in tree_flatten(tree))]
            )
            for key, tree in results.items()
        }

    want, got = run(1, images), run(3, images)
    # Norms over few values and kinks magnify rounding, so the measure is what a little noise does.
    noisy = run(1, images * (1 + 1e-5 * mx.random.normal(images.shape)))
    for key, value in want.items():
        noise = np.linalg.norm(noisy[key] - value) + 1e-6 * np.linalg.norm(value)
        assert np.linalg.norm(got[key] - value) <= 2 * noise, key


def test_each_part_is_computed_in_its_shard_backwards_too():
    seen = []

    def gradient(x, dy, y):
        seen.append(("backwards", current_shard()))
        return dy

    def forward(x):
        seen.append(("forwards", current_shard()))
        return x * 1.0

    function = with_gradient(forward, gradient)
    split = lambda x: Shards.split(x, 3).map(function).join()  # noqa: E731
    mx.eval(mx.grad(lambda x: split(x).sum())(mx.ones((3, 2))))
    assert [entry for entry in seen if entry[0] == "forwards"] == [
        ("forwards", i) for i in range(3)
    ]
    assert sorted(entry for entry in seen if entry[0] == "backwards") == [
        ("backwards", i) for i in range(3)
    ]
    assert current_shard() == 0


def test_every_shard_but_the_first_has_a_stream_of_its_own():
    streams = []
    for number in (0, 1, 2, 1):
        with shard(number):
            streams.append(str(mx.default_stream(mx.Device(mx.cpu))))
    assert streams[1] == streams[3]
    assert len(set(streams)) == 3


def test_blas_has_one_thread_while_there_are_shards(monkeypatch):
    threads = [3]
    monkeypatch.setattr(_blas, "threads", lambda: threads[-1])
    monkeypatch.setattr(_blas, "set_threads", threads.append)
    with shards_on_cores(32):
        assert (shard_count(), threads[-1]) == (3, 1)
        with shards_on_cores(32):
            assert (shard_count(), threads[-1]) == (3, 1)
        assert (shard_count(), threads[-1]) == (3, 1)
    assert (shard_count(), threads[-1]) == (1, 3)
    with pytest.raises(ZeroDivisionError), shards_on_cores(32):
        raise ZeroDivisionError
    assert (shard_count(), threads[-1]) == (1, 3)


def test_small_batches_have_fewer_shards():
    with shards(3):
        assert [shards_for(samples) for samples in (0, 1, 2, 3, 4, 6, 60)] == [1, 1, 1, 1, 2, 3, 3]


def test_where_there_are_no_shards_blas_keeps_its_threads(monkeypatch):
    monkeypatch.setattr(_blas, "threads", lambda: 3)
    monkeypatch.setattr(_blas, "set_threads", lambda count: pytest.fail("threads were changed"))
    with shards_on_cores(samples=3):
        assert shard_count() == 1

    def elsewhere():
        with shards_on_cores(samples=32):
            counts.append(shard_count())

    counts = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert counts == [1]


@pytest.mark.parametrize(
    "options", [{"bfloat16": True}, {"freeze": ("backbone.conv1", "backbone.bn1")}]
)
def test_a_step_moves_the_weights_as_without_shards(options):
    mx.random.seed(6)
    images = mx.random.uniform(-1, 1, (6, 64, 64, 3))
    poses = mx.random.uniform(-60, 60, (6, 3))
    changes = mx.array(np.tile(UNCHANGED, (6, 1)))

    def run(count):
        mx.random.seed(7)
        model = NETWORKS["resnet18"]()
        before = dict(tree_flatten(model.parameters()))
        settings = TrainingOptions(optimizer="sgd", lr=1e-3, momentum=0.0, augment=0.0, **options)
        freeze(model, settings.freeze)
        step = make_step(model, Optimizer(model, settings), settings, None)
        training_mode(model, settings.freeze)
        with shards(count):
            step(images, poses, changes)
            mx.eval(model.parameters())
        after = dict(tree_flatten(model.parameters()))
        moves = np.concatenate([np.array(after[k] - before[k]).ravel() for k in sorted(after)])
        assert np.abs(moves).max() > 0
        return moves

    want, got = run(1), run(3)
    tolerance = 0.2 if "bfloat16" in options else 1e-2
    assert np.linalg.norm(got - want) < tolerance * np.linalg.norm(want)


def test_training_and_evaluation_use_every_core(monkeypatch, tmp_path):
    from mlx_headpose.training import loop
    from mlx_headpose.training.checkpoint import Workdir

    counts = []

    def record(self, inputs):
        counts.append((self.training, shard_count()))
        with shards(1):  # the toy network takes no shards
            return plain(self, inputs)

    model = toy_model()
    plain = type(model).__call__
    monkeypatch.setattr(type(model), "__call__", record)
    monkeypatch.setattr(type(model), "trains_in_shards", True)
    monkeypatch.setattr(_blas, "threads", lambda: 2 if shard_count() == 1 else 1)
    monkeypatch.setattr(_blas, "set_threads", lambda count: None)
    options = TrainingOptions(epochs=1, batch_size=4, augment=0.0)
    loop.Training(model, ToySet(8), ToySet(4), Workdir(tmp_path / "run"), options).run()
    assert set(counts) == {(True, 2), (False, 2)}
    counts.clear()
    model.eval()
    evaluate(model, ToySet(4))
    assert set(counts) == {(False, 2)}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_update_in_shards_is_the_same_to_the_bit(name):
    mx.random.seed(5)
    gradients = {"a": mx.random.normal((7, 3)), "b": mx.random.normal((5,)), "c": mx.ones((2, 2))}

    def run(count):
        optimizer = single_optimizer(TrainingOptions(optimizer=name, lr=0.1, weight_decay=0.01))
        weights = gradients
        with shards(count):
            for _ in range(3):
                weights = optimizer.apply_gradients(gradients, weights)
            mx.eval(weights, optimizer.state)
        return weights

    want, got = run(1), run(2)
    assert all(np.array_equal(np.array(got[key]), np.array(want[key])) for key in want)
