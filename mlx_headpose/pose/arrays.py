"""One source for numpy and MLX: every function of this package takes arrays of either.

numpy arrays (and lists and numbers) are computed in float64, MLX arrays in float32 whatever their
type, because angles in half precision are good to a few degrees only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

# A function given numpy arrays returns numpy arrays, and MLX arrays for MLX arrays.
Array = TypeVar("Array", np.ndarray, mx.array)


def as_floats(*arrays: Any) -> tuple[Any, ...]:
    """The module to compute with, then the arrays in its float type.

    Returns:
        (mlx.core, float32 arrays...) if any array is MLX's, else (numpy, float64 arrays...).
    """
    if any(isinstance(array, mx.array) for array in arrays):
        return (mx, *(mx.array(array).astype(mx.float32) for array in arrays))
    return (np, *(np.asarray(array, dtype=np.float64) for array in arrays))


def stack(arrays: Sequence[Any], axis: int = -1) -> Any:
    """Several arrays of one shape along a new axis."""
    xp, *floats = as_floats(*arrays)
    return xp.stack(floats, axis)


def softmax(logits: Any) -> Any:
    """Scores (..., N) → probabilities that add up to 1 along the last axis."""
    xp, logits = as_floats(logits)
    if xp is mx:
        return mx.softmax(logits, axis=-1, precise=True)
    scores = np.exp(logits - np.max(logits, -1, keepdims=True))
    return scores / np.sum(scores, -1, keepdims=True)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(−x))."""
    xp, x = as_floats(x)
    return mx.sigmoid(x) if xp is mx else (1 + np.tanh(x / 2)) / 2
