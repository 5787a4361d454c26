"""The story of a training: epochs of steps, each validated, saved, logged and drawn."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..cpu.memory import batch_size_named
from ..cpu.shards import shards_on_cores
from ..data import Dataset
from ..data.loader import Batch, Loader
from ..errors import InputError
from ..figures import available
from ..files import digest
from ..methods import Estimator
from .checkpoint import Progress, Workdir, load_state
from .curves import draw_curves
from .distributed import Processes
from .interrupt import Interrupt
from .live import LiveLine, TensorBoard, add, means
from .memory import beyond_working_set, require_memory
from .optimizer import Optimizer
from .options import TrainingOptions
from .step import Step, StepResult, freeze, make_step, training_mode
from .validation import described, validate

LOG_EVERY = 50  # steps between the log's lines within an epoch


class Stopped(Exception):
    """Training was interrupted, and has saved its state."""


def _advice(names: Sequence[str]) -> str:
    look = f", and look at this batch: {', '.join(names)}" if names else ""
    return f"lower --lr or set --clip_norm 1{look}"


class Training:
    """One training in one folder.

    Args:
        model: the network, with the weights to start from.
        training_set: what it learns from, before the method's own preparation.
        validation_set: what chooses the best epoch.
        workdir: where everything is written.
        options: how to train.
        processes: the processes that train together.
        run: what the state file should carry for `--resume`, as JSON can hold it.
        say: prints a line for people.
    """

    def __init__(
        self,
        model: Estimator,
        training_set: Dataset,
        validation_set: Dataset,
        workdir: Workdir,
        options: TrainingOptions,
        *,
        processes: Processes | None = None,
        run: dict[str, Any] | None = None,
        say: Callable[[str], None] = print,
    ):
        self.model = model
        self.validation_set = validation_set
        self.workdir = workdir
        self.options = options
        self.processes = processes or Processes()
        self.writes = self.processes.rank == 0
        self.record = run or {}
        self.say = say if self.writes else lambda line: None
        training_set = model.prepare(training_set, workdir.folder, options.seed, self.say)
        freeze(model, options.freeze)
        self.optimizer = Optimizer(model, options)
        ranks = self.processes.size
        self.progress = Progress(
            batches=digest(training_set.ids, options.batch_size, ranks, options.seed),
            validation=digest(
                *(validation_set.name, validation_set.ids, validation_set.protocol),
                model.config.preprocessing.size,
            ),
        )
        self.loader = Loader(
            training_set,
            model.config.inputs,
            batch_size=options.batch_size,
            augmentation=options.augmentation,
            seed=options.seed,
            rank=self.processes.rank,
            ranks=self.processes.size,
            workers=options.workers or None,
            skip_bad=options.skip_bad,
        )
        self.board = None
        if options.tensorboard and self.writes:
            self.board = TensorBoard(workdir.folder, model.config.criterion)
        self.interrupt = Interrupt()
        self._measured = False  # whether the memory of a step was compared with what there is
        self._last_read: list[str] = []  # names of the last step's samples

    def restore(self, state: Path) -> None:
        """Go on where the training that wrote a state file stood.

        In another folder than that training's, or with another validation set, the best epoch is
        chosen anew. With other batches the epoch under way begins again.
        """
        fresh = self.progress
        progress = self.progress = load_state(state, self.model, self.optimizer)
        other = progress.validation not in ("", fresh.validation)
        if other:
            self.say("The errors are measured on other samples now, so the best is chosen anew.")
        if other or not self.workdir.best.exists():
            progress.best_epoch, progress.best_mae = 0, math.inf
        if progress.step and progress.batches not in ("", fresh.batches):
            self.say(f"The batches are others now, so epoch {progress.epoch + 1} begins again.")
            progress.step, progress.sums = 0, {}
        progress.batches, progress.validation = fresh.batches, fresh.validation

    def run(self) -> Progress:
        """Train to the last epoch.

        Raises:
            Stopped: Ctrl-C; the state is saved.
            InputError: a photo is broken, the loss or a weight is not a number, or the disk is
                full. What was saved before stays whole.
        """
        batch = self.options.batch_size
        cores = shards_on_cores(batch) if self.model.trains_in_shards else nullcontext()
        with self.interrupt, cores:
            if not self.processes.agree(self.progress.epoch, self.progress.step):
                raise InputError(
                    f"{self.workdir.state}: is not the same for every process; copy rank 0's to "
                    "every machine, or start anew"
                )
            self.processes.share_weights(self.model)
            if self.writes:
                self.workdir.rewind_log(self.progress)
                if not available():
                    self.say("No curves.png: `pip install matplotlib` draws it.")
            step = make_step(self.model, self.optimizer, self.options, self.processes)
            try:
                self._require_memory()
                if mx.default_device() != mx.Device(mx.cpu):
                    self.say(
                        "The first step compiles the network for the GPU, which takes a while."
                    )
                while self.progress.epoch < self.options.epochs:
                    started = time.perf_counter()
                    with batch_size_named(self.options.batch_size):
                        rate = self._train_epoch(step)
                    self.processes.average_norm_statistics(self.model)
                    self._require_finite()
                    metrics = validate(
                        self.model,
                        self.validation_set,
                        self.options,
                        self.processes,
                        self._stop_in_validation,
                    )
                    self._finish_epoch(metrics, rate, time.perf_counter() - started)
            finally:
                if self.board is not None:
                    self.board.close()
        return self.progress

    def _stop_in_validation(self) -> None:
        """End a validation that Ctrl-C interrupts; the epoch's training is saved, as all done."""
        if self.interrupt.wanted:
            self._save()
            raise Stopped

    def _require_memory(self) -> None:
        training_mode(self.model, self.options.freeze)
        # How many rehearsals there are goes by what is measured: no process may wait for others.
        step = make_step(self.model, self.optimizer, self.options, processes=None)
        sample = mx.array(self.loader.sample(0, 0)[0])
        require_memory(step, self.model, self.optimizer, sample, self.loader.batch_size)

    def _train_epoch(self, step: Step) -> float:
        """The steps of an epoch that are not done yet; returns images per second."""
        options, progress = self.options, self.progress
        epoch, steps = progress.epoch, len(self.loader)
        training_mode(self.model, options.freeze)
        line = LiveLine(
            epoch + 1,
            options.epochs,
            steps,
            progress.step,
            self.loader.batch_size * self.processes.size,
            shown=self.writes,
            criterion=self.model.config.criterion,
        )
        # Reading a number waits for the device, so each step is read while the next one computes.
        pending: deque[tuple[Batch, StepResult, mx.array]] = deque()
        logged = dict(progress.sums)
        try:
            for batch in self.loader.batches(epoch, start=progress.step):
                self._seed(epoch, progress.step + len(pending))
                self.optimizer.set_learning_rate(self._rate(progress.step + len(pending)))
                result = step(*map(mx.array, (batch.inputs, batch.poses, batch.changes)))
                stop = self.processes.total(mx.array(float(self.interrupt.wanted)))
                mx.async_eval(stop)  # before the next step, behind which it would wait
                pending.append((batch, result, stop))
                if len(pending) == 1:
                    continue
                wanted = self._read(*pending.popleft(), line)
                save = (progress.step + 1) % options.save_every == 0
                if wanted or save:
                    self._read(*pending.popleft(), line)
                    self._save()
                if wanted:
                    raise Stopped
                if progress.step % LOG_EVERY == 0 and progress.step < steps:
                    self._log("steps", means(progress.sums, logged), line.images_per_second())
                    logged = dict(progress.sums)
            while pending:
                self._read(*pending.popleft(), line)
        finally:
            line.close()
        return line.images_per_second()

    def _seed(self, epoch: int, step: int) -> None:
        # Every step has its own seed, so that going on after any step needs no saved randomness.
        words = (self.options.seed, epoch, step, self.processes.rank)
        mx.random.seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))

    def _rate(self, step: int) -> float:
        steps = len(self.loader)
        return self.options.learning_rate(self.progress.epoch * steps + step, steps)

    def _read(self, batch: Batch, result: StepResult, stop: mx.array, line: LiveLine) -> bool:
        """Take in a step's figures; returns whether some process was asked to stop."""
        loss = float(result.loss)
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in epoch {self.progress.epoch + 1}, step "
                f"{self.progress.step + 1}; {_advice(batch.ids)}"
            )
        self._last_read = batch.ids
        # The mean is NumPy's: an operation of MLX would wait behind the next step on a GPU.
        values = {"loss": loss, "mae": float(np.array(result.error).mean())}
        values |= {f"part:{name}": float(part) for name, part in result.parts.items()}
        add(self.progress.sums, values)
        self.progress.step += 1
        line.step(self.progress.sums)
        if not self._measured:
            self._measured = True
            if too_much := beyond_working_set(self.options.batch_size):
                self.say(too_much)
        # Several processes must stop after the same step, so they go by what all heard of it.
        return self.interrupt.wanted if self.processes.size == 1 else bool(stop.item())

    def _require_finite(self) -> None:
        """See that weights and optimizer are numbers: a finite loss may have another gradient.

        Raises:
            InputError: they are not.
        """
        state = (self.model.parameters(), self.optimizer.state)
        values = [value for part in state for value in dict(tree_flatten(part)).values()]
        if not mx.stack([mx.isfinite(value).all() for value in values]).all().item():
            raise InputError(
                f"the weights are no numbers any more in epoch {self.progress.epoch + 1}, step "
                f"{self.progress.step}; {_advice(self._last_read)}"
            )

    def _finish_epoch(self, metrics: dict[str, float], rate: float, seconds: float) -> None:
        """Save, log and draw an epoch, and begin the next."""
        progress, workdir = self.progress, self.workdir
        summary = means(progress.sums)
        learning_rate = self._rate(progress.step - 1)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        error = metrics[self.model.config.criterion]
        best = error < progress.best_mae
        if best:
            progress.best_epoch, progress.best_mae = progress.epoch, error
        if self.writes:
            workdir.save_snapshot(self.model, progress.epoch, best)
        more = {"seconds": round(seconds, 2), "lr": learning_rate, "validation": metrics}
        self._log("epoch", summary, rate, epoch=progress.epoch, best=best, **more)
        self._save()
        if self.writes and available():
            draw_curves(workdir.read_log(), workdir.curves)
        skipped = f"  {self.loader.skipped} broken photos left out" if self.loader.skipped else ""
        self.say(
            f"epoch {progress.epoch}/{self.options.epochs}  loss {summary['loss']:.3f}  "
            f"validation {described(metrics)}{' (best)' if best else ''}  "
            f"{seconds:.0f} s, {rate:.0f} images/s{skipped}"
        )

    def _save(self) -> None:
        # Every process has its own norm statistics within an epoch; what is saved is their mean.
        self.processes.average_norm_statistics(self.model)
        self._require_finite()
        if self.writes:
            self.workdir.save_state(self.model, self.optimizer, self.progress, self.record)

    def _log(self, kind: str, summary: dict[str, Any], rate: float, **more: Any) -> None:
        if not self.writes:
            return
        record = {
            "kind": kind,
            "epoch": self.progress.epoch + 1,
            "step": self.progress.step,
            "lr": self._rate(self.progress.step - 1),
            **summary,
            "images_per_second": round(rate, 2),
            **more,
        }
        self.workdir.append_log(record)
        if self.board is not None:
            self.board.write(record, self.progress.epoch * len(self.loader) + self.progress.step)
