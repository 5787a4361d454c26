"""Max pooling with a fast gradient, the mean over a picture (in float16 too), and doubling."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce
from itertools import product
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..cpu.shards import each_shard
from .grid import Pair, interleave, pad_or_crop, pair, phases
from .plain import with_gradient


def _output_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Windows along one axis, by PyTorch's rule."""
    steps = (size + 2 * padding - kernel) / stride
    if steps < 0:
        raise ValueError(f"max_pool2d: a window of {kernel} does not fit into {size}+2·{padding}")
    windows = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
    # The last window must start inside the input or its left padding.
    if ceil_mode and (windows - 1) * stride >= size + padding:
        windows -= 1
    return windows


@lru_cache
def _max_pool(kernel: Pair, stride: Pair) -> Callable[..., Any]:
    """Pooling of a padded (N, H, W, C) that the windows fill exactly, and its gradient."""

    def taps(padded: mx.array) -> list[mx.array]:
        """For each place in the window, the pixels there, (N, Ho, Wo, C) each."""
        stops = [size - k + 1 for size, k in zip(padded.shape[1:3], kernel, strict=True)]
        return [
            padded[:, i : i + stops[0] : stride[0], j : j + stops[1] : stride[1]]
            for i, j in product(range(kernel[0]), range(kernel[1]))
        ]

    def forward(padded: mx.array) -> mx.array:
        return reduce(mx.maximum, taps(padded))

    def gradient(padded: mx.array, dy: mx.array, y: mx.array) -> mx.array:
        chosen = [(tap == y).astype(dy.dtype) for tap in taps(padded)]
        share = dy / reduce(mx.add, chosen)
        return _hand_back([c * share for c in chosen], kernel, stride, padded.shape)

    return with_gradient(forward, gradient)


def _hand_back(
    parts: list[mx.array], kernel: Pair, stride: Pair, shape: tuple[int, ...]
) -> mx.array:
    """Add up what windows give each pixel: of window o, parts[i·kw + j] is pixel s·o + (i, j)'s.

    Pixels s·q + r of one phase r are a dense grid over q, so each grid is a sum of shifted parts.
    """
    rows, columns = (-(-size // s) for size, s in zip(shape[1:3], stride, strict=True))
    height, width = parts[0].shape[1:3]
    grids = []
    for r, c in phases(stride):
        grid = mx.zeros((shape[0], rows, columns, shape[3]), dtype=parts[0].dtype)
        for i, j in product(range(r, kernel[0], stride[0]), range(c, kernel[1], stride[1])):
            top, left = i // stride[0], j // stride[1]
            around = (top, rows - top - height), (left, columns - left - width)
            grid = grid + pad_or_crop(parts[i * kernel[1] + j], *around)
        grids.append(grid)
    return interleave(grids, stride, shape[1], shape[2])


@each_shard
def max_pool2d(
    x: mx.array,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
) -> mx.array:
    """(N, H, W, C) → (N, Ho, Wo, C), the maximum of each window; see `MaxPool2d`."""
    kernel = pair(kernel_size)
    steps = kernel if stride is None else pair(stride)
    before = pair(padding)
    after = []
    for axis in (0, 1):
        size = x.shape[1 + axis]
        windows = _output_size(size, kernel[axis], steps[axis], before[axis], ceil_mode)
        after.append((windows - 1) * steps[axis] + kernel[axis] - size - before[axis])
    # Where the windows end short of the border, the rest of the picture plays no part.
    x = x[:, : x.shape[1] + min(after[0], 0), : x.shape[2] + min(after[1], 0)]
    around = [(0, 0), (before[0], max(after[0], 0)), (before[1], max(after[1], 0)), (0, 0)]
    if any(map(any, around)):
        x = mx.pad(x, around, constant_values=mx.array(-mx.inf, dtype=x.dtype))
    return _max_pool(kernel, steps)(x)


@each_shard
def mean_pool2d(x: mx.array) -> mx.array:
    """(N, H, W, C) → (N, 1, 1, C), the mean over the picture.

    MLX divides a sum of the input's type: in float16 that of a large picture is often infinite.
    """
    wide = x.astype(mx.float32) if x.dtype == mx.float16 else x
    return wide.mean(axis=(1, 2), keepdims=True).astype(x.dtype)


class MaxPool2d(nn.Module):
    """Max pooling of (N, H, W, C); a drop-in for `mlx.nn.MaxPool2d`, and PyTorch's `ceil_mode`.

    Where several pixels of a window share its maximum, they share its gradient in equal parts, as
    in MLX; PyTorch gives all of it to the first.

    Args:
        kernel_size: window height and width.
        stride: step between windows; the window's size by default.
        padding: rows and columns of −∞ added at each side.
        ceil_mode: keep windows that reach over the border, as long as they start within it.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size = pair(kernel_size)
        self.stride = self.kernel_size if stride is None else pair(stride)
        self.padding = pair(padding)
        self.ceil_mode = ceil_mode

    def _extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, C) → (N, Ho, Wo, C)."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


@each_shard
def double(x: mx.array) -> mx.array:
    """Each pixel of (N, H, W, C) twice in both directions."""
    n, height, width, channels = x.shape
    x = mx.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return x.reshape(n, 2 * height, 2 * width, channels)
