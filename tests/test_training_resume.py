"""Never losing work: kill, interrupt, full disk, and two trainings in one folder."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.disks import no_file_larger_than
from support.toy_training import toy_training

from mlx_headpose import InputError
from mlx_headpose.evaluation import evaluate
from mlx_headpose.files import atomic_path
from mlx_headpose.training.checkpoint import Workdir, find_state, read_run
from mlx_headpose.training.loop import Stopped

SCRIPT = Path(__file__).parent / "support" / "toy_training.py"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A training in another process, at the moment when its first step begins."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    return process


def state(folder: Path) -> dict[str, np.ndarray]:
    """Everything in the state file, weights and optimizer."""
    return {k: np.array(v) for k, v in mx.load(str(folder / "last.safetensors")).items()}


def assert_same_training(folder: Path, other: Path) -> None:
    """Both ended with bit-identical weights, optimizers, best snapshots and validation figures."""
    one, two = state(folder), state(other)
    assert one.keys() == two.keys()
    assert [name for name in one if not np.array_equal(one[name], two[name])] == []
    assert read_run(folder / "last.safetensors") == read_run(other / "last.safetensors")
    best = [mx.load(str(f / "best.safetensors")) for f in (folder, other)]
    assert all(mx.array_equal(value, best[1][name]) for name, value in best[0].items())
    logs = [[r for r in Workdir(f).read_log() if r["kind"] == "epoch"] for f in (folder, other)]
    figures = [[(r["epoch"], r["loss"], r["validation"]) for r in log] for log in logs]
    assert figures[0] == figures[1]


def test_killed_anywhere_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for delay in (0.05, 0.3, 0.6):
        process = start(killed, "--resume")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(killed, "--resume")
    process.communicate()
    assert process.returncode == 0
    toy_training(whole).run()
    assert_same_training(killed, whole)


def test_interrupted_in_a_validation_stops_within_a_batch_and_goes_on_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    training = toy_training(broken)
    inputs, batches = evaluate.sample_inputs, []

    def counted(*arguments: object) -> Iterator[object]:
        for batch in inputs(*arguments):
            batches.append(batch)
            if len(batches) == 1:
                signal.raise_signal(signal.SIGINT)
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "sample_inputs", counted)
        with pytest.raises(Stopped):
            training.run()
    assert len(batches) == 1
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    assert not (broken / "best.safetensors").exists()  # the epoch has no figures yet
    training = toy_training(broken)
    training.restore(broken / "last.safetensors")
    training.run()
    toy_training(whole).run()
    assert_same_training(broken, whole)


@pytest.mark.parametrize("step", [1, 2, 5, 9])
def test_interrupted_after_any_step_goes_on_the_same(tmp_path: Path, step: int) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    training = toy_training(broken)
    read = training._read
    count = 0

    def read_then_interrupt(*arguments: object) -> bool:
        nonlocal count
        count += 1
        if count == step:
            training.interrupt.wanted = True
        return read(*arguments)

    training._read = read_then_interrupt
    with pytest.raises(Stopped):
        training.run()
    assert step < training.progress.epoch * 6 + training.progress.step <= step + 2
    again = toy_training(broken)
    again.restore(again.workdir.state)
    again.run()
    toy_training(whole).run()
    assert_same_training(broken, whole)


def test_other_batches_begin_the_epoch_again(tmp_path: Path) -> None:
    training = toy_training(tmp_path, save_every=1)
    read = training._read

    def read_then_interrupt(*arguments: object) -> bool:
        training.interrupt.wanted = True
        return read(*arguments)

    training._read = read_then_interrupt
    with pytest.raises(Stopped):
        training.run()
    assert training.progress.step > 0
    same = toy_training(tmp_path)
    same.restore(same.workdir.state)
    assert same.progress.step == training.progress.step
    for changes in ({"batch_size": 16}, {"seed": 5}):
        other = toy_training(tmp_path, **changes)
        other.restore(other.workdir.state)
        assert (other.progress.step, other.progress.sums) == (0, {})


def test_another_validation_set_has_a_best_of_its_own(tmp_path: Path) -> None:
    toy_training(tmp_path, epochs=1).run()
    same = toy_training(tmp_path)
    same.restore(same.workdir.state)
    assert same.progress.best_epoch == 1
    same.validation_set.select(np.arange(16) < 8)
    other = toy_training(tmp_path, validation=same.validation_set)
    other.restore(other.workdir.state)
    assert (other.progress.best_epoch, other.progress.best_mae) == (0, float("inf"))
    other.run()
    assert other.progress.best_epoch > 1


def test_ctrl_c_saves(tmp_path: Path) -> None:
    process = start(tmp_path / "run", '{"epochs": 500}')
    file = tmp_path / "run" / "last.safetensors"
    while not file.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output.endswith("stopped\n")
    assert read_run(file)[2].epoch < 500


def test_a_full_disk_is_one_sentence_and_leaves_the_last_state_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    toy_training(folder, epochs=1).run()
    before = (folder / "last.safetensors").read_bytes()
    training = toy_training(folder)
    training.restore(training.workdir.state)
    with no_file_larger_than(5000), pytest.raises(InputError, match=r"safetensors: .*disk is full"):
        training.run()
    assert (folder / "last.safetensors").read_bytes() == before
    assert not list(folder.rglob(".*.part*"))


def test_what_a_killed_training_left_half_written_goes_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    workdir = Workdir(folder)
    with workdir.locked():
        toy_training(folder, epochs=1).run()
    before = {path.name for path in folder.rglob("*")}
    for path in (workdir.state, workdir.best, workdir.snapshot(2), workdir.log):
        atomic_path(path).__enter__().write_bytes(b"half")  # and never left
    assert len(list(folder.rglob(".*.part*"))) == 4
    with workdir.locked():
        assert {path.name for path in folder.rglob("*")} == before


def test_a_second_training_in_the_same_folder_refuses(tmp_path: Path) -> None:
    with (
        Workdir(tmp_path).locked(),
        pytest.raises(InputError, match="another training is writing there"),
        Workdir(tmp_path).locked(),
    ):
        pass
    with Workdir(tmp_path).locked():
        pass


def test_the_log_is_rewound_to_where_training_goes_on(tmp_path: Path) -> None:
    training = toy_training(tmp_path / "run", epochs=2)
    training.run()
    workdir = training.workdir
    with workdir.log.open("a") as file:
        file.write('{"kind": "steps", "epoch": 3, "step": 4}\n{"kind": "epoch", "epo')
    again = toy_training(tmp_path / "run")
    again.restore(workdir.state)
    again.run()
    lines = [json.loads(line) for line in workdir.log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    toy_training(tmp_path / "run", epochs=1).run()
    other = toy_training(tmp_path / "run", optimizer="sgd")
    with pytest.raises(InputError, match="another optimizer"):
        other.restore(other.workdir.state)


def test_finding_the_state_that_a_user_means(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    toy_training(folder, epochs=2).run()
    state_file = folder / "last.safetensors"
    for source in (folder, state_file, folder / "snapshots", folder / "snapshots/2.safetensors"):
        assert find_state(source) == state_file
    with pytest.raises(InputError, match=re.escape("1.safetensors: holds weights only")):
        find_state(folder / "snapshots" / "1.safetensors")
    with pytest.raises(InputError, match="no training to go on with"):
        find_state(tmp_path)


def test_weights_are_finite_in_the_state(tmp_path: Path) -> None:
    training = toy_training(tmp_path / "run", epochs=1)
    training.run()
    assert all(np.isfinite(v).all() for v in state(tmp_path / "run").values())
    weights = {f"model.{k}": v for k, v in tree_flatten(training.model.parameters())}
    assert dataclasses.asdict(training.progress)["epoch"] == 1
    assert all(mx.array_equal(v, mx.array(state(tmp_path / "run")[k])) for k, v in weights.items())
