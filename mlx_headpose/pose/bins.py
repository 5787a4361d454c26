"""Angles as classes: which bin an angle falls into, and the angle that bin scores stand for."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .arrays import Array, as_floats, softmax


@dataclass(frozen=True)
class Bins:
    """Equal bins of an angle in degrees; bin i begins at offset + i·width and ends before the next.

    If the bins cover exactly 360° they are a circle: every angle has a bin. Otherwise an angle
    below the first or above the last bin is put into that bin, and `contains` tells which those
    are.

    Attributes:
        count: number of bins.
        width: width of a bin, in degrees.
        offset: lower edge of bin 0, in degrees.
    """

    count: int
    width: float
    offset: float

    def __post_init__(self) -> None:
        if self.count < 1 or not self.width > 0:
            raise ValueError(f"bins need a positive count and width, not {self}")

    @property
    def circular(self) -> bool:
        """Whether the bins cover the full circle exactly once."""
        return self.count * self.width == 360

    @property
    def lower_edges(self) -> np.ndarray:
        """(count,) lower edge of each bin, in degrees."""
        return self.offset + self.width * np.arange(self.count, dtype=np.float64)

    @property
    def centres(self) -> np.ndarray:
        """(count,) middle of each bin, in degrees."""
        return self.lower_edges + self.width / 2

    def contains(self, angle: Array) -> Array:
        """Whether each angle lies in one of the bins, last edge excluded; a circle has them all."""
        xp, angle = as_floats(angle)
        if self.circular:
            return xp.isfinite(angle)
        return (angle >= self.offset) & (angle < self.offset + self.count * self.width)

    def encode(self, angle: Array) -> Array:
        """Degrees (...) → bin index (...): int64 in numpy, int32 in MLX.

        Angles outside are wrapped where the bins are a circle, and clipped to the first or last bin
        otherwise.
        """
        xp, angle = as_floats(angle)
        index = xp.floor((angle - self.offset) / self.width)
        if self.circular:
            index = index - self.count * xp.floor(index / self.count)
        index = xp.clip(index, 0, self.count - 1)
        return index.astype(mx.int32 if xp is mx else np.int64)

    def expectation(self, logits: Array) -> Array:
        """Scores (..., count) → degrees (...): Σ softmax · (i·width + offset).

        The published expectation of HopeNet (Ruiz et al., 2018): Σ softmax · 3 − 99. A bin counts
        as its lower edge, not as its centre; networks are trained with it, so it must stay. On a
        circle it averages the two sides of ±180° to 0°: see `circular_expectation`.
        """
        xp, logits = as_floats(logits)
        return xp.sum(softmax(logits) * xp.array(self.lower_edges, logits.dtype), -1)

    def circular_expectation(self, logits: Array) -> Array:
        """Scores (..., count) → degrees (...): the direction of Σ softmax · (cos, sin), in ±180.

        For bins that are a circle. Each bin counts as its lower edge, as in `expectation`, with
        which it agrees for narrow peaks away from the seam.
        """
        if not self.circular:
            raise ValueError(f"a circular expectation needs bins of 360° in all, not {self}")
        xp, logits = as_floats(logits)
        probabilities = softmax(logits)
        edges = np.radians(self.lower_edges)
        sine = xp.sum(probabilities * xp.array(np.sin(edges), logits.dtype), -1)
        cosine = xp.sum(probabilities * xp.array(np.cos(edges), logits.dtype), -1)
        return xp.degrees(xp.arctan2(sine, cosine))

    def spread(self, logits: Array) -> Array:
        """Scores (..., count) → degrees (...): the standard deviation of the softmax over the bins.

        Of bins that stand in a row; on a circle the two sides of the seam would count as far apart.
        """
        xp, logits = as_floats(logits)
        probabilities = softmax(logits)
        edges = xp.array(self.lower_edges, logits.dtype)
        mean = xp.sum(probabilities * edges, -1, keepdims=True)
        return xp.sqrt(xp.sum(probabilities * (edges - mean) ** 2, -1))
