"""The error as a function of yaw: by bands, and as a curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..figures import new_figure, write_figure
from ..pose import Bins, angle_errors, pose_metrics

# Ranges of |yaw| in degrees. Of sets up to profile views, the field's, the last one up to HopeNet's
# outermost bin; of all others, three equal shares of the circle.
UP_TO_PROFILE = {"yaw 0-30": (0.0, 30.0), "yaw 30-60": (30.0, 60.0), "yaw 60-99": (60.0, 99.0)}
FULL_CIRCLE = {"front": (0.0, 60.0), "side": (60.0, 120.0), "back": (120.0, 180.0)}
CURVE = Bins(24, 15, -180)
COLOURS = {"yaw": "tab:red", "pitch": "tab:green", "roll": "tab:blue"}


def errors_by_band(predictions: np.ndarray, poses: np.ndarray) -> dict[str, dict[str, float]]:
    """Each band that has samples → its mean errors in degrees, and `used`, their number."""
    turned = np.abs(poses[:, 0])
    borders = UP_TO_PROFILE if turned.max() <= 99 else FULL_CIRCLE
    outermost = max(high for _, high in borders.values())
    bands = {}
    for name, (low, high) in borders.items():
        inside = (turned >= low) & ((turned < high) | (high == outermost))
        if inside.any():
            metrics = pose_metrics(predictions[inside], poses[inside])
            bands[name] = {**metrics.to_dict(), "used": int(inside.sum())}
    return bands


def error_curve(predictions: np.ndarray, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yaw in steps of 15° → mean errors.

    Returns:
        (24,) middle of each step in degrees, and (24, 3) mean errors of yaw, pitch and roll, NaN
        where the step has no sample.
    """
    steps = CURVE.encode(poses[:, 0].astype(np.float64))
    counts = np.bincount(steps, minlength=CURVE.count)
    sums = np.zeros((CURVE.count, 3))
    np.add.at(sums, steps, angle_errors(predictions, poses))
    means = np.full_like(sums, np.nan)
    np.divide(sums, counts[:, None], out=means, where=counts[:, None] > 0)
    return CURVE.centres, means


def draw_error_curve(predictions: np.ndarray, poses: np.ndarray, path: Path, title: str) -> None:
    """Draw the curve as a picture, the head's turn from left to right.

    Raises:
        InputError: matplotlib, which draws, is not installed, or the path ends in no format of
            `figures.SUFFIXES`.
    """
    centres, errors = error_curve(predictions, poses)
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for column, (angle, colour) in enumerate(COLOURS.items()):
        mean = float(angle_errors(predictions, poses)[:, column].mean())
        axes.plot(centres, errors[:, column], ".-", color=colour, label=f"{angle} {mean:.2f}")
    for border in (60, 120):
        for sign in (-1, 1):
            axes.axvline(sign * border, color="grey", lw=0.8, ls=":")
    axes.set(
        title=title,
        xlabel="true yaw (degrees)",
        ylabel="mean absolute error (degrees)",
        xlim=(-180, 180),
        ylim=(0, None),
        xticks=range(-180, 181, 60),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    write_figure(figure, path)
