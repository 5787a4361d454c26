"""HopeNet and HopeLessNet against their published code's outputs and losses."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from support.converted import seeded_network

from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.hopenet.network import ARCHS, BinHead, Config, arch_name


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("hopenet_resnet18", 224),
        ("hopenet_resnet50", 224),
        ("hopelessnet_squeezenet_1_1", 224),
        ("hopelessnet_mobilenet_v2", 224),
        ("hopenet_mlx_resnet50", 64),
        ("hopenet_mlx_resnet50", 128),
    ],
)
def test_outputs_equal_the_published_codes(shared, seeded, name, size):
    network = seeded_network(seeded, name)
    outputs = network(mx.array(seeded.seeded_image(size)))
    with np.load(shared / "golden" / f"{name}_{size}.npz") as golden:
        for i, output in enumerate(outputs):
            expected = golden[f"output{i}"]
            error = np.abs(np.array(output) - expected).max() / np.abs(expected).max()
            assert error < 1e-4


def test_loss_equals_the_published_codes(shared):
    with np.load(shared / "golden" / "losses.npz") as golden:
        logits = tuple(mx.array(golden["hopenet_logits"]))
        pose = mx.array(golden["yaw_pitch_roll_deg"].astype(np.float32))
        for alpha in (0.5, 1.0, 2.0):
            total, parts = BinHead(8, alpha=alpha).loss(logits, pose)
            expected = golden[f"hopenet_loss_alpha{alpha}"]
            found = [parts[name].item() for name in ("yaw", "pitch", "roll")]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            assert total.item() == pytest.approx(expected.sum(), rel=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_0", "squeezenet1_1", "mobilenetv2"])
@pytest.mark.parametrize("size", [64, 97])
def test_any_input_size_from_64_up(arch, size):
    network = build(Config(arch=arch))
    network.eval()
    outputs = network(mx.zeros((1, size, size, 3), mx.uint8))
    assert [output.shape for output in outputs] == [(1, 66)] * 3
    assert network.decode(outputs).shape == (1, 3)


@pytest.mark.parametrize(
    ("text", "arch"),
    [
        ("ResNet18", "resnet18"),
        ("Squeezenet_1_0", "squeezenet1_0"),
        ("squeezenet1_1", "squeezenet1_1"),
        ("mobilenet_v2", "mobilenetv2"),
        ("MobileNetV2", "mobilenetv2"),
    ],
)
def test_architectures_by_any_spelling(text, arch):
    assert arch_name(text) == arch


@pytest.mark.parametrize(
    "wrong",
    [
        {"arch": "resnet19"},
        {"norm": "layer"},
        {"arch": "mobilenetv2", "norm": "group"},
        {"preprocessing": Preprocessing(size=32)},
    ],
)
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(InputError):
        Config(**wrong)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_resnet_follows_its_table(norm):
    # Parameters of torchvision's ResNets less their classifier, plus three of 66 bins; group
    # norm has the same scales and shifts and no statistics.
    for arch, backbone in (("resnet18", 11_176_512), ("resnet50", 23_508_032)):
        network = build(Config(arch=arch, norm=norm))
        channels = network.backbone.channels
        count = sum(value.size for value in _trainable(network))
        assert count == backbone + 3 * 66 * (channels + 1)
    assert set(ARCHS) >= {"resnet34", "resnet101", "resnet152"}


def _trainable(network):
    from mlx.utils import tree_flatten

    return [value for _, value in tree_flatten(network.trainable_parameters())]


def test_normalisation_is_imagenets():
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    found = np.array(Preprocessing().normalize(mx.array(image)))
    expected = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found, expected, atol=1e-5)
