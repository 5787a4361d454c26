"""Training: what it learns, what it writes, and how it stops."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.toy_training import toy_training

from mlx_headpose import InputError
from mlx_headpose.training.curves import draw_curves
from mlx_headpose.training.live import TensorBoard


def test_training_learns_and_writes_what_it_promises(tmp_path: Path) -> None:
    training = toy_training(tmp_path / "run", epochs=12, lr=0.01, augment=0.2, flip=False)
    progress = training.run()
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} == {
        "best.safetensors",
        "curves.png",
        "last.safetensors",
        "snapshots",
        "training.log",
    }
    assert sorted(int(p.stem) for p in (folder / "snapshots").iterdir()) == list(range(1, 13))
    epochs = [json.loads(line) for line in (folder / "training.log").read_text().splitlines()]
    assert [e["epoch"] for e in epochs] == list(range(1, 13))
    best = min(epochs, key=lambda e: e["validation"]["mae"])
    assert (progress.best_epoch, progress.best_mae) == (best["epoch"], best["validation"]["mae"])
    snapshot = mx.load(str(folder / "snapshots" / f"{progress.best_epoch}.safetensors"))
    for name, value in mx.load(str(folder / "best.safetensors")).items():
        assert mx.array_equal(value, snapshot[name])
    # Answering the mean is wrong by about 20°.
    assert progress.best_mae < 12


def test_a_loss_that_is_not_a_number_stops_with_the_names(tmp_path: Path) -> None:
    training = toy_training(tmp_path / "run", lr=1e38, optimizer="sgd")
    with pytest.raises(InputError, match=r"the loss is (nan|inf) .*picture\d+, picture\d+"):
        training.run()


def test_frozen_parts_stay_and_their_norms_keep_their_statistics(tmp_path: Path) -> None:
    training = toy_training(tmp_path / "run", epochs=1, freeze=("backbone.conv1", "backbone.norm"))
    before = {k: np.array(v) for k, v in tree_flatten(training.model.parameters())}
    training.run()
    after = dict(tree_flatten(training.model.parameters()))
    same = {k for k, v in before.items() if np.array_equal(v, np.array(after[k]))}
    assert same == {k for k in before if k.startswith(("backbone.conv1", "backbone.norm"))}


def test_freezing_what_is_not_there_names_what_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such module.*backbone\.conv1"):
        toy_training(tmp_path / "run", freeze=("backbone.stem9",))


def test_too_large_a_batch_is_named(tmp_path: Path) -> None:
    training = toy_training(tmp_path / "run")
    training.optimizer.set_learning_rate = _out_of_memory
    with pytest.raises(InputError, match=r"out of memory with --batch_size 8; try --batch_size 4"):
        training.run()


def _out_of_memory(rate: float) -> None:
    raise RuntimeError("[malloc] Unable to allocate 68719476736 bytes.")


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    toy_training(tmp_path / "run", epochs=1, tensorboard=True).run()
    events = list((tmp_path / "run").glob("events.out.tfevents*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    assert b"epoch/loss" in content
    assert b"epoch/loss/yaw" in content


def test_tensorboard_keeps_parts_of_the_loss_and_validation_apart(tmp_path, monkeypatch):
    written: dict[str, float] = {}

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            assert tag not in written
            written[tag] = value

        def flush(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    record = {"kind": "epoch", "loss": 1.0, "mae": 2.0, "lr": 0.1, "parts": {"yaw": 3.0}}
    TensorBoard(tmp_path).write({**record, "validation": {"yaw": 4.0, "mae": 5.0}}, 1)
    assert written == {
        "epoch/loss": 1.0,
        "epoch/training MAE": 2.0,
        "epoch/lr": 0.1,
        "epoch/loss/yaw": 3.0,
        "epoch/validation/yaw": 4.0,
        "epoch/validation/mae": 5.0,
    }
    TensorBoard(tmp_path, "missed").write({**record, "kind": "steps"}, 1)
    assert written["steps/training missed"] == 2.0


def test_curves_of_a_training_that_went_on_with_another_loss(tmp_path):
    pytest.importorskip("matplotlib", reason="draws curves")
    validation = {"yaw": 1.0, "pitch": 2.0, "roll": 3.0, "mae": 2.0}
    records = [
        {"kind": "epoch", "epoch": i, "loss": 2.0 / i, "parts": parts, "validation": validation}
        for i, parts in enumerate(({"yaw": 1.0}, {"landmarks": 0.5, "yaw": 0.5}), 1)
    ]
    draw_curves(records, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
