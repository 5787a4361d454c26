"""MobileNetV2 (Sandler et al., "Inverted Residuals and Linear Bottlenecks", 2018, table 2)."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..nn import BatchNorm, Conv2d, relu6

NORM_EPS = 1e-5  # PyTorch's default

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
    """Convolution, batch norm and, unless it is None, an activation.

    Args:
        inputs, outputs: channels.
        kernel: side of the window.
        stride: step between windows.
        groups: number of groups of the convolution.
        activation: what follows the norm.
        eps: epsilon of the norm.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[mx.array], mx.array] | None = relu6,
        eps: float = NORM_EPS,
    ):
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = BatchNorm(outputs, eps)
        self.activation = activation

    def __call__(self, x: mx.array) -> mx.array:
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; the shortcut joins the narrow ends.

    Args:
        inputs, outputs: channels of the narrow ends.
        stride: stride of the filter.
        expansion: how much wider the filter is than the inputs.
        kernel: side of the filter's window.
        eps: epsilon of the norms but the projection's, which has `NORM_EPS`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        kernel: int = 3,
        eps: float = NORM_EPS,
    ):
        super().__init__()
        hidden = inputs * expansion
        self.layers = [
            *([ConvNorm(inputs, hidden, 1, eps=eps)] if expansion != 1 else []),
            ConvNorm(hidden, hidden, kernel, stride, groups=hidden, eps=eps),
            ConvNorm(hidden, outputs, 1, activation=None),
        ]
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Images → feature map of 1280 channels.

    Args:
        eps: epsilon of the norms but the projections'; yakhyo's head pose networks have 1e-3.
    """

    channels = 1280
    takes_shards = True

    def __init__(self, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2, eps=eps)
        self.blocks = []
        inputs = 32
        for expansion, outputs, count, stride in STAGES:
            for i in range(count):
                step = stride if i == 0 else 1
                self.blocks.append(InvertedResidual(inputs, outputs, step, expansion, eps=eps))
                inputs = outputs
        self.last = ConvNorm(inputs, self.channels, 1, eps=eps)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, H/32, W/32, 1280)."""
        x = self.stem(x)  # (N, H/2, W/2, 32)
        for block in self.blocks:
            x = block(x)
        return self.last(x)
