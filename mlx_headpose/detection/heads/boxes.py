"""From a head detector's outputs to the heads of an image."""

from __future__ import annotations

import numpy as np

from ..yunet import suppress

MAX_OVERLAP = 0.45
MOST = 1000  # cells of an image that are looked at, best first


def select(cells: np.ndarray, min_score: float) -> np.ndarray:
    """(cells, 11) decoded cells of one image → (N, 11) those that are its heads, best first."""
    cells = cells[cells[:, 0] >= min_score]
    cells = cells[np.argsort(-cells[:, 0], kind="stable")[:MOST]]
    return cells[suppress(cells[:, 1:5], cells[:, 0], MAX_OVERLAP)]
