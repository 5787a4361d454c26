"""6DRepNet's, yakhyo's, OPAL's and SemiUHPE's networks against their published code's outputs."""

from __future__ import annotations

import dataclasses
import math

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from support.converted import seeded_network

from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.export.onnx import export_onnx
from mlx_headpose.methods import build
from mlx_headpose.methods.opal.network import Config as OpalConfig
from mlx_headpose.methods.opal.network import OpalHead, opal_loss
from mlx_headpose.methods.semiuhpe.network import Config as UHPEConfig
from mlx_headpose.methods.sixdrepnet.network import Config, SixDHead, frobenius_distance
from mlx_headpose.pose import geodesic_radians, r_to_pose, rotation_6d_to_matrix, wrap
from mlx_headpose.quantization import fold_branches

SIXD = [
    "sixdrepnet_repvgg_b1g2_deploy",
    "sixdrepnet_repvgg_b1g2_train",
    "sixdrepnet360_resnet50",
    "sixdrepnet_yakhyo_resnet18",
    "sixdrepnet_yakhyo_resnet50",
    "sixdrepnet_yakhyo_mobilenetv2",
    "sixdrepnet_yakhyo_mobilenetv3_large",
]
# Signs and order that make our yaw, pitch, roll of a project's angles.
OPAL_SIGNS = [-1, 1, 1]
PITCH_YAW_ROLL = [1, 0, 2]


