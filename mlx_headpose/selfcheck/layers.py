"""The layers in use, one by one: every geometry of convolutions and pooling, norms, attention."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..nn import (
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    GroupNorm,
    MaxPool2d,
    hard_swish,
    relu,
    relu6,
    sigmoid,
    silu,
)

BATCH = 8
CHANNELS = 8
DEPTHWISE = CHANNELS
# Kernel, stride, padding, dilation and groups of the convolutions of all networks; a test compares.
CONVOLUTIONS: list[tuple[int, int, int | str, int, int]] = [
    (1, 1, 0, 1, 1),
    (1, 1, "same", 1, 1),
    (1, 1, 0, 1, DEPTHWISE),
    (1, 1, 0, 1, 2),
    (1, 1, 0, 1, 4),
    (1, 2, 0, 1, 1),
    (1, 2, 0, 1, 2),
    (1, 2, 0, 1, 4),
    (2, 2, 0, 1, 1),
    (3, 1, 1, 1, 1),
    (3, 1, 1, 1, 2),
    (3, 1, 1, 1, 4),
    (3, 1, 1, 1, DEPTHWISE),
    (3, 1, "same", 1, DEPTHWISE),
    (3, 1, 2, 2, 1),
    (3, 2, 0, 1, 1),
    (3, 2, 1, 1, 1),
    (3, 2, 1, 1, 2),
    (3, 2, 1, 1, 4),
    (3, 2, 1, 1, DEPTHWISE),
    (3, 2, "same", 1, 1),
    (3, 2, "same", 1, DEPTHWISE),
    (4, 4, 0, 1, 1),
    (5, 1, 2, 1, DEPTHWISE),
    (5, 1, "same", 1, DEPTHWISE),
    (5, 2, 2, 1, DEPTHWISE),
    (5, 2, "same", 1, DEPTHWISE),
    (7, 2, 0, 1, 1),
    (7, 2, 3, 1, 1),
    (16, 16, 0, 1, 1),
]
# Kernel, stride, padding, ceil_mode.
POOLS = [(2, 2, 0, False), (3, 2, 1, False), (3, 2, 0, True)]


class Attention(nn.Module):
    """MLX's fused attention of four heads, (N, H, W, 32) → the same shape."""

    def __call__(self, x: mx.array) -> mx.array:
        heads = x.reshape(len(x), -1, 4, 8).transpose(0, 2, 1, 3)
        y = mx.fast.scaled_dot_product_attention(heads, heads, heads, scale=8**-0.5)
        return y.transpose(0, 2, 1, 3).reshape(x.shape)


class Apply(nn.Module):
    """A function as a layer, whose inputs reach over every bend and meet none."""

    def __init__(self, function: Callable[[mx.array], mx.array]):
        super().__init__()
        self.function = function

    def __call__(self, x: mx.array) -> mx.array:
        return self.function(7.3 * x + 0.013)


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Each layer by its name, and the shape of its input."""
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
    for kernel, stride, padding, dilation, groups in CONVOLUTIONS:
        side = 2 * kernel if kernel == stride else 15  # an odd side makes "same" asymmetric
        outputs = CHANNELS if groups == CHANNELS else 12
        layer = Conv2d(CHANNELS, outputs, kernel, stride, padding, dilation, groups)
        name = f"convolution {kernel}×{kernel}, stride {stride}, padding {padding}"
        name += f", dilation {dilation}" if dilation > 1 else ""
        name += (
            "" if groups == 1 else ", depthwise" if groups == DEPTHWISE else f", {groups} groups"
        )
        found[name] = layer, (BATCH, side, side + 1, CHANNELS)
    found["transposed convolution 2×2, stride 2"] = (
        ConvTranspose2d(8, 12, 2, stride=2),
        (BATCH, 5, 6, 8),
    )
    for kernel, stride, padding, ceil in POOLS:
        name = f"max pooling {kernel}×{kernel}, stride {stride}, padding {padding}"
        pool = MaxPool2d(kernel, stride, padding, ceil)
        found[name + (", ceil" if ceil else "")] = pool, (BATCH, 14, 15, 8)
    shape = (BATCH, 5, 6, 32)
    found["batch norm"] = BatchNorm(32), shape
    found["group norm"] = GroupNorm(16, 32), shape
    found["layer norm"] = nn.LayerNorm(32), shape
    found["linear"] = nn.Linear(32, 24), shape
    found["attention"] = Attention(), shape
    for function in (relu, relu6, sigmoid, silu, hard_swish, nn.gelu):
        found[function.__name__] = Apply(function), shape
    return found
