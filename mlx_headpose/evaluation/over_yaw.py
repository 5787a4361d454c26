"""The error as a function of yaw, for sets that go beyond profile views."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import atomic_path
from ..pose import Bins, angle_errors, pose_metrics

# Three equal shares of the circle, by |yaw| in degrees.
BANDS = {"front": (0.0, 60.0), "side": (60.0, 120.0), "back": (120.0, 180.0)}
CURVE = Bins(24, 15, -180)
COLOURS = {"yaw": "tab:red", "pitch": "tab:green", "roll": "tab:blue"}


def beyond_profile(poses: np.ndarray) -> bool:
    """Whether a set has heads that are turned away, so that bands of yaw say something."""
    return bool((np.abs(poses[:, 0]) > 90).any())


def errors_by_band(predictions: np.ndarray, poses: np.ndarray) -> dict[str, dict[str, float]]:
    """Each band that has samples → its mean errors in degrees, and `used`, their number."""
    turned = np.abs(poses[:, 0])
    bands = {}
    for name, (low, high) in BANDS.items():
        inside = (turned >= low) & ((turned < high) | (high == 180))
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
    """Draw the curve as a PNG, the head's turn from left to right.

    Raises:
        InputError: matplotlib, which draws, is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "drawing the curve needs matplotlib; run `pip install matplotlib`"
        ) from None
    centres, errors = error_curve(predictions, poses)
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
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
    axes.legend(loc="upper right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