def difference(found, expected) -> float:
    """Largest difference relative to the largest expected value."""
    found, expected = np.array(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def assert_same_angles(found, expected, atol=0.02):
    """Degrees: rounding of 1e-6 in a matrix moves angles of seeded networks by about 1e-3."""
    assert np.abs(wrap(np.array(found) - expected)).max() < atol


def golden_of(shared, name):
    return np.load(shared / "golden" / f"{name}.npz")


@pytest.mark.parametrize("name", SIXD)
def test_sixdrepnet_equals_the_published_codes(shared, seeded, name):
    network = seeded_network(seeded, name)
    image = mx.array(seeded.seeded_image(224))
    with golden_of(shared, f"{name}_224") as golden:
        assert difference(network.head.six(network.backbone(image)), golden["raw"]) < 1e-4
        outputs = network(image)
        assert difference(outputs[0], golden["output0"]) < 1e-4
        assert_same_angles(network.decode(outputs), golden["euler_pyr"][:, PITCH_YAW_ROLL])


@pytest.mark.parametrize("name", ["opal_300wlp_6d", "opal_panoptic_quaternion"])
def test_opal_equals_the_published_code(shared, seeded, name):
    network = seeded_network(seeded, name)
    with golden_of(shared, f"{name}_128") as golden:
        outputs = network(mx.array(seeded.seeded_image(128)))
        assert difference(outputs[0], golden["output0"]) < 1e-4
        assert difference(network.head.matrix(outputs), golden["headpose"]) < 1e-4
        assert_same_angles(network.decode(outputs), golden["euler_ypr"] * OPAL_SIGNS)


@pytest.mark.parametrize("name", ["semiuhpe_resnet50", "semiuhpe_effnetv2"])
def test_semiuhpe_equals_the_published_code(shared, seeded, name):
    network = seeded_network(seeded, name)
    with golden_of(shared, f"{name}_224") as golden:
        outputs = network(mx.array(seeded.seeded_image(224)))
        assert difference(outputs[0], golden["output0"]) < 1e-4
        network.head.full_yaw = False
        for axes in ("300wlp", "dad3dheads"):
            network.head.axes = axes
            expected = golden[f"euler_pyr_{axes}"][:, PITCH_YAW_ROLL]
            assert_same_angles(network.decode(outputs), expected)


LOSSES = np.s_[8:]  # the rows that float32 computes well


def test_six_numbers_become_the_published_codes_matrices(shared):
    with golden_of(shared, "losses_sixd") as golden:
        found = np.array(rotation_6d_to_matrix(mx.array(golden["six"])))
        for project in ("6drepnet", "yakhyo"):
            np.testing.assert_allclose(found, golden[f"six_matrix_{project}"], atol=1e-6)
        np.testing.assert_allclose(
            found.reshape(golden["six_matrix_opal"].shape), golden["six_matrix_opal"], atol=1e-6
        )


def test_geodesic_losses_equal_the_published_codes(shared):
    with golden_of(shared, "losses_sixd") as golden:
        predicted, true = mx.array(golden["R_pred"]), mx.array(golden["R_true"])
        pose = r_to_pose(true)
        head = SixDHead(4, Config(arch="resnet18", loss="frobenius"))
        total, parts = head.loss((predicted,), pose)
        assert parts["geodesic"].item() == pytest.approx(golden["geodesic"].item(), abs=5e-5)
        assert total.item() == pytest.approx(golden["geodesic_frobenius"].item(), abs=1e-4)

        def sums(r):
            return geodesic_radians(r, true[LOSSES]).sum()

        def with_distance(r):
            return sums(r) + frobenius_distance(r, true[LOSSES]).sum()

        for loss, name in ((sums, "geodesic"), (with_distance, "geodesic_frobenius")):
            found = np.array(mx.grad(loss)(predicted[LOSSES]))
            expected = golden[f"{name}_grad"][LOSSES] * len(predicted)  # that of the mean
            r = np.array(predicted[LOSSES])
            assert difference(along(r, found), along(r, expected)) < 1e-4


def along(r, gradient):
    """The part of a gradient by R that turns R: the antisymmetric part of Rᵀ·G.

    Off the rotations the published arc cosine and our arc tangent go on differently.
    """
    product = np.swapaxes(r, -1, -2) @ gradient
    return product - np.swapaxes(product, -1, -2)


def test_opal_loss_equals_the_published_code(shared):
    with golden_of(shared, "losses_sixd") as golden:
        predicted, true = mx.array(golden["R_pred"]), mx.array(golden["R_true"])
        error = geodesic_radians(predicted, true)
        for i, (epsilon, beta, sigma, mu) in enumerate(golden["opal_settings"].tolist()):
            epsilon, beta, mu = np.radians([epsilon, beta, mu]).tolist()
            function = opal_loss(epsilon, beta, sigma, mu)
            found = np.degrees(np.array(function(error)))
            expected = golden[f"opal{i}_each"]
            np.testing.assert_allclose(found[LOSSES], expected[LOSSES], rtol=1e-4)
            np.testing.assert_allclose(found, expected, atol=np.degrees(5e-4))
            assert found.mean() == pytest.approx(golden[f"opal{i}_mean"].item(), rel=1e-4)

            def total(r, function=function):
                return mx.degrees(function(geodesic_radians(r, true[LOSSES]))).sum()

            r = np.array(predicted[LOSSES])
            gradient = np.array(mx.grad(total)(predicted[LOSSES]))
            wanted = along(r, golden[f"opal{i}_each_grad"][LOSSES])
            assert difference(along(r, gradient), wanted) < 2e-3


@pytest.mark.parametrize("values", [{"sigma": 1000.0}, {"sigma": 0.0}, {"beta": 180.0}])
def test_opal_refuses_a_tanh_that_is_flat_where_it_ends(values):
    OpalConfig(sigma=100.0, beta=10.0)  # steep, and where it ends
    with pytest.raises(InputError, match=r"the tanh is flat at beta .*; choose another sigma"):
        OpalConfig(**values)


def test_opal_without_a_tanh_takes_any_sigma():
    error = mx.array([0.1, 1.0, 3.0])
    for sigma in (0.0, 1000.0):
        config = OpalConfig(epsilon=0.0, beta=0.0, sigma=sigma)
        function = opal_loss(0.0, 0.0, config.sigma, math.radians(config.mu))
        np.testing.assert_allclose(np.array(function(error)), np.array(error), atol=1e-6)


def test_opal_loss_of_euler_angles_equals_the_published_code(shared):
    with golden_of(shared, "losses_sixd") as golden:
        head = OpalHead(4, OpalConfig(rotation="euler"))
        outputs = mx.array(golden["opal_euler_ypr_pred"])
        pose = mx.array(golden["opal_euler_ypr_true"] * np.float32(OPAL_SIGNS))
        for i in range(8, len(pose)):
            total, _ = head.loss((outputs[i : i + 1],), pose[i : i + 1])
            assert total.item() == pytest.approx(golden["opal0_euler_each"][i].item(), rel=1e-3)


def test_folding_equals_the_published_script(shared, seeded):
    network = seeded_network(seeded, "sixdrepnet_repvgg_b1g2_train")
    stages = network.backbone.stages
    layers = {"layer0": stages[0][0], "layer1.0": stages[1][0], "layer1.1": stages[1][1]}
    with golden_of(shared, "sixdrepnet_repvgg_b1g2_train_224") as golden:
        for name, layer in layers.items():
            weight, bias = layer.folded()
            expected = golden[f"fused_{name}_weight4"].transpose(0, 2, 3, 1)
            assert difference(weight[:4], expected) < 1e-5
            assert difference(bias, golden[f"fused_{name}_bias"]) < 1e-5
    image = mx.array(seeded.seeded_image(224))
    folded = fold_branches(network)
    assert folded.config.deploy
    assert difference(folded(image)[0], np.array(network(image)[0])) < 1e-5
    assert fold_branches(folded) is folded


SMALL = {
    "repvgg": lambda: Config(arch="repvgg_a0", loss="frobenius"),
    "mobilenetv3": lambda: Config(arch="mobilenetv3_small", full_yaw=True),
    "opal 6d": lambda: OpalConfig(rotation="6d"),
    "opal quaternion": lambda: OpalConfig(rotation="quaternion"),
    "opal euler": lambda: OpalConfig(rotation="euler"),
    "semiuhpe": lambda: UHPEConfig(arch="resnet18"),
}


@pytest.mark.parametrize("name", SMALL)
def test_networks_learn_a_batch(name):
    mx.random.seed(0)
    config = SMALL[name]()
    config = dataclasses.replace(config, preprocessing=config.preprocessing.at_size(64))
    model = build(config)
    images = mx.random.randint(0, 256, (8, 64, 64, 3)).astype(mx.uint8)
    poses = mx.random.uniform(-1, 1, (8, 3)) * mx.array([70.0, 40, 40])
    optimizer = optim.Adam(1e-3)
    step = nn.value_and_grad(model, lambda: model.loss(model(images), poses)[0])
    losses = []
    for _ in range(20):
        loss, gradients = step()
        optimizer.update(model, gradients)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", SMALL)
def test_exported_networks_give_the_same_angles(tmp_path, name):
    runtime = pytest.importorskip("onnxruntime", reason="runs ONNX by onnxruntime")
    mx.random.seed(1)
    config = SMALL[name]()
    config = dataclasses.replace(config, preprocessing=config.preprocessing.at_size(64))
    model = build(config)
    model.eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    expected = np.array(model.decode(model(mx.array(image))))
    export_onnx(model, tmp_path / "net.onnx")
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    found = session.run(None, {session.get_inputs()[0].name: image})[0]
    assert np.abs(wrap(found - expected)).max() < 0.1


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Config, {"arch": "vgg"}),
        (Config, {"arch": "resnet18", "deploy": True}),
        (Config, {"loss": "squared"}),
        (OpalConfig, {"rotation": "axis"}),
        (OpalConfig, {"epsilon": 20.0}),
        (OpalConfig, {"scale": 0.0}),
        (OpalConfig, {"preprocessing": Preprocessing(size=32)}),
        (UHPEConfig, {"arch": "resnet19"}),
        (UHPEConfig, {"axes": "biwi"}),
    ],
)
def test_impossible_configs_are_refused(make, values):
    with pytest.raises(InputError):
        make(**values)


def test_backbones_by_any_spelling():
    assert Config(arch="RepVGG-B1g2").arch == "repvgg_b1g2"
    assert Config(arch="MobileNetV3_Small").arch == "mobilenetv3_small"
