"""From a head detector's outputs to the heads of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..yunet import suppress

MAX_OVERLAP = 0.4  # intersection over union of the boxes of two heads
MAX_INSIDE = 0.6  # intersection of the boxes of two heads over the smaller one's area
SAME = 0.5  # intersection over union from which two cells see the same head
MOST = 10_000  # cells of an image that are looked at, best first


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes → (N, M) areas that they share."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.maximum(high - low, 0).prod(-1)


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes → (N, M) intersection over union."""
    shared = intersections(boxes, others)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, others))
    return shared / np.maximum(area[:, None] + other_area[None] - shared, 1e-9)


def select(cells: np.ndarray, min_score: float) -> np.ndarray:
    """(cells, 11) decoded cells of one image → (N, 11) those that are its heads, best first."""
    cells = cells[cells[:, 0] >= min_score]
    cells = cells[np.argsort(-cells[:, 0], kind="stable")[:MOST]]
    return cells[distinct(cells[:, 1:5], cells[:, 0])]


def distinct(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the boxes (N, 4) that are each a head of its own, best first.

    Of two boxes of one place the better is kept, also where one is a part of the other: a large
    head's eye, or a head with its shoulders.
    """
    order = suppress(boxes, scores, MAX_OVERLAP)
    area = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)
    kept: list[int] = []
    for index in order.tolist():
        shared = intersections(boxes[index : index + 1], boxes[kept])[0]
        if (shared <= MAX_INSIDE * np.minimum(area[index], area[kept])).all():
            kept.append(index)
    return np.array(kept, np.int64)


def merged(heads: np.ndarray, looks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Heads with the mean boxes of the looks that see them, weighted by score.

    Looks at other scales are off in other ways. (As box voting, Gidaris & Komodakis, 2015,
    https://arxiv.org/abs/1505.01749, section 5, but only by the best cell of each look: those
    beside it are off in the same way.)

    Args:
        heads: (N, 11) cells that `select` keeps.
        looks: (cells, 11) of each of L looks at the image, those of the heads among them.

    Returns:
        (N, 11) heads, and (N, L) the best score of each look for the same head, 0 if it sees none.
    """
    boxes, scores = np.zeros((len(heads), 8)), np.zeros((len(heads), len(looks)), np.float32)
    for column, cells in enumerate(looks):
        if not len(cells):
            continue
        same = np.where(overlap(heads[:, 1:5], cells[:, 1:5]) >= SAME, cells[:, 0], 0)
        scores[:, column] = same.max(1)
        boxes += scores[:, [column]] * cells[same.argmax(1), 1:9]
    total = scores.sum(1, np.float64, keepdims=True)
    # A box without an area overlaps nothing, itself included.
    means = np.where(total > 0, boxes / np.where(total > 0, total, 1), heads[:, 1:9])
    return np.concatenate([heads[:, :1], means, heads[:, 9:]], 1).astype(np.float32), scores
