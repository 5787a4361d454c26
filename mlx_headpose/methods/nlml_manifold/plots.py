"""The factors of each angle and the cosines fitted to them, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...figures import new_figure, write_figure
from .cosines import evaluate_cosines
from .model import ANGLES, Manifold

REACH = 180  # degrees to each side: how the cosines go on outside the grid


def draw_factors(manifold: Manifold, path: Path) -> None:
    """Draw every factor column over its angle, with its cosine; a row of panels per angle.

    Args:
        manifold: with its factors and their grid.
        path: the PNG to write.
    """
    columns = manifold.cosines.shape[1]
    figure = new_figure(4 * columns, 8)
    panels = figure.subplots(len(ANGLES), columns, squeeze=False)
    degrees = np.arange(-REACH, REACH + 1)
    for row, name, cosines in zip(panels, ANGLES, manifold.cosines, strict=True):
        curves = evaluate_cosines(cosines, np.radians(degrees))
        grid, factor = manifold.grid[name], manifold.factors[name]
        fitted = evaluate_cosines(cosines, np.radians(grid))
        for k, axes in enumerate(row):
            a, b, c, d = cosines[k]
            error = np.sqrt(np.mean((fitted[:, k] - factor[:, k]) ** 2))
            axes.plot(
                degrees, curves[:, k], lw=1, label=f"{a:.3g} cos({b:.3g} w {c:+.3g}) {d:+.3g}"
            )
            axes.plot(grid, factor[:, k], "o", ms=4, label=f"factor (RMS {error:.1g})")
            axes.axvspan(grid.min(), grid.max(), color="grey", alpha=0.1)
            axes.set(title=f"{name}, column {k + 1}", xticks=range(-REACH, REACH + 1, 90))
            axes.grid(alpha=0.3)
            axes.legend(fontsize="x-small")
    for axes in panels[-1]:
        axes.set(xlabel="angle (degrees)")
    write_figure(figure, path)
