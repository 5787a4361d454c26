"""Published networks against PyTorch's float64, without PyTorch and without data.

`goldens/make_networks.py` wrote the values: from a checkpoint under the published names, whose
numbers follow from these names, come each network's outputs, angles and losses. They go through the
converter here, and so prove the map of names as well.
"""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.converted import network_of
from support.seeded import images, numbers

from mlx_headpose.convert import convert_tensors
from mlx_headpose.core.estimator import Estimator
from mlx_headpose.detection.yunet import YuNet, decode
from mlx_headpose.pose import wrap
from mlx_headpose.weights import load_strictly

FILE = Path(__file__).with_name("goldens") / "networks.npz"
# Published files of several owners have the same names; these are of the one that is meant.
PROTOCOLS = {"semiuhpe_resnet50": "semiuhpe"}
ALPHA = {"hopenet": 1.0, "whenet": 1e-4}  # weight of the squared error


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return dict(file)


def names() -> list[str]:
    with np.load(FILE) as file:
        return sorted({name.split("/")[0] for name in file.files} - {"true"})


@pytest.mark.parametrize("name", names())
def test_equals_pytorch(name: str, golden: dict[str, np.ndarray]) -> None:
    values = {
        key.split("/")[1]: value for key, value in golden.items() if key.startswith(f"{name}/")
    }
    tensors = {
        tensor: numbers(tensor, tuple(shape))
        for tensor, shape in json.loads(str(values["tensors"]))
    }
    conversion = convert_tensors(tensors, name, protocol=PROTOCOLS.get(name))
    assert not conversion.left_out
    x = images(name, len(golden["true"]), int(values["size"]))
    if name == "yunet":
        network = YuNet()
        weights = {key: mx.array(value) for key, value in conversion.tensors.items()}
        load_strictly(network, weights, name)
        outputs = tuple(network(mx.array(x)))
        assert_near(decode(list(outputs)), values["pose"], 1e-3)
    else:
        network = network_of(conversion)
        fed = mx.array(x.reshape(len(x), -1)[:, :1404] if name == "nlml" else x)
        outputs = network(fed)
        if "pose" in values:
            difference = wrap(np.array(network.decode(outputs)) - values["pose"])
            assert np.abs(difference).max() < 0.01  # degrees
        check_loss(network, outputs, golden["true"], values)
    assert len(outputs) == sum(key.startswith("output") for key in values)
    for i, output in enumerate(outputs):
        assert_near(output, values[f"output{i}"], 1e-4)


def assert_near(found: mx.array, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest value."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=tolerance * largest)


def check_loss(
    network: Estimator, outputs: tuple[mx.array, ...], true: np.ndarray, values: dict
) -> None:
    if "entropy" in values:
        alpha = ALPHA[network.config.model_type]
        expected = values["entropy"] + alpha * values["square"]
    elif "loss" in values:
        expected = values["loss"]
    else:
        return
    loss, _ = network.loss(outputs, mx.array(true.astype(np.float32)))
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-4)
