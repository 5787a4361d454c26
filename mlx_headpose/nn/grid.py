"""Windows over a picture: what convolution and pooling share."""

from __future__ import annotations

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


def interleave(grids: list[mx.array], stride: Pair, height: int, width: int) -> mx.array:
    """Put the grids of all `phases(stride)`, each (N, Q, R, C), into one (N, height, width, C).

    Pixel (s·q + a, t·r + b) of the result is pixel (q, r) of the grid of phase (a, b).
    """
    if len(grids) == 1:
        return grids[0]
    n, rows, columns, c = grids[0].shape
    stacked = mx.stack(grids, axis=3).reshape(n, rows, columns, *stride, c)
    picture = stacked.transpose(0, 1, 3, 2, 4, 5)
    return picture.reshape(n, rows * stride[0], columns * stride[1], c)[:, :height, :width]
