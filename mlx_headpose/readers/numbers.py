"""Numbers of untrusted files, checked where they are read: finite, of their shape, in a range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# No image has so many pixels a side, and no landmark lies so far out.
MAX_COORDINATE = 100_000
MAX_RADIANS = 1000.0


def require_box(box: Sequence[float]) -> None:
    """See that x_min, y_min, x_max, y_max in pixels are a box.

    Raises:
        ValueError: one is no number or far outside every image, or the box has no area.
    """
    values = np.asarray(box, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise ValueError("its box is not made of four numbers")
    if np.abs(values).max() > MAX_COORDINATE:
        raise ValueError("its box lies far outside every picture")
    if values[2] <= values[0] or values[3] <= values[1]:
        raise ValueError("its box has no area")


def box_of_points(points: np.ndarray, name: str) -> tuple[float, float, float, float]:
    """x_min, y_min, x_max, y_max of (2, N) or (3, N) landmarks in pixels, N at least 4.

    Raises:
        ValueError: they are of another shape, no numbers, far outside every image, or one point.
    """
    if points.ndim != 2 or points.shape[0] not in (2, 3) or points.shape[1] < 4:
        raise ValueError(f"{name} has the shape {points.shape}, not (2, N) or (3, N)")
    x, y = points[0], points[1]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{name} holds values that are no numbers")
    box = float(x.min()), float(y.min()), float(x.max()), float(y.max())
    try:
        require_box(box)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return box


def is_rotation(matrix: np.ndarray) -> bool:
    """Whether a (3, 3) matrix turns, to about two digits, and does not mirror."""
    return np.allclose(matrix @ matrix.T, np.eye(3), atol=0.01) and np.linalg.det(matrix) > 0


def require_radians(angles: np.ndarray, name: str) -> None:
    """See that three angles are finite and no nonsense.

    Raises:
        ValueError: they are not.
    """
    if angles.shape != (3,) or not np.isfinite(angles).all():
        raise ValueError(f"{name} does not begin with three numbers")
    if np.abs(angles).max() > MAX_RADIANS:
        raise ValueError(f"{name} holds no angles in radians")
