"""`curves.png`: the loss and the validation error of every epoch so far."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..figures import new_figure, write_figure

ANGLES = {"yaw": "tab:red", "pitch": "tab:green", "roll": "tab:blue", "mae": "black"}


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the curves of a training.

    Args:
        records: the lines of training.log.
        path: the PNG to write.
    """
    epochs = [record for record in records if record.get("kind") == "epoch"]
    if not epochs:
        return
    numbers = [record["epoch"] for record in epochs]
    figure = new_figure(10, 4)
    loss, error = figure.subplots(1, 2)

    loss.plot(numbers, [record["loss"] for record in epochs], "k.-", label="loss")
    for name in epochs[-1]["parts"]:
        # Earlier epochs may have had another loss, of other parts.
        values = [record["parts"].get(name, math.nan) for record in epochs]
        loss.plot(numbers, values, ".-", label=name, lw=1, color=ANGLES.get(name))
    loss.set(title="training loss", xlabel="epoch")
    # A loss may start hundreds of times higher than it ends; parts of some methods are negative.
    shown = [v for line in loss.lines for v in line.get_ydata() if not math.isnan(v)]
    if shown and min(shown) > 0:
        loss.set_yscale("log")
    loss.legend(loc="upper right")

    poses = "mae" in epochs[-1]["validation"]
    for name in ANGLES if poses else epochs[-1]["validation"]:
        values = [record["validation"].get(name, math.nan) for record in epochs]
        label = f"{name.upper() if name == 'mae' else name} {values[-1]:.2f}"
        error.plot(numbers, values, ".-", color=ANGLES.get(name), label=label)
    unit = "degrees" if poses else "%"
    error.set(title=f"validation error ({unit})", xlabel="epoch", ylim=(0, None))
    error.legend(loc="upper right")
    for axes in (loss, error):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    write_figure(figure, path)
