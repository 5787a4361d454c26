"""3×3 convolutions with a quarter of the multiplications.

Winograd's minimal filtering F(4×4, 3×3) as matrix products (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, https://arxiv.org/abs/1509.09308): the weights and
overlapping tiles of 6×6 pixels are evaluated as polynomials at 36 points, multiplied point by
point, and interpolated to 4×4 pixels of the output. At the usual points 0, ±1, ±2 that loses a
decimal digit; at 0, ±2/3, ±3/2 errors are three to five times those of the direct product, a few
millionths of the largest output.
"""

from __future__ import annotations

from functools import lru_cache

import mlx.core as mx
import numpy as np

from .grid import Pair, pad_or_crop

STEP, TILE = 4, 6  # sides of a tile's output and of what it sees
_POINTS = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)  # and infinity
# Fewer pixels or channels do not pay for evaluating the weights and tiles, by measurement.
MIN_PIXELS, MIN_SIDE, MIN_CHANNELS = 1000, 14, 24


def pays(x: mx.array, weight: mx.array, outputs: Pair) -> bool:
    """Whether this beats the direct product of a 3×3 convolution of stride 1.

    Args:
        x: (N, H, W, C).
        weight: (O, 3, 3, C).
        outputs: height and width of the output.
    """
    out, _, _, channels = weight.shape
    return (
        x.dtype == weight.dtype == mx.float32
        and x.shape[0] * outputs[0] * outputs[1] >= MIN_PIXELS
        and min(outputs) >= MIN_SIDE
        and min(channels, out) >= MIN_CHANNELS
        and channels % 2 == out % 2 == 0
    )


def correlate(x: mx.array, weight: mx.array, before: Pair, outputs: Pair) -> mx.array:
    """A 3×3 convolution of stride 1.

    Args:
        x: (N, H, W, C) float32.
        weight: (O, 3, 3, C).
        before: rows and columns of zeros before the input (negative: pixels to leave out).
        outputs: height and width of the output.

    Returns:
        (N, *outputs, O).
    """
    batch, out, channels = len(x), weight.shape[0], weight.shape[3]
    down, across = (-(-side // STEP) for side in outputs)  # tiles
    height, width = (STEP * tiles + TILE - STEP for tiles in (down, across))
    rows, columns = (
        (first, size - first - side)
        for first, size, side in zip(before, (height, width), x.shape[1:3], strict=True)
    )
    padded = pad_or_crop(x, rows, columns)
    # MLX copies element by element, so two floats are one element.
    pairs = mx.contiguous(padded).view(mx.uint64)
    pixel, row, image = channels // 2, width * channels // 2, height * width * channels // 2
    tiles = mx.as_strided(
        pairs,
        (TILE, TILE, batch, down, across, pixel),
        (row, pixel, image, STEP * row, STEP * pixel, 1),
    )
    tiles = tiles.reshape(TILE * TILE, -1).view(mx.float32)
    of_tile, of_weight, to_output = (mx.array(matrix) for matrix in _matrices())
    seen = (of_tile @ tiles).reshape(TILE * TILE, -1, channels)
    taps = weight.transpose(1, 2, 3, 0).reshape(9, channels * out)
    products = seen @ (of_weight @ taps).reshape(TILE * TILE, channels, out)
    y = (to_output @ products.reshape(TILE * TILE, -1)).view(mx.uint64)
    y = y.reshape(STEP, STEP, batch, down, across, out // 2).transpose(2, 3, 0, 4, 1, 5)
    y = y.reshape(batch, STEP * down, STEP * across, out // 2).view(mx.float32)
    return y[:, : outputs[0], : outputs[1]]


@lru_cache(maxsize=1)
def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(36, 36) for tiles, (36, 9) for weights, (16, 36) for outputs: Bᵀ, G and Aᵀ of the paper.

    By Toom and Cook's construction for the points above, for both axes at once. Powers of two
    between tiles and weights, which lose nothing, bring both to the same size.
    """
    points = np.array(_POINTS)
    tile, weight, output = np.zeros((TILE, TILE)), np.zeros((TILE, 3)), np.zeros((STEP, TILE))
    for j, point in enumerate(points):
        others = np.delete(points, j)
        tile[j, :-1] = np.poly(others)[::-1]
        weight[j] = point ** np.arange(3) / np.prod(point - others)
        output[:, j] = point ** np.arange(STEP)
    tile[-1] = np.poly(points)[::-1]
    weight[-1, -1] = output[-1, -1] = 1
    for j in range(TILE):
        ratio = np.abs(tile[j]).max() / np.abs(weight[j]).max()
        scale = 2.0 ** np.round(np.log2(ratio) / 2)
        tile[j] /= scale
        weight[j] *= scale

    def both(matrix: np.ndarray) -> np.ndarray:
        return np.kron(matrix, matrix).astype(np.float32)

    return both(tile), both(weight), both(output)
