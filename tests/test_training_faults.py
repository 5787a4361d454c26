"""Training when the world around it fails: data, workers, memory, the clock."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from PIL import Image
from support import toy_training as toy
from support.toy_training import ToySet, toy_model, toy_training

from mlx_headpose import InputError
from mlx_headpose.cpu.shards import shards
from mlx_headpose.data.base import BROKEN
from mlx_headpose.evaluation.evaluate import evaluate
from mlx_headpose.readers.pictures import open_upright
from mlx_headpose.training import live, memory
from mlx_headpose.training.checkpoint import Workdir, read_run
from mlx_headpose.training.loop import Training
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import Step, make_step, training_mode


class Folder(ToySet):
    """Pictures in a folder, which may vanish while they are read."""

    def __init__(self, folder: Path, count: int = 48):
        super().__init__(count)
        self.folder = folder
        self.reads = 0
        folder.mkdir()
        for i in range(count):
            super().image(i).save(self._file(i))

    def _file(self, index: int) -> Path:
        return self.folder / f"{self.ids[index]}.png"

    def image(self, index: int) -> Image.Image:
        self.reads += 1
        return open_upright(self._file(index))


def training_on(dataset: ToySet, folder: Path, **changes: object) -> Training:
    values = {"epochs": 3, "batch_size": 8, "save_every": 2, "workers": 2, **changes}
    options = TrainingOptions(**values)
    return Training(toy_model(), dataset, ToySet(16, seed=1), Workdir(folder), options)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


class Vanishing(Folder):
    """After so many pictures, the folder is renamed."""

    def image(self, index: int) -> Image.Image:
        if self.reads >= 70:  # in the second epoch
            with suppress(FileNotFoundError):  # another thread was first
                self.folder.rename(self.folder.with_name("elsewhere"))
        return super().image(index)


@pytest.mark.parametrize(
    ("skip_bad", "sentence"),
    [(False, r"picture\d+\.png: no such picture; check"), (True, "no sample can be")],
)
def test_a_folder_that_vanishes_is_one_sentence_and_training_can_go_on(
    tmp_path, skip_bad, sentence
):
    data = Vanishing(tmp_path / "pictures")
    with pytest.raises(InputError, match=sentence):
        training_on(data, tmp_path / "run", skip_bad=skip_bad).run()
    assert not readers()
    state = tmp_path / "run" / "last.safetensors"
    progress = read_run(state)[2]
    assert (progress.epoch, progress.step % 2) == (1, 0)
    again = training_on(ToySet(), tmp_path / "run")
    again.restore(state)
    again.run()
    whole = training_on(ToySet(), tmp_path / "whole")
    whole.run()
    other = dict(tree_flatten(whole.model.parameters()))
    for name, value in tree_flatten(again.model.parameters()):
        assert skip_bad or mx.array_equal(value, other[name]), name


class Failing(ToySet):
    """One picture meets a bug."""

    def image(self, index: int) -> Image.Image:
        if index == 17:
            raise ZeroDivisionError("a bug in the reader")
        return super().image(index)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_bug_in_a_worker_comes_out_and_no_thread_stays(tmp_path, skip_bad):
    with pytest.raises(ZeroDivisionError, match="a bug in the reader"):
        training_on(Failing(), tmp_path / "run", skip_bad=skip_bad).run()
    assert not readers()
    with pytest.raises(ZeroDivisionError, match="a bug in the reader"):
        evaluate(toy_model(), Failing(), skip_bad=skip_bad)


class Unreadable(ToySet):
    """Picture 3 is broken."""

    def image(self, index: int) -> Image.Image:
        if self.ids[index] == "picture3":
            raise InputError("picture3.jpg: broken picture; replace it")
        return super().image(index)


def test_every_sample_that_is_left_out_is_counted():
    dataset = Unreadable(9)
    dataset.drop(np.arange(9) == 0, BROKEN)
    dataset.drop(np.arange(8) >= 6, BROKEN)
    assert dataset.dropped == {BROKEN: 3}
    found = evaluate(toy_model(), dataset, skip_bad=True)
    assert (len(found.ids), found.dropped) == (5, {BROKEN: 4})


MESSAGES = [
    "[malloc] Unable to allocate 68719476736 bytes.",
    "[METAL] Command buffer execution failed: Insufficient Memory (00000008)",
    "cudaMallocAsync(&data, size, stream) failed: out of memory",
]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("kind", [RuntimeError, MemoryError])
def test_an_end_of_memory_names_the_batch_size(tmp_path, monkeypatch, kind, message):
    def fail(*_):
        raise kind(message)

    training = toy_training(tmp_path / "run")
    monkeypatch.setattr(training.optimizer, "set_learning_rate", fail)
    sentence = r"out of memory with --batch_size 8; try --batch_size 4 \(" + re.escape(message)
    with pytest.raises(InputError, match=sentence):
        training.run()
    model = toy_model()
    monkeypatch.setattr(type(model), "__call__", fail)
    with pytest.raises(InputError, match="out of memory with --batch_size 8; try --batch_size 4"):
        evaluate(model, ToySet(), batch_size=8)
    with pytest.raises(InputError, match="--batch_size 1; try a smaller network"):
        evaluate(model, ToySet(), batch_size=1)


def test_other_errors_are_no_end_of_memory(monkeypatch):
    def fail(*_):
        raise RuntimeError("[matmul] Last dimension of first input")

    model = toy_model()
    monkeypatch.setattr(type(model), "__call__", fail)
    with pytest.raises(RuntimeError, match="matmul"):
        evaluate(model, ToySet())


@pytest.fixture
def training(tmp_path):
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    training = toy_training(tmp_path / "run", batch_size=32)
    training_mode(training.model, ())
    yield training
    mx.set_default_device(device)


def peak_of_a_step(training: Training, batch: int) -> int:
    inputs = mx.random.randint(0, 256, (batch, toy.SIZE, toy.SIZE, 3)).astype(mx.uint8)
    poses, changes = mx.zeros((batch, 3)), mx.random.uniform(0, 1, (batch, 5))
    mx.eval(inputs, poses, changes)
    step = toy_step(training)
    mx.reset_peak_memory()
    step(inputs, poses, changes)
    mx.eval(training.model.parameters(), training.optimizer.state)
    return mx.get_peak_memory()


def toy_step(training: Training) -> Step:
    return make_step(training.model, training.optimizer, training.options, training.processes)


def test_a_batch_that_cannot_fit_is_refused_before_the_first_step(training, monkeypatch):
    sample = mx.zeros((toy.SIZE, toy.SIZE, 3), mx.uint8)
    arguments = (toy_step(training), training.model, training.optimizer, sample)
    # A step's own: other tests of this process may hold more than it takes.
    held = mx.get_active_memory()
    need = max(peak_of_a_step(training, 512) for _ in range(3)) - held
    # What the rehearsal says is about what a step takes; MLX frees with some delay.
    monkeypatch.setattr(memory, "memory_limit", lambda: held + int(1.5 * need))
    memory.require_memory(*arguments, 512)
    monkeypatch.setattr(memory, "memory_limit", lambda: held + int(0.5 * need))
    with pytest.raises(InputError, match=r"--batch_size 512: .*; try --batch_size (128|256)"):
        memory.require_memory(*arguments, 512)
    memory.require_memory(*arguments, 128)


def test_every_rehearsal_has_all_shards(training, monkeypatch):
    counts = []

    def peak(step, model, optimizer, sample, count):
        counts.append(count)
        return 10 * count

    monkeypatch.setattr(memory, "_peak", peak)
    with shards(4):
        memory.require_memory(None, training.model, training.optimizer, None, 64)
    assert counts == [8] * memory.REPETITIONS + [16] * memory.REPETITIONS


def test_a_rehearsal_that_seems_small_once_does_not_count(training, monkeypatch):
    peaks = iter([200, 120, 200, 400, 400, 210])
    monkeypatch.setattr(memory, "_peak", lambda *_: next(peaks))
    monkeypatch.setattr(memory, "memory_limit", lambda: 6000)
    with pytest.raises(InputError, match="try --batch_size 32"):
        memory.require_memory(None, training.model, training.optimizer, None, 64)


def test_the_rehearsal_changes_nothing(training, tmp_path):
    before = {k: np.array(v) for k, v in tree_flatten(training.model.parameters())}
    moments = {k: np.array(v) for k, v in tree_flatten(training.optimizer.state)}
    training._require_memory()
    for name, value in tree_flatten(training.model.parameters()):
        assert np.array_equal(before[name], np.array(value)), name
    for name, value in tree_flatten(training.optimizer.state):
        assert np.array_equal(moments[name], np.array(value)), name


def test_the_rehearsal_waits_for_no_other_process(training, monkeypatch):
    monkeypatch.setattr(training.processes, "average", None)
    training._require_memory()


@pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="only the CPU is rehearsed")
def test_the_sentence_comes_from_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda: 1000)
    with pytest.raises(InputError, match="out of memory with --batch_size 8: a step needs about"):
        toy_training(tmp_path / "run").run()


def test_memory_limit_is_the_machines_or_the_process_s(monkeypatch):
    installed = memory.memory_limit()
    assert 1 << 28 < installed < 1 << 50
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (5000, 5000))
    assert memory.memory_limit() == 5000


@pytest.mark.parametrize("save_every", [2, 1000])
def test_a_gradient_that_is_not_a_number_leaves_the_last_state_whole(
    tmp_path, monkeypatch, save_every
):
    toy_training(tmp_path / "run", epochs=1).run()
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    training = toy_training(tmp_path / "run", save_every=save_every)
    training.restore(training.workdir.state)
    seed, update, begun = training._seed, training.optimizer.update, []

    def seeded(epoch: int, step: int) -> None:
        begun.append(step)
        seed(epoch, step)

    def updated(model, gradients):
        # The last step before a save, whose loss is that of whole weights.
        if begun and begun[-1] == min(save_every, len(training.loader)) - 1:
            gradients = tree_map(lambda value: value + mx.nan, gradients)
        update(model, gradients)

    monkeypatch.setattr(training, "_seed", seeded)
    monkeypatch.setattr(training.optimizer, "update", updated)
    with pytest.raises(InputError, match=r"no numbers any more in epoch 2, .*batch: picture\d+"):
        training.run()
    for path, content in files.items():
        assert path.read_bytes() == content
    assert set((tmp_path / "run").rglob("*.safetensors")) == set(files)


class Screen:
    """A terminal that keeps what it is shown."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.shown: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.shown.append(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("criterion", "shown"), [("mae", "MAE 4.25°"), ("missed", "missed 4.25 %")]
)
def test_the_live_line_says_what_the_error_is(monkeypatch, criterion, shown):
    screen = Screen()
    monkeypatch.setattr(live.sys, "stderr", screen)
    line = live.LiveLine(1, 1, 2, 0, 8, criterion=criterion)
    line.step({"loss": 1.0, "mae": 4.25, "steps": 1})
    line.close()
    assert f" () {shown} " in "".join(screen.shown)


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_jumps_stops_neither_training_nor_its_live_line(tmp_path, monkeypatch, jump):
    screen = Screen()
    monkeypatch.setattr(live.sys, "stderr", screen)
    monkeypatch.setattr(live, "SHOWN_EVERY", 0.0)
    monkeypatch.setattr("tqdm.std.time", time.time)
    true_time, started = time.time, time.time()

    def jumping() -> float:
        now = true_time()
        return now + jump if now - started > 0.3 else now

    for name in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(name, jumping)
    training = toy_training(tmp_path / "run", epochs=2)
    training.run()
    lines = "".join(screen.shown).split("\r")
    assert any("epoch 1/2" in line and "33%" in line for line in lines)
    assert any("epoch 2/2" in line and "100%" in line for line in lines)
    records = training.workdir.read_log()
    assert all(0 < r["seconds"] < 600 and r["images_per_second"] > 0 for r in records)
    again = toy_training(tmp_path / "run")
    again.restore(again.workdir.state)
    assert again.run().epoch == 3
