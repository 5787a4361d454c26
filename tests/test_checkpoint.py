"""A training on disk, without training: states, snapshots, the log, the lock."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from support.toy_training import toy_model

from mlx_headpose import InputError
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.training.checkpoint import (
    STATE,
    Progress,
    Workdir,
    find_state,
    is_state,
    load_state,
    read_run,
)
from mlx_headpose.training.optimizer import Optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.weights import save_tensors

PROGRESS = Progress(epoch=3, step=5, best_epoch=2, best_mae=4.5, sums={"loss": 1.5, "steps": 5.0})
RUN = {"arguments": {"lr": 0.1}, "pretrained": False}


def make(seed: int = 0, **options: object):
    model = toy_model(seed=seed)
    return model, Optimizer(model, TrainingOptions(**options))


def stepped(**options: object):
    """A network and an optimizer that have made a step, so that no moment is zero."""
    model, optimizer = make(**options)
    optimizer.update(model, tree_map(mx.ones_like, model.trainable_parameters()))
    mx.eval(model.parameters(), optimizer.state)
    return model, optimizer


@pytest.fixture
def saved(tmp_path):
    model, optimizer = stepped()
    workdir = Workdir(tmp_path / "workdirs_a")
    workdir.save_state(model, optimizer, PROGRESS, RUN)
    return workdir, model, optimizer


def rewritten(workdir: Workdir, **changes: object) -> Path:
    """The state file with other values in its config."""
    config = read_config(workdir.state)
    for name, value in changes.items():
        if value is None:
            del config[name]
        else:
            config[name] = value
    save_tensors(workdir.state, load_tensors(workdir.state), config)
    return workdir.state


def test_names(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.state == tmp_path / "last.safetensors"
    assert workdir.best == tmp_path / "best.safetensors"
    assert workdir.log == tmp_path / "training.log"
    assert workdir.curves == tmp_path / "curves.png"
    assert workdir.snapshot(7) == tmp_path / "snapshots" / "7.safetensors"


def test_a_training_begins_at_nothing():
    assert asdict(Progress()) == {
        "epoch": 0,
        "step": 0,
        "best_epoch": 0,
        "best_mae": float("inf"),
        "sums": {},
        "batches": "",
        "validation": "",
    }


def test_a_state_gives_everything_back(saved):
    workdir, model, optimizer = saved
    config, run, progress = read_run(workdir.state)
    assert run == RUN
    assert progress == PROGRESS
    assert config["model_type"] == "toy"
    other, others = make(seed=1)
    assert load_state(workdir.state, other, others) == PROGRESS
    for mine, theirs in ((model.parameters(), other.parameters()), (optimizer.state, others.state)):
        one, two = dict(tree_flatten(mine)), dict(tree_flatten(theirs))
        assert one.keys() == two.keys()
        assert all(np.array_equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {"head_lr_scale": 3.0}])
def test_a_state_of_another_optimizer_is_refused_and_changes_no_moment(saved, options):
    workdir, _, _ = saved
    model, optimizer = make(seed=1, **options)
    before = dict(tree_flatten(optimizer.state))
    with pytest.raises(InputError, match="another optimizer or other frozen parts"):
        load_state(workdir.state, model, optimizer)
    assert dict(tree_flatten(optimizer.state)).keys() == before.keys()


def test_a_state_of_another_network_names_what_is_amiss(saved):
    workdir, _, _ = saved
    other = toy_model("group")
    with pytest.raises(InputError, match=r"backbone\.norm\.running_mean is not in the network"):
        load_state(workdir.state, other, Optimizer(other, TrainingOptions()))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "toy"},
        {"progress": None},
        {"run": None},
        {"model": None},
        {"run": [1]},
        {"model": [1]},
        {"progress": {**asdict(PROGRESS), "batches": 1}},
        {"progress": {**asdict(PROGRESS), "epoch": -1}},
        {"progress": {**asdict(PROGRESS), "step": 1.5}},
        {"progress": {**asdict(PROGRESS), "best_epoch": 1 << 53}},
        {"progress": {**asdict(PROGRESS), "best_mae": "low"}},
        {"progress": {**asdict(PROGRESS), "sums": {"loss": "low"}}},
        {"progress": {**asdict(PROGRESS), "sums": [1.0]}},
        {"progress": {**asdict(PROGRESS), "foreign": 1}},
        {"progress": 3},
    ],
)
def test_a_foreign_state_is_one_sentence(saved, changes):
    state = rewritten(saved[0], **changes)
    with pytest.raises(InputError, match="holds no training to go on with"):
        read_run(state)


@pytest.mark.parametrize("value", [0, (1 << 53) - 1])
def test_the_largest_and_smallest_counts_are_read(saved, value):
    state = rewritten(saved[0], progress={**asdict(PROGRESS), "epoch": value})
    assert read_run(state)[2].epoch == value


def test_only_states_are_states(saved, tmp_path):
    workdir, model, _ = saved
    assert is_state(workdir.state)
    assert read_config(workdir.state)["model_type"] == STATE
    workdir.save_snapshot(model, 1, best=False)
    assert not is_state(workdir.snapshot(1))
    assert not is_state(tmp_path / "nothing.safetensors")
    assert not is_state(tmp_path)


def test_snapshots_and_the_best_of_them(saved):
    workdir, model, _ = saved
    workdir.save_snapshot(model, 1, best=False)
    assert not workdir.best.exists()
    workdir.save_snapshot(model, 2, best=True)
    assert workdir.best.read_bytes() == workdir.snapshot(2).read_bytes()
    weights = dict(tree_flatten(model.parameters()))
    assert load_tensors(workdir.best).keys() == weights.keys()


def test_the_state_that_a_user_means(saved, tmp_path):
    workdir, model, _ = saved
    for epoch in (1, 3):
        workdir.save_snapshot(model, epoch, best=epoch == 1)
    for source in (workdir.folder, workdir.state, workdir.best, workdir.snapshot(3)):
        assert find_state(source) == workdir.state
    assert find_state(workdir.folder / "snapshots") == workdir.state
    with pytest.raises(InputError, match=r"1\.safetensors: holds weights only, .* at epoch 3"):
        find_state(workdir.snapshot(1))
    for source in (tmp_path, tmp_path / "nothing.safetensors"):
        with pytest.raises(InputError, match="no training to go on with is there"):
            find_state(source)


def log_line(epoch: int, step: int = 0, kind: str = "steps") -> dict[str, object]:
    return {"kind": kind, "epoch": epoch, "step": step}


def test_the_log_keeps_what_came_before_the_state(tmp_path):
    workdir = Workdir(tmp_path)
    before = [
        log_line(1, 50),
        log_line(1, 90, "epoch"),
        log_line(3, 90, "epoch"),
        log_line(4, 4),
        log_line(4, 5),
    ]
    after = [log_line(4, 6), log_line(4, 3, "epoch"), log_line(5, 1), log_line(6, 0, "epoch")]
    for record in before + after:
        workdir.append_log(record)
    assert workdir.read_log() == before + after
    workdir.rewind_log(PROGRESS)  # three epochs and five steps of the fourth
    assert workdir.read_log() == before
    assert workdir.log.read_text().endswith("}\n")


def test_the_log_of_nothing_is_empty(tmp_path):
    workdir = Workdir(tmp_path / "new")
    assert workdir.read_log() == []
    workdir.rewind_log(Progress())
    assert workdir.log.read_text() == ""


def test_damaged_lines_of_the_log_are_left_out(tmp_path):
    workdir = Workdir(tmp_path)
    good = log_line(1, 2)
    workdir.log.write_bytes(b'{"half\n[1]\n\xff\n' + json.dumps(good).encode() + b'\n{"kind": "st')
    assert workdir.read_log() == [good]
    workdir.rewind_log(PROGRESS)
    assert workdir.log.read_text() == json.dumps(good) + "\n"


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.log.mkdir()
    with pytest.raises(InputError, match=r"training\.log: cannot be written"):
        workdir.append_log({})


def test_the_lock_is_of_one_training_and_ends_with_it(tmp_path):
    workdir = Workdir(tmp_path / "new" / "folder")
    with (
        workdir.locked(),
        pytest.raises(InputError, match="another training is writing there"),
        Workdir(workdir.folder).locked(),
    ):
        pass
    left = workdir.snapshot(1).with_name(".1-abc.part.safetensors")
    left.parent.mkdir()
    for path in (left, workdir.folder / ".last-abc.part.safetensors", workdir.log):
        path.write_text("")

    def fail() -> None:
        with workdir.locked():
            names = sorted(path.name for path in workdir.folder.rglob("*"))
            assert names == [".lock", "snapshots", "training.log"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with workdir.locked():
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot be written .*--output_string"),
        Workdir(tmp_path / "file" / "run").locked(),
    ):
        pass
