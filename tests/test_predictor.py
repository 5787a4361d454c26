"""Networks as they predict: folded, padded, decoded on the host, and right on a GPU's path."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_headpose.data import open_dataset
from mlx_headpose.methods import METHODS, build, config_class, config_from_dict
from mlx_headpose.nn import BatchNorm, GroupNorm
from mlx_headpose.pose import angle_errors
from mlx_headpose.predictor import FLOAT16, Pending, Predictor, padded_size
from mlx_headpose.quantization import folded, in_dtype, quantize_weights
from mlx_headpose.quantization.tree import sharing_copy_of
from mlx_headpose.weights import BUNDLED, from_pretrained, save_pretrained

SMALL = {"preprocessing": {"size": 64}}
# Every kind of layer and head that a method builds, none of them deep.
NETWORKS: list[dict[str, Any]] = [
    *({"model_type": "hopenet", "arch": a, **SMALL} for a in ("resnet18", "mobilenetv2")),
    {"model_type": "hopenet", "arch": "resnet50", **SMALL},
    {"model_type": "hopenet", "arch": "squeezenet1_1", **SMALL},
    {"model_type": "hopenet", "arch": "resnet18", "norm": "group", **SMALL},
    {"model_type": "nlml"},
    *({"model_type": "opal", "rotation": r, **SMALL} for r in ("euler", "quaternion", "6d")),
    *({"model_type": "pyramid", "form": form, **SMALL} for form in ("pyramid", "pyramid_pfas")),
    {"model_type": "rotation9d"},
    {"model_type": "semiuhpe", "arch": "resnet50", **SMALL},
    *({"model_type": "sixdrepnet", "arch": a, **SMALL} for a in ("repvgg_a0", "mobilenetv3_small")),
    {"model_type": "tokenhpe", "width": 96, "depth": 2, "backbone_heads": 2, **SMALL},
    {"model_type": "whenet", **SMALL},
]


def name(values: dict[str, Any]) -> str:
    return "-".join(
        str(values[k]) for k in ("model_type", "arch", "form", "norm", "rotation") if k in values
    )


def trained(values: dict[str, Any]) -> Any:
    """A network in evaluation mode whose norms have seen something."""
    mx.random.seed(0)
    model = build(config_from_dict(values))
    rng = np.random.default_rng(0)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            count = module.num_features
            module.running_mean = mx.array(rng.normal(0, 0.2, count).astype(np.float32))
            module.running_var = mx.array(rng.uniform(0.5, 2, count).astype(np.float32))
            module.weight = mx.array(rng.uniform(0.5, 1.5, count).astype(np.float32))
            module.bias = mx.array(rng.normal(0, 0.2, count).astype(np.float32))
    model.eval()
    mx.eval(model.parameters())
    return model


def test_every_method_is_here() -> None:
    assert {values["model_type"] for values in NETWORKS} == set(METHODS)


@pytest.mark.parametrize("values", NETWORKS, ids=name)
def test_folded_networks_answer_as_before_and_decode_on_the_host(values: dict[str, Any]) -> None:
    model = trained(values)
    inputs = model.config.inputs.example(2)
    outputs = model(inputs)
    network = folded(model)
    assert not [m for m in network.modules() if isinstance(m, BatchNorm)]
    for got, want in zip(network(inputs), outputs, strict=True):
        scale = float(mx.abs(want).max())
        np.testing.assert_allclose(np.array(got), np.array(want), atol=2e-3 * scale, rtol=0)
    if model.head.classifies:  # random ones say nothing, and rounding decides
        outputs = tuple(20 * output for output in outputs)
    poses, confidence = Pending(outputs, 2, model.head).result()
    want = np.array(model.decode(outputs), np.float64)
    assert isinstance(poses, np.ndarray)
    assert np.abs((poses - want + 180) % 360 - 180).max() < 1e-4 + near_a_pole(want)
    theirs = model.confidence(outputs)
    assert (confidence is None) == (theirs is None)
    if theirs is not None:
        assert isinstance(confidence, np.ndarray)
        np.testing.assert_allclose(confidence, np.array(theirs), atol=1e-5)


def near_a_pole(poses: np.ndarray) -> float:
    """What float32 adds to pitch and roll where yaw nears ±90° and they turn about one axis."""
    return 1e-5 / max(float(np.cos(np.radians(poses[:, 0])).__abs__().min()), 1e-3)


def test_the_network_that_is_given_stays_as_it_is(tmp_path) -> None:
    model = from_pretrained(BUNDLED)
    before = {k: np.array(v) for k, v in tree_flatten(model.parameters())}
    model.train()
    predictor = Predictor(model)
    predictor(np.array(model.config.inputs.example(2)))
    assert model.training
    assert not predictor.network.training
    after = dict(tree_flatten(model.parameters()))
    assert set(after) == set(before)
    for key, value in before.items():
        np.testing.assert_array_equal(np.array(after[key]), value)
    model.eval()
    save_pretrained(model, tmp_path / "again.safetensors")
    assert from_pretrained(tmp_path / "again.safetensors").config == model.config
    trainable = len(tree_flatten(model.trainable_parameters()))
    sharing_copy_of(model).freeze()
    assert len(tree_flatten(model.trainable_parameters())) == trainable


def test_quantised_networks_predict() -> None:
    model = trained({"model_type": "hopenet", "arch": "resnet18", **SMALL})
    inputs = np.array(model.config.inputs.example(4))
    small = quantize_weights(model, 8, inputs)
    want = np.array(small.decode(small(mx.array(inputs))))
    np.testing.assert_allclose(Predictor(small)(inputs)[0], want, atol=1e-3)


def test_a_group_norm_stays() -> None:
    model = trained({"model_type": "hopenet", "arch": "resnet18", "norm": "group", **SMALL})
    assert any(isinstance(m, GroupNorm) for m in folded(model).modules())


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16)])
def test_batches_are_padded_to_powers_of_two(count: int, size: int) -> None:
    assert padded_size(count) == size


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The path of a GPU; shapes for which the compiler is asked."""
    shapes = []

    def compiled(function: Any) -> Any:
        def run(x: mx.array) -> Any:
            shapes.append(x.shape)
            return function(x)

        return run

    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "compile", compiled)
    return shapes


