"""The error by interval of each true angle, as curves (NLML-HPE's paper shows them)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..figures import new_figure, write_figure
from ..pose import angle_errors

if TYPE_CHECKING:
    from .evaluate import Evaluation

ANGLES = ("yaw", "pitch", "roll")
STEP = 10  # degrees


def errors_by_interval(
    predictions: np.ndarray, poses: np.ndarray, column: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The error of one angle by intervals of its true value.

    Args:
        predictions, poses: (N, 3) yaw, pitch, roll in degrees.
        column: 0 yaw, 1 pitch, 2 roll.

    Returns:
        Middle in degrees, mean absolute error in degrees, and number of samples of each interval
        of 10° that has any.
    """
    interval = np.floor(poses[:, column] / STEP).astype(int)
    errors = angle_errors(predictions, poses)[:, column]
    numbers, which, counts = np.unique(interval, return_inverse=True, return_counts=True)
    sums = np.zeros(len(numbers))
    np.add.at(sums, which, errors)
    return (numbers + 0.5) * STEP, sums / counts, counts


def draw_intervals(evaluations: dict[str, Evaluation], path: Path) -> None:
    """Draw a curve for each network, and below how many samples each interval has.

    Args:
        evaluations: name of a network or snapshot → its predictions, all on the same samples.
        path: the picture to write.

    Raises:
        InputError: matplotlib, which draws, is not installed, or the path ends in no format of
            `figures.SUFFIXES`.
    """
    figure = new_figure(12, 5)
    grid = figure.subplots(2, 3, sharex="col", height_ratios=(3, 1))
    for column, angle in enumerate(ANGLES):
        curve, histogram = grid[:, column]
        for name, evaluation in evaluations.items():
            middles, errors, counts = errors_by_interval(
                evaluation.predictions, evaluation.poses, column
            )
            curve.plot(middles, errors, ".-", label=name)
        histogram.bar(middles, counts, width=0.9 * STEP, color="lightgrey")
        limits = next(iter(evaluations.values())).limits
        if limits is not None:
            for sign in (-1, 1):
                curve.axvline(sign * limits[column], color="grey", lw=0.8, ls=":")
        curve.set(title=angle, ylim=(0, None))
        curve.grid(alpha=0.3)
        histogram.set(xlabel=f"true {angle} (degrees)")
    grid[0, 0].set(ylabel="mean absolute error (degrees)")
    grid[1, 0].set(ylabel="samples")
    grid[0, 0].legend(loc="upper right")
    write_figure(figure, path)
