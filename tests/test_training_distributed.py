"""Two processes on one machine, as `mlx.launch` starts them, against one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.toy_training import ToySet, toy_model, toy_training

from mlx_headpose.data.loader import Loader
from mlx_headpose.training.checkpoint import Workdir
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.validation import validate

SCRIPT = Path(__file__).parent / "support" / "toy_training.py"
LAUNCH = Path(sys.executable).with_name("mlx.launch")


def free_ports() -> int:
    """The first of a few neighbouring ports, likely free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return min(one.getsockname()[1], 65000)


def launch(folder: Path, **changes: object) -> None:
    """Train the toy network in two processes."""
    if not LAUNCH.exists():
        pytest.skip("needs mlx.launch beside the Python interpreter")
    command = [LAUNCH, "-n", "2", "--backend", "ring", "--starting-port", str(free_ports())]
    command += [sys.executable, SCRIPT, folder, json.dumps(changes)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)


def weights(folder: Path) -> dict[str, np.ndarray]:
    """The newest network of a training."""
    tensors = mx.load(str(folder / "last.safetensors"))
    return {name: np.array(v) for name, v in tensors.items() if name.startswith("model.")}


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Euclidean distance of two networks."""
    return float(np.sqrt(sum(((one[k] - other[k]) ** 2).sum() for k in one)))


def test_two_processes_of_batch_8_are_one_of_16(tmp_path: Path) -> None:
    # 48 samples are 3 steps of 16, so 4 epochs are 12 steps.
    options = {"norm": "group", "optimizer": "sgd", "momentum": 0.0, "lr": 0.01, "augment": 0.0}
    options |= {"epochs": 4, "schedule": "constant"}
    launch(tmp_path / "two", batch_size=8, **options)
    toy_training(tmp_path / "one", batch_size=16, **options).run()
    start = dict(tree_flatten(toy_model("group").parameters()))
    first = {f"model.{name}": np.array(value) for name, value in start.items()}
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = distance(one, first)
    assert moved > 0.01
    assert distance(one, two) <= 1e-3 * moved
    logs = [Workdir(tmp_path / name).read_log() for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1]) == 4
    for alone, together in zip(*logs, strict=True):
        assert alone["validation"]["mae"] == pytest.approx(together["validation"]["mae"], rel=1e-3)


def test_batch_norm_statistics_are_averaged(tmp_path: Path) -> None:
    launch(tmp_path / "two", epochs=1, lr=1e-12, augment=0.0)
    toy_training(tmp_path / "one", epochs=1, lr=1e-12, augment=0.0, batch_size=16).run()
    # With weights that stand still, the mean over the halves is the mean over the whole.
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    name = "model.backbone.norm.running_mean"
    np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6)


def test_a_process_without_samples_to_validate_adds_nothing() -> None:
    sums = []

    def total(part: mx.array) -> mx.array:
        sums.append(np.array(part))
        return mx.array(sums[0])

    options = TrainingOptions(batch_size=8)
    found = [
        validate(toy_model(), ToySet(1), options, SimpleNamespace(rank=rank, size=2, total=total))
        for rank in range(2)
    ]
    assert sums[0][0] == 1
    assert not sums[1].any()
    assert found[0] == found[1]


def test_shards_do_not_overlap_and_miss_nothing() -> None:
    inputs = toy_model().config.inputs
    shards = [
        Loader(ToySet(), inputs, batch_size=4, rank=rank, ranks=3).order(epoch=2)
        for rank in range(3)
    ]
    assert sorted(np.concatenate([s.reshape(-1) for s in shards])) == list(range(48))
    together = Loader(ToySet(), inputs, batch_size=12).order(epoch=2)
    assert np.array_equal(np.concatenate(shards, axis=1), together)
