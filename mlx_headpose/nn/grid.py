"""Windows over a picture: what convolution and pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import mlx.core as mx

Pair = tuple[int, int]


def pair(value: int | tuple[int, ...] | list[int]) -> Pair:
    """One number for both axes, or a number for each."""
    if isinstance(value, int):
        return value, value
    rows, columns = value
    return rows, columns


def window_span(kernel: int, dilation: int) -> int:
    """Pixels from a window's first tap to its last, both counted."""
    return dilation * (kernel - 1) + 1


def pad_or_crop(x: mx.array, rows: Pair, columns: Pair) -> mx.array:
    """(N, H, W, C) with zeros added before and after; a negative count cuts pixels off."""
    (top, bottom), (left, right) = rows, columns
    height, width = x.shape[1:3]
    x = x[:, max(-top, 0) : height + min(bottom, 0), max(-left, 0) : width + min(right, 0)]
    if max(top, bottom, left, right) > 0:
        x = mx.pad(
            x, [(0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)), (0, 0)]
        )
    return x


def phases(stride: Pair) -> list[Pair]:
    """The remainders (row, column) that pixels have after division by the stride."""
    return list(product(range(stride[0]), range(stride[1])))


def interleave(grids: Sequence[mx.array | None], stride: Pair, height: int, width: int) -> mx.array:
    """Put the grids of all `phases(stride)`, each (N, Q, R, C), into one (N, height, width, C).

    Pixel (s·q + a, t·r + b) of the result is pixel (q, r) of the grid of phase (a, b), or 0 where
    there is None in the place of a grid.
    """
    some = next(grid for grid in grids if grid is not None)
    if len(grids) == 1:
        return some
    n, rows, columns, c = some.shape
    picture = mx.zeros((n, rows * stride[0], columns * stride[1], c), dtype=some.dtype)
    for (a, b), grid in zip(phases(stride), grids, strict=True):
        if grid is not None:
            picture[:, a :: stride[0], b :: stride[1]] = grid
    return picture[:, :height, :width]
