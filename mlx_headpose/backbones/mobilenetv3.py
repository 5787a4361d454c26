"""MobileNetV3 small and large (Howard et al., "Searching for MobileNetV3", 2019, tables 1, 2)."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..nn import Conv2d, hard_sigmoid, hard_swish, mean_pool2d, relu
from .mobilenet import ConvNorm

STEM = 16
NORM_EPS = 1e-3  # of every norm, as in torchvision's networks and those trained from them


@dataclass(frozen=True)
class Row:
    """A block in the paper's tables: filter, widths, squeeze-and-excite, activation, stride."""

    kernel: int
    hidden: int
    outputs: int
    squeeze: bool
    hard: bool  # hard-swish in place of ReLU
    stride: int = 1


ARCHITECTURES: dict[str, tuple[Row, ...]] = {
    "mobilenetv3_small": (
        Row(3, 16, 16, True, False, 2),
        Row(3, 72, 24, False, False, 2),
        Row(3, 88, 24, False, False),
        Row(5, 96, 40, True, True, 2),
        Row(5, 240, 40, True, True),
        Row(5, 240, 40, True, True),
        Row(5, 120, 48, True, True),
        Row(5, 144, 48, True, True),
        Row(5, 288, 96, True, True, 2),
        Row(5, 576, 96, True, True),
        Row(5, 576, 96, True, True),
    ),
    "mobilenetv3_large": (
        Row(3, 16, 16, False, False),
        Row(3, 64, 24, False, False, 2),
        Row(3, 72, 24, False, False),
        Row(5, 72, 40, True, False, 2),
        Row(5, 120, 40, True, False),
        Row(5, 120, 40, True, False),
        Row(3, 240, 80, False, True, 2),
        Row(3, 200, 80, False, True),
        Row(3, 184, 80, False, True),
        Row(3, 184, 80, False, True),
        Row(3, 480, 112, True, True),
        Row(3, 672, 112, True, True),
        Row(5, 672, 160, True, True, 2),
        Row(5, 960, 160, True, True),
        Row(5, 960, 160, True, True),
    ),
}


def rounded_to_eight(channels: float) -> int:
    """The nearest multiple of 8, at least 8, that is no more than a tenth smaller."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class SqueezeExcite(nn.Module):
    """Weights each channel by a small network's look at all channel means."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = rounded_to_eight(channels / 4)
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.fc2 = Conv2d(squeezed, channels, 1)

    def __call__(self, x: mx.array) -> mx.array:
        return x * hard_sigmoid(self.fc2(relu(self.fc1(mean_pool2d(x)))))


class Block(nn.Module):
    """Expand, depthwise convolution, weigh channels, project; the shortcut joins narrow ends."""

    def __init__(self, inputs: int, row: Row):
        super().__init__()
        activation = hard_swish if row.hard else relu
        widens = row.hidden != inputs
        self.layers = [
            *([ConvNorm(inputs, row.hidden, 1, 1, 1, activation, NORM_EPS)] if widens else []),
            ConvNorm(
                row.hidden, row.hidden, row.kernel, row.stride, row.hidden, activation, NORM_EPS
            ),
            *([SqueezeExcite(row.hidden)] if row.squeeze else []),
            ConvNorm(row.hidden, row.outputs, 1, activation=None, eps=NORM_EPS),
        ]
        self.residual = row.stride == 1 and inputs == row.outputs

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """Images → feature map of 576 (small) or 960 (large) channels.

    Args:
        arch: "mobilenetv3_small" or "mobilenetv3_large".
    """

    takes_shards = True

    def __init__(self, arch: str):
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, 2, activation=hard_swish, eps=NORM_EPS)
        self.blocks = []
        inputs = STEM
        for row in ARCHITECTURES[arch]:
            self.blocks.append(Block(inputs, row))
            inputs = row.outputs
        self.channels = 6 * inputs
        self.last = ConvNorm(inputs, self.channels, 1, activation=hard_swish, eps=NORM_EPS)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, H/32, W/32, channels)."""
        x = self.stem(x)  # (N, H/2, W/2, 16)
        for block in self.blocks:
            x = block(x)
        return self.last(x)
