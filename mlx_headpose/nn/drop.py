"""Stochastic depth."""

from __future__ import annotations

from typing import TypeVar

import mlx.core as mx

from ..cpu.shards import Shards

Batch = TypeVar("Batch", mx.array, Shards)


def drop_branch(branch: Batch, probability: float) -> Batch:
    """Leave a residual branch out for some samples, and scale it up for the others.

    Huang et al. 2016, "Deep networks with stochastic depth"; EfficientNet's "drop connect".

    Args:
        branch: (N, H, W, C), what would be added to the shortcut.
        probability: that a sample does without it.
    """
    kept = mx.random.bernoulli(1 - probability, (branch.shape[0], 1, 1, 1))
    # In the branch's type: float32 would widen everything that follows.
    return branch * (kept.astype(branch.dtype) / (1 - probability))
