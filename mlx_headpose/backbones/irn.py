"""OPAL's inverted residual network (Cobo et al., "On the representation and methodology for wide
and short range head pose estimation", Pattern Recognition 2024, https://arxiv.org/abs/2401.05807).

Inverted residuals as MobileNetV2's, six times as wide inside; 2×2 convolutions of stride 2 halve
the image between the stages, and a global maximum ends it before the last residual.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..cpu.shards import each_shard
from ..nn import relu
from .mobilenet import ConvNorm, InvertedResidual

STEM = 32
EXPANSION = 6
# Channels, residuals and whether a convolution of stride 2 opens the stage.
STAGES = (
    (32, 1, False),
    (64, 1, True),
    (128, 2, True),
    (256, 3, True),
    (256, 4, True),
    (256, 1, True),
    (256, 1, True),
)


class Stage(nn.Module):
    """A 2×2 convolution of stride 2, unless the size stays, and inverted residuals."""

    def __init__(self, inputs: int, outputs: int, count: int, halves: bool):
        super().__init__()
        if halves:
            self.reduce = ConvNorm(inputs, outputs, 2, 2, activation=relu)
        self.blocks = [InvertedResidual(outputs, outputs, 1, EXPANSION) for _ in range(count)]

    def __call__(self, x: mx.array) -> mx.array:
        if "reduce" in self:
            x = self.reduce(x)
        for block in self.blocks:
            x = block(x)
        return x


class IRN(nn.Module):
    """Images → feature map of one pixel with 256 channels."""

    channels = 256
    takes_shards = True

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 1, activation=relu)
        self.stages = []
        inputs = STEM
        for outputs, count, halves in STAGES:
            self.stages.append(Stage(inputs, outputs, count, halves))
            inputs = outputs
        # Of one pixel, a depthwise convolution is one number a channel.
        self.last = InvertedResidual(inputs, inputs, 1, EXPANSION, kernel=1)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3), H and W at least 64 → (N, 1, 1, 256)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)  # at last (N, H/64, W/64, 256)
        return self.last(_largest(x))


@each_shard
def _largest(x: mx.array) -> mx.array:
    """(N, H, W, C) → (N, 1, 1, C), the maximum over the image."""
    return x.max(axis=(1, 2), keepdims=True)
