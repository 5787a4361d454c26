"""A training on disk: `workdirs_<name>/` with its snapshots, its state, its log and its lock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..errors import InputError
from ..files import atomic_path, locked, remove_temporaries
from ..methods import Estimator
from ..readers.safetensors_file import load_tensors, read_config
from ..weights import load_strictly, save_pretrained, save_tensors
from .optimizer import Optimizer

STATE = "training_state"  # the "model_type" of a state file


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: whole epochs done.
        step: steps done of the next one.
        best_epoch: the epoch (counted from 1) with the lowest validation MAE; 0 before the first.
        best_mae: its MAE in degrees, or of a detector the percentage of heads that it misses.
        sums: the running sums of the epoch under way, so that its means survive an interruption.
        batches: fingerprint of what an epoch's batches are made of.
        validation: fingerprint of what the errors are measured on.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_mae: float = float("inf")
    sums: dict[str, float] = field(default_factory=dict)
    batches: str = ""
    validation: str = ""


class Workdir:
    """The folder of one training.

    Args:
        folder: `workdirs_<output_string>`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = folder / "last.safetensors"
        self.best = folder / "best.safetensors"
        self.log = folder / "training.log"
        self.curves = folder / "curves.png"

    def snapshot(self, epoch: int) -> Path:
        """The weights after an epoch, counted from 1."""
        return self.folder / "snapshots" / f"{epoch}.safetensors"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other training out of the folder until this one ends, however it ends.

        What a killed training left half-written is removed.

        Raises:
            InputError: another training is writing there, or the folder cannot be written.
        """
        with locked(self.folder, "training", "choose another --output_string"):
            remove_temporaries(self.folder / "snapshots")
            yield

    def save_state(
        self, model: Estimator, optimizer: Optimizer, progress: Progress, run: dict[str, Any]
    ) -> None:
        """Write all that is needed to go on: weights, optimizer and progress, in one atomic file.

        Randomness needs no saving: every draw follows from the seed, the epoch and the step.

        Args:
            model: the network.
            optimizer: its optimizer.
            progress: where training stands.
            run: what `read_run` gives back, as JSON can hold it.
        """
        weights = dict(tree_flatten(model.parameters()))
        moments = dict(tree_flatten(optimizer.state))
        tensors = {f"model.{name}": value for name, value in weights.items()}
        tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
        config = {
            "model_type": STATE,
            "model": model.config.to_dict(),
            "progress": asdict(progress),
            "run": run,
        }
        save_tensors(self.state, tensors, config)

    def save_snapshot(self, model: Estimator, epoch: int, best: bool) -> None:
        """Write the weights of an epoch, and again as the best ones where they are."""
        save_pretrained(model, self.snapshot(epoch))
        if best:
            save_pretrained(model, self.best)

    def append_log(self, record: dict[str, Any]) -> None:
        """Add a line to training.log."""
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise InputError(f"{self.log}: cannot be written ({error.strerror})") from None

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of training.log; a line that a crash cut off is left out."""
        records = []
        if self.log.exists():
            for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict):
                    records.append(record)
        return records

    def rewind_log(self, progress: Progress) -> None:
        """Take out of training.log what was written after the state that training goes on from."""
        kept = [
            record
            for record in self.read_log()
            if (record.get("epoch", 0), record.get("step", 0))
            <= (progress.epoch + 1, progress.step)
            and not (record.get("kind") == "epoch" and record.get("epoch", 0) > progress.epoch)
        ]
        with atomic_path(self.log) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))


def is_state(path: Path) -> bool:
    """Whether a file holds a training's state."""
    return path.is_file() and read_config(path).get("model_type") == STATE


def read_run(path: Path) -> tuple[dict[str, Any], dict[str, Any], Progress]:
    """The network's config, the run and the progress that `save_state` wrote.

    Raises:
        InputError: the file holds something else.
    """
    config = read_config(path)
    try:
        progress = Progress(**config["progress"])
        counts = (progress.epoch, progress.step, progress.best_epoch)
        numbers = (progress.best_mae, *progress.sums.values())
        if config["model_type"] != STATE:
            raise TypeError
        if not isinstance(config["run"], dict) or not isinstance(config["model"], dict):
            raise TypeError
        if not all(isinstance(n, int) and 0 <= n < 1 << 53 for n in counts):
            raise TypeError
        if not all(isinstance(n, int | float) for n in numbers):
            raise TypeError
        if not all(isinstance(text, str) for text in (progress.batches, progress.validation)):
            raise TypeError
        return config["model"], config["run"], progress
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f"{path}: holds no training to go on with; use --transfer 1 to start from its weights"
        ) from None


def read_network(path: Path) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """The config and the weights in a snapshot, or in a training's state.

    Raises:
        InputError: the file is missing or damaged.
    """
    config, tensors = read_config(path), load_tensors(path)
    if config.get("model_type") != STATE:
        return config, tensors
    return read_run(path)[0], _weights(tensors)


def _weights(state: dict[str, mx.array]) -> dict[str, mx.array]:
    return {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}


def load_state(path: Path, model: Estimator, optimizer: Optimizer) -> Progress:
    """Fill a network and its optimizer from a state file.

    Raises:
        InputError: the file is damaged or of another network or optimizer.
    """
    progress = read_run(path)[2]
    tensors = load_tensors(path)
    load_strictly(model, _weights(tensors), path)
    moments = {k[len("optimizer.") :]: v for k, v in tensors.items() if k.startswith("optimizer.")}
    expected = dict(tree_flatten(optimizer.state))
    if {k: v.shape for k, v in moments.items()} != {k: v.shape for k, v in expected.items()}:
        raise InputError(
            f"{path}: was written with another optimizer or other frozen parts; give the options "
            "of that training, or start from its weights with --transfer 1"
        )
    optimizer.state = tree_unflatten(list(moments.items()))
    mx.eval(model.parameters(), optimizer.state)
    return progress


def find_state(source: Path) -> Path:
    """The state file that a user means by a working folder, its state file or its newest snapshot.

    Raises:
        InputError: there is none.
    """
    folder = source if source.is_dir() else source.parent
    for candidate in (source, folder / "last.safetensors", folder.parent / "last.safetensors"):
        if is_state(candidate):
            epoch = read_run(candidate)[2].epoch
            if source.is_file() and source.stem.isdigit() and int(source.stem) != epoch:
                raise InputError(
                    f"{source}: holds weights only, and the training beside it stands at epoch "
                    f"{epoch}; give {candidate} to go on, or --transfer 1 to start from the weights"
                )
            return candidate
    raise InputError(
        f"{source}: no training to go on with is there; use --transfer 1 to start from its weights"
    )