@pytest.mark.parametrize("method", ["hopenet", "nlml", "rotation9d"])
def test_on_a_gpu_every_number_of_heads_gets_its_own_answer(method: str, on_a_gpu) -> None:
    values = next(v for v in NETWORKS if v["model_type"] == method)
    model = trained(values)
    inputs = np.array(model.config.inputs.example(5))
    predictor = Predictor(model)
    whole, _ = predictor(inputs)
    assert whole.shape == (5, 3)
    for count in (1, 3):
        part, confidence = predictor(inputs[:count])
        assert len(part) == count
        assert confidence is None or len(confidence) == count
        # float16 rounds a batch like its samples, up to the order of sums.
        tolerance = 1.0 if predictor.dtype == mx.float16 else 0.05
        assert np.abs((part - whole[:count] + 180) % 360 - 180).max() < tolerance
    assert [shape[0] for shape in on_a_gpu] == [8, 1, 4]


def test_float16_is_for_gpus_and_measured_methods_alone(monkeypatch) -> None:
    model = from_pretrained(BUNDLED)
    assert Predictor(model).dtype == mx.float32
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    assert Predictor(model).dtype == mx.float32  # as conftest.py asks for
    monkeypatch.delenv(FLOAT16)
    predictor = Predictor(model)
    assert predictor.dtype == (mx.float16 if model.config.float16 else mx.float32)
    assert all(v.dtype == predictor.dtype for _, v in tree_flatten(predictor.network.parameters()))
    assert all(v.dtype == mx.float32 for _, v in tree_flatten(model.parameters()))


def test_float16_moves_the_bundled_network_less_than_a_twentieth_of_a_degree(shared) -> None:
    model = from_pretrained(BUNDLED)
    assert model.config.float16
    folder = shared / "data" / "AFLW2000"
    dataset = open_dataset("AFLW2000", folder, crop=model.config.preprocessing.crop)
    reads = model.config.inputs
    inputs = mx.array(np.stack([reads.sample(dataset, i) for i in range(0, len(dataset), 40)]))
    plain = folded(model)
    half = in_dtype(plain, mx.float16)
    poses = [
        np.array(model.decode(outputs))
        for outputs in (plain(inputs), half(reads.normalize(inputs).astype(mx.float16)))
    ]
    assert angle_errors(*poses).max() < 0.05


def test_landmark_networks_keep_float32() -> None:
    assert not config_class("nlml").float16


def test_a_frame_waits_once(monkeypatch) -> None:
    waits = []
    plain = mx.eval
    predictor = Predictor(from_pretrained(BUNDLED))
    monkeypatch.setattr(mx, "eval", lambda *arrays: (waits.append(1), plain(*arrays)))
    predictor(np.zeros((2, 64, 64, 3), np.uint8))
    assert waits == [1]
