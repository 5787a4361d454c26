"""Quantisation: batch norm folding, 8-bit layers, MLX's own weights, and their checkpoints."""

from __future__ import annotations

import json
import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.commands import assert_refused, run

from mlx_headpose.cli import main
from mlx_headpose.core.crop import AROUND_HEAD, AROUND_LANDMARKS
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import PoseHead, build
from mlx_headpose.methods.hopenet.network import Config as HopeNetConfig
from mlx_headpose.methods.whenet.network import Config
from mlx_headpose.nn import BatchNorm, Conv2d
from mlx_headpose.quantization import (
    Int8Conv2d,
    Int8Linear,
    Quantization,
    fold_batch_norms,
    quantize_int8,
    quantize_weights,
)
from mlx_headpose.quantization.int8 import best_range, input_range
from mlx_headpose.quantization.layers import InputRange, int8_layer, weight_view
from mlx_headpose.quantization.tree import copy_of, layers
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.weights import from_pretrained, save_pretrained, save_tensors

SIZE = 64


def randomised(config):
    """A network whose norms have statistics and scales of their own."""
    mx.random.seed(0)
    model = build(config)
    for module in layers(model, (BatchNorm, nn.BatchNorm)).values():
        shape = module.running_mean.shape
        module.running_mean = 0.1 * mx.random.normal(shape)
        module.running_var = mx.random.uniform(0.5, 2.0, shape)
        module.weight = mx.random.uniform(0.5, 1.5, shape)
        module.bias = 0.1 * mx.random.normal(shape)
    model.eval()
    return model


@pytest.fixture(scope="module")
def model():
    return randomised(Config())


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, SIZE // 8, SIZE // 8, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def int8(model, images):
    return quantize_int8(model, images, batch_size=4)


