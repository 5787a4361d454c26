"""MobileNetV2 (Sandler et al., "Inverted Residuals and Linear Bottlenecks", 2018, table 2)."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..nn import BatchNorm, Conv2d, relu6

# expansion, output channels, number of blocks, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvNorm(nn.Module):
    """Convolution, batch norm, and ReLU6 unless `linear`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = BatchNorm(outputs)
        self.linear = linear

    def __call__(self, x: mx.array) -> mx.array:
        x = self.norm(self.conv(x))
        return x if self.linear else relu6(x)


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; the shortcut joins the narrow ends."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.layers = [
            *([ConvNorm(inputs, hidden, 1)] if expansion != 1 else []),
            ConvNorm(hidden, hidden, 3, stride, groups=hidden),
            ConvNorm(hidden, outputs, 1, linear=True),
        ]
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Images → feature map of 1280 channels."""

    channels = 1280
    takes_shards = True

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2)
        self.blocks = []
        inputs = 32
        for expansion, outputs, count, stride in STAGES:
            for i in range(count):
                self.blocks.append(
                    InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion)
                )
                inputs = outputs
        self.last = ConvNorm(inputs, self.channels, 1)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, H/32, W/32, 1280)."""
        x = self.stem(x)  # (N, H/2, W/2, 32)
        for block in self.blocks:
            x = block(x)
        return self.last(x)
