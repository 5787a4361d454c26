"""What a person sees while training runs: the live line, the running means, and TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import InputError

# Seconds between two looks of the live line. tqdm's own rhythm goes by the time of day, and would
# stand still for an hour when that is put back by one.
SHOWN_EVERY = 0.1


def with_unit(criterion: str, value: float) -> str:
    """An error as people read it: "MAE 4.10°", or "missed 4.10 %" of what is no mean of angles."""
    return f"MAE {value:.2f}°" if criterion == "mae" else f"{criterion} {value:.2f} %"


def add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    """Add a step's values to running sums, whose "steps" counts them."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value
    sums["steps"] = sums.get("steps", 0.0) + 1


def means(sums: Mapping[str, float], since: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The means of running sums, as training.log shows them.

    Args:
        sums: as `add` fills them: "loss", "mae" and "part:<name>".
        since: earlier sums of the same epoch, to be left out.

    Returns:
        "loss", "mae" (degrees, or what else the network's `error` is in) and "parts".
    """
    since = since or {}
    steps = max(sums.get("steps", 0.0) - since.get("steps", 0.0), 1.0)
    mean = {k: (v - since.get(k, 0.0)) / steps for k, v in sums.items() if k != "steps"}
    parts = {k.removeprefix("part:"): v for k, v in mean.items() if k.startswith("part:")}
    return {"loss": mean.get("loss"), "mae": mean.get("mae"), "parts": parts}


class LiveLine:
    """The line of an epoch under way; silent where stderr is no terminal.

    Args:
        epoch: counted from 1.
        epochs: all of them.
        steps: number of steps of one epoch.
        done: steps done before.
        images: samples per step, of all processes.
        shown: False keeps it silent.
        criterion: see `ModelConfig`; it says what the error is.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        steps: int,
        done: int,
        images: int,
        shown: bool = True,
        criterion: str = "mae",
    ):
        self.bar = tqdm(
            total=steps,
            initial=done,
            disable=not (shown and sys.stderr.isatty()),
            dynamic_ncols=True,
            leave=False,
            bar_format="{percentage:3.0f}%|{bar:12}| {desc}",
        )
        self.title = f"epoch {epoch}/{epochs}"
        self.images = images
        self.criterion = criterion
        self.shown = -SHOWN_EVERY
        self.remaining = (epochs - epoch + 1) * steps - done
        self.steps = 0
        self.started = time.perf_counter()

    def step(self, sums: Mapping[str, float]) -> None:
        """Show one step more, and the means so far."""
        self.steps += 1
        self.bar.n += 1
        seconds = max(time.perf_counter() - self.started, 1e-9)
        if not self.bar.disable and seconds - self.shown >= SHOWN_EVERY:
            self.shown = seconds
            rate = self.steps / seconds
            mean = means(sums)
            parts = " ".join(f"{name} {value:.3g}" for name, value in mean["parts"].items())
            left = tqdm.format_interval(max(self.remaining - self.steps, 0) / rate)
            self.bar.set_description_str(
                f"{self.title}  loss {mean['loss']:.3g} ({parts}) "
                f"{with_unit(self.criterion, mean['mae'])} "
                f"{rate * self.images:.0f} images/s, {left} left"
            )

    def images_per_second(self) -> float:
        """The mean rate since the line began."""
        return self.steps * self.images / max(time.perf_counter() - self.started, 1e-9)

    def close(self) -> None:
        """Take the line away."""
        self.bar.close()


class TensorBoard:
    """TensorBoard's event files, written by tensorboardX.

    Args:
        folder: where they are written.
        criterion: see `ModelConfig`; it says what the error is.
    """

    def __init__(self, folder: Path, criterion: str = "mae"):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                "--tensorboard needs a package: run `pip install tensorboardX`, or leave it out"
            ) from None
        self.writer = SummaryWriter(str(folder))
        self.error = f"training {'MAE' if criterion == 'mae' else criterion}"

    def write(self, record: Mapping[str, Any], step: int) -> None:
        """Add a record of training.log, at a step counted from the start of training."""
        kind = record["kind"]
        values = {"loss": record["loss"], self.error: record["mae"], "lr": record.get("lr")}
        # Parts of a loss and errors of the validation may have the same names.
        for group, figures in (("loss", record["parts"]), ("validation", record.get("validation"))):
            values |= {f"{group}/{name}": value for name, value in (figures or {}).items()}
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(f"{kind}/{name}", value, step)
        self.writer.flush()

    def close(self) -> None:
        """Wait until everything is in the file: a thread of the writer's own writes it."""
        self.writer.close()