def relative(a, b):
    return max(float(mx.abs(x - y).max() / mx.abs(y).max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "config",
    [Config(), HopeNetConfig(arch="resnet18"), HopeNetConfig(arch="mobilenetv2")],
    ids=["whenet", "resnet18", "mobilenetv2"],
)
def test_folding_changes_nothing_but_the_norms(config, images):
    model = randomised(config)
    inputs = mx.array(images[:2])
    expected = model(inputs)
    count = len(layers(model, (BatchNorm, nn.BatchNorm)))
    folded = fold_batch_norms(model, inputs)
    assert len(folded) == count > 10
    assert not layers(model, (BatchNorm, nn.BatchNorm))
    assert relative(model(inputs), expected) < 1e-3


def test_folding_refuses_a_convolution_that_feeds_more_than_its_norm():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = Conv2d(3, 4, 3)
            self.norm = BatchNorm(4)
            self.norm.running_mean = mx.ones(4)

        def __call__(self, x):
            y = self.conv(x)
            return (self.norm(y) + y).mean(axis=(1, 2))

    class Head(PoseHead):
        def __call__(self, features):
            return (features,)

    model = build(Config())
    model.backbone, model.head = Backbone(), Head()
    model.eval()
    with pytest.raises(InputError, match="cannot be folded"):
        fold_batch_norms(model, mx.random.randint(0, 255, (1, 16, 16, 3)).astype(mx.uint8))


def test_int8_linear_against_integers():
    """The layer against numpy's integer arithmetic: exact up to the last rescaling."""
    rng = np.random.default_rng(0)
    linear = nn.Linear(40, 7)
    channels = rng.uniform(0.5, 2, 40)
    layer = Int8Linear(linear, InputRange(channels, -0.3, 4.0))
    x = rng.uniform(-1, 5, (9, 40)).astype(np.float32)
    scale, zero = np.array(layer.input_scale), int(layer.input_zero)
    quantized = np.clip(np.round(x / scale) + zero, 0, 255).astype(np.int64)
    sums = (quantized - zero) @ np.array(layer.weight).astype(np.int64).T
    expected = sums * np.array(layer.weight_scale) + np.array(linear.bias)
    assert np.allclose(np.array(layer(mx.array(x))), expected, rtol=1e-5, atol=1e-5)
    assert layer.weight.dtype == mx.int8
    weight = np.array(layer.weight) * np.array(layer.weight_scale)[:, None]
    error = np.abs(weight - np.array(linear.weight) * scale)
    assert (error <= 0.501 * np.array(layer.weight_scale)[:, None]).all()


def test_int8_convolution_pads_with_zero():
    conv = Conv2d(3, 5, 3, 2, "same")
    layer = Int8Conv2d(conv, InputRange(np.array([0.5, 1, 2]), -4.0, 12.0))
    x = mx.random.uniform(-2, 6, (2, 9, 9, 3))
    assert layer(x).shape == conv(x).shape
    assert relative([layer(x)], [conv(x)]) < 0.03
    assert mx.abs(layer(mx.zeros((1, 9, 9, 3))) - conv(mx.zeros((1, 9, 9, 3)))).max() < 1e-6


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_channels_of_different_size_are_rounded_alike(groups):
    conv = Conv2d(6, 12, 3, padding="same", groups=groups)
    sizes = mx.array([0.01, 0.1, 1, 10, 100, 1000])
    x = mx.random.uniform(-1, 1, (2, 8, 8, 6)) * sizes
    conv.weight = conv.weight / weight_view(sizes, conv)
    layer = int8_layer(conv, input_range(conv, np.array(x).reshape(-1, 6)))
    assert relative([layer(x)], [conv(x)]) < 0.02


def test_range_clips_outliers_that_do_not_pay():
    rng = np.random.default_rng(0)
    values = rng.normal(size=100_000)
    low, high = best_range(np.append(values, [40.0, -40.0]))
    assert -36 < low < -4
    assert 4 < high < 36
    assert best_range(np.array([0.0, 1.0])) == (0.0, 1.0)
    assert best_range(np.zeros(3)) == (0.0, 0.0)


def test_int8_network_is_close(model, int8, images):
    inputs = mx.array(images)
    assert relative(int8(inputs), model(inputs)) < 0.2
    for name, layer in layers(int8, (Int8Conv2d, Int8Linear)).items():
        assert layer.weight.dtype == mx.int8, name
    # The stem and the first five blocks, with 1.4 % of the weights, stay float32.
    assert len(int8.quantization.layers) == 11 * 5 + 1 + 3
    assert len(layers(int8, (Conv2d,))) == 84 - 59
    assert isinstance(int8.backbone.blocks[4].project.conv, Conv2d)
    assert not int8.trainable_parameters()["backbone"]["top"]["conv"]
    # The original is untouched.
    assert model.quantization is None
    assert layers(model, (BatchNorm,))


def test_int8_checkpoint_is_small_and_computes_the_same(int8, images, tmp_path):
    path = tmp_path / "whenet-int8.safetensors"
    save_pretrained(int8, path)
    assert path.stat().st_size <= 5_000_000
    loaded = from_pretrained(path)
    inputs = mx.array(images[:2])
    assert all(map(mx.array_equal, loaded(inputs), int8(inputs)))
    assert loaded.quantization == int8.quantization
    save_pretrained(loaded, tmp_path / "folder")
    assert all(map(mx.array_equal, from_pretrained(tmp_path / "folder")(inputs), int8(inputs)))


@pytest.mark.parametrize("bits", [8, 4])
def test_mlx_weights(model, images, tmp_path, bits):
    quantized = quantize_weights(model, bits, images)
    assert quantized.quantization.scheme == f"mlx{bits}"
    inputs = mx.array(images[:4])
    assert relative(quantized(inputs), model(inputs)) < {8: 0.05, 4: 0.8}[bits]
    path = tmp_path / "whenet-mlx.safetensors"
    save_pretrained(quantized, path)
    assert path.stat().st_size < {8: 8_500_000, 4: 7_000_000}[bits]
    loaded = from_pretrained(path)
    assert all(map(mx.array_equal, loaded(inputs), quantized(inputs)))


def test_copies_are_independent(model):
    copy = copy_of(model)
    copy.head.yaw.bias = copy.head.yaw.bias + 1
    assert not mx.array_equal(copy.head.yaw.bias, model.head.yaw.bias)


@pytest.mark.parametrize(
    "damage",
    [
        {"scheme": "int3"},
        {"layers": ["backbone.nowhere"]},
        {"layers": ["backbone"]},
        {"layers": [1]},
        {"layers": None},
        {"folded": [["backbone.stem.norm", "head.yaw"]]},
        {"folded": [["backbone.stem.norm"]]},
        {"folded": [["__class__", "backbone.stem.conv"]]},
    ],
)
def test_hostile_configs_are_refused(int8, tmp_path, damage):
    path = tmp_path / "hostile.safetensors"
    save_pretrained(int8, path)
    config = read_config(path)
    config["quantization"] = json.loads(json.dumps(config["quantization"])) | damage
    save_tensors(path, dict(tree_flatten(int8.parameters())), config)
    with pytest.raises(InputError, match="hostile"):
        from_pretrained(path)


def test_spec_round_trip():
    spec = Quantization("mlx4", ("a", "b"), (("n", "c"),))
    assert Quantization.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_half_precision_works_in_every_command(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mx.random.seed(0)
    preprocessing = Preprocessing(size=64, crop=AROUND_LANDMARKS)
    save_pretrained(
        build(HopeNetConfig(arch="squeezenet1_1", preprocessing=preprocessing)), "net.safetensors"
    )
    folder = str(shared / "data" / "panoptic")
    half = ["--quantize", "half", "--calibration_dataset", "panoptic", "--calibration_dir", folder]
    main("export", ["--snapshot", "net.safetensors", *half])
    printed = capsys.readouterr().out
    assert "wrote weights/net-half.safetensors (1.6" in printed
    assert float(re.search(r"at most ([\d.]+)°", printed)[1]) < 0.1
    given = ["--snapshot", "weights/net-half.safetensors"]
    main("export", [*given, "--format", "mlxfn"])
    main("test", [*given, "--dataset", "panoptic", "--data_dir", folder])
    photo = str(shared / "data" / "AFLW2000" / "image00002.jpg")
    main("predict", [*given, photo, "--bbox", "150,150,150,150"])
    data = ["--samples", "8", "--val_dataset", "panoptic", "--val_data_dir", folder]
    options = ["--batch_size", "4", "--num_epochs", "1", "--output_string", "x"]
    main("train", [*given, "--dataset", "synthetic", *data, *options])
    trained = load_tensors("workdirs_x/best.safetensors")
    assert {value.dtype for value in trained.values()} == {mx.float32}


def test_export_command(model, shared, tmp_path):
    """As a user types it: quantise, then test the file like any other."""
    preprocessing = Preprocessing(size=SIZE, resize="squash", crop=AROUND_HEAD)
    small = build(Config(preprocessing=preprocessing))
    small.update(model.parameters())
    save_pretrained(small, tmp_path / "w.safetensors")
    data = ["_dataset", "panoptic", "_dir", str(shared / "data" / "panoptic")]
    calibration = [f"--calibration{word}" if word[0] == "_" else word for word in data]
    done = run(
        "export.py", "--snapshot", tmp_path / "w.safetensors", "--quantize", "int8",
        "--output", tmp_path / "q.safetensors", *calibration,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mean change yaw" in done.stdout
    assert (tmp_path / "q.safetensors").stat().st_size <= 5_000_000
    tested = run(
        "test.py", "--snapshot", tmp_path / "q.safetensors", "--dataset", "panoptic",
        "--data_dir", shared / "data" / "panoptic",
    )  # fmt: skip
    assert tested.returncode == 0, tested.stderr
    assert "3 images" in tested.stdout
    again = run("export.py", "--snapshot", tmp_path / "q.safetensors", "--quantize", "int8")
    assert_refused(again, "quantised already")
