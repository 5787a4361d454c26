"""Graphs for GPUs: every operation is there on each, and there are few of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.gpu_operations import DTYPES, LACKING, VERSION
from support.graphs import hollow, launches, operations, pretended_gpu, traced

from mlx_headpose.data.augment import UNCHANGED
from mlx_headpose.export.mlxfn import pose_function
from mlx_headpose.methods import METHODS, build, config_from_dict
from mlx_headpose.predictor import Predictor
from mlx_headpose.quantization import quantize_int8, quantize_weights
from mlx_headpose.training.optimizer import Optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import make_step

# Most kernels that a GPU may launch for a picture of one head, decoding not counted, which is the
# host's: what it takes today. A change that needs more has to say why.
LIMITS: dict[str, tuple[dict[str, Any], int]] = {
    "rotation9d": ({"model_type": "rotation9d"}, 45),
    "rotation9d-mirrored": ({"model_type": "rotation9d", "mirrored": True}, 45),
    "rotation9d-mobilenetv2": ({"model_type": "rotation9d", "arch": "mobilenetv2"}, 119),
    "squeezenet1_1": ({"model_type": "hopenet", "arch": "squeezenet1_1"}, 82),
    "resnet50": ({"model_type": "hopenet"}, 110),
    "mobilenetv2": ({"model_type": "hopenet", "arch": "mobilenetv2"}, 110),
    "resnet50-group": ({"model_type": "hopenet", "norm": "group"}, 640),
    "nlml": ({"model_type": "nlml"}, 44),
    "opal": ({"model_type": "opal"}, 117),
    "pyramid": ({"model_type": "pyramid"}, 302),
    "semiuhpe": ({"model_type": "semiuhpe"}, 112),
    "sixdrepnet": ({"model_type": "sixdrepnet"}, 76),
    "tokenhpe": ({"model_type": "tokenhpe"}, 369),
    "whenet": ({"model_type": "whenet"}, 200),
}
SMALL = {"preprocessing": {"size": 64}}
TOKENS = {"width": 96, "depth": 2, "backbone_heads": 2}
GRAPHS = {
    "hopenet": {"arch": "resnet18", **SMALL},
    "nlml": {},
    "opal": SMALL,
    "pyramid": SMALL,
    "rotation9d": {"mirrored": True},
    "semiuhpe": {"arch": "resnet50", **SMALL},
    "sixdrepnet": {"arch": "resnet18", **SMALL},
    "tokenhpe": {**TOKENS, **SMALL},
    "whenet": SMALL,
}


def test_the_list_is_of_the_installed_mlx() -> None:
    assert version("mlx") == VERSION, "read MLX's back ends again, and say so in gpu_operations.py"


def test_every_method_is_here() -> None:
    assert set(GRAPHS) == set(METHODS)
    assert {values["model_type"] for values, _ in LIMITS.values()} == set(METHODS)


def require_gpus(names: Any, dtypes: set[str]) -> None:
    for back_end, lacking in LACKING.items():
        assert not lacking & set(names), f"{back_end} lacks these"
    assert not DTYPES & dtypes


def network(method: str) -> Any:
    model = build(config_from_dict({"model_type": method, **GRAPHS[method]}))
    model.eval()
    return model


def prepared(model: Any) -> Predictor:
    predictor = Predictor(model)
    hollow(predictor.network)
    return predictor


@pytest.fixture
def compiler() -> Iterator[None]:
    """MLX's compiler, which the suite's pretended GPU goes without; no graph here is computed."""
    mx.enable_compile()
    yield
    if os.environ.get("MLX_HEADPOSE_TEST_DEVICE") == "gpu":
        mx.disable_compile()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", LIMITS)
def test_launches_never_creep_up(name: str) -> None:
    values, limit = LIMITS[name]
    model = build(config_from_dict(values))
    with pretended_gpu():
        predictor = prepared(model)
        inputs = model.config.inputs.example(1)
        found = operations(*predictor._run(inputs))
        plain = operations(*predictor.compute(inputs))
    assert launches(found) <= limit, found
    assert launches(found) < launches(plain)


def test_the_bundled_network_launches_fewer_than_a_hundred() -> None:
    assert LIMITS["rotation9d-mirrored"][1] < 100


@pytest.mark.parametrize("method", METHODS)
def test_inference_and_export_run_on_every_gpu(method: str) -> None:
    model = network(method)
    with pretended_gpu():
        predictor = prepared(model)
        inputs = model.config.inputs.example(1)
        require_gpus(*traced(lambda x: list(predictor.compute(x)), inputs))
        hollow(model)
        require_gpus(*traced(pose_function(model), inputs))


@pytest.mark.parametrize("method", METHODS)
def test_training_runs_on_every_gpu(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(method)
    model.train()
    monkeypatch.setattr(mx, "compile", lambda function, **_: function)  # it hides names
    options = TrainingOptions(optimizer="adamw", clip_norm=1.0, augment=1.0, bfloat16=True)
    with pretended_gpu():
        optimizer = Optimizer(model, options)
        step = make_step(model, optimizer, options, None)
        poses, changes = mx.zeros((4, 3)), mx.array(np.tile(UNCHANGED, (4, 1)))
        result = step(model.config.inputs.example(4), poses, changes)
        state = [v for _, v in tree_flatten((model.state, optimizer.state))]
        arrays = [v for v in state if isinstance(v, mx.array)]
        names = operations(result.loss, result.error, *arrays)
    require_gpus(names, {str(v.dtype).removeprefix("mlx.core.") for v in arrays})
    gc.collect()


@pytest.mark.parametrize("bits", [8, 4, None])
def test_quantised_networks_run_on_every_gpu(bits: int | None) -> None:
    model = build(config_from_dict({"model_type": "rotation9d"}))
    inputs = model.config.inputs.example(2)
    pixels = np.array(inputs)
    small = quantize_weights(model, bits, pixels) if bits else quantize_int8(model, pixels)
    with pretended_gpu():
        require_gpus(*traced(lambda x: list(Predictor(small).compute(x)), inputs))


def test_the_walk_sees_what_gpus_lack() -> None:
    names, dtypes = traced(
        lambda x: [mx.linalg.inv(x, stream=mx.cpu).astype(mx.float64, stream=mx.cpu)], mx.eye(2)
    )
    with pytest.raises(AssertionError, match="lacks"):
        require_gpus(names, set())
    with pytest.raises(AssertionError):
        require_gpus({}, dtypes)
