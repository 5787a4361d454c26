"""Figures by matplotlib as picture files, without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import InputError
from .files import atomic_path

SUFFIXES = (".png", ".jpg", ".pdf", ".svg")
# Of a drawn head's axes to the right, down and out of the face.
AXIS_COLOURS = ("#d62728", "#2ca02c", "#1f77b4")


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def new_figure(width: float, height: float) -> Any:
    """An empty figure of a size in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    if not available():
        raise InputError("drawing needs matplotlib; run `pip install matplotlib`")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure as a picture, atomically.

    Raises:
        InputError: the path ends in no picture format, or cannot be written.
    """
    require_picture(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def require_picture(path: str | Path) -> None:
    """Refuse a path that ends in no format that figures are written in."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: figures are written as {', '.join(SUFFIXES)}; end it in one")
