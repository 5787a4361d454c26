"""EfficientNet-B0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946, table 1), TensorFlow's way.

TensorFlow's "same" padding puts the odd pixel at the bottom right, its batch norm has ε = 1e-3, and
squeeze-and-excite reduces to a quarter of the channels that enter the block.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn

from ..nn import BatchNorm, Conv2d, drop_branch, mean_pool2d, sigmoid, silu

# Expansion, kernel, stride of the first block, output channels, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM_CHANNELS = 32
FEATURES = 1280


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless told otherwise, swish."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        swish: bool = True,
    ):
        super().__init__()
        self.conv = Conv2d(inputs, outputs, kernel, stride, "same", groups=groups, bias=False)
        # TensorFlow's momentum of 0.99 (0.01 here) lags behind in trainings of a few hundred steps.
        self.norm = BatchNorm(outputs, eps=1e-3, momentum=0.1)
        self.swish = swish

    def __call__(self, x: mx.array) -> mx.array:
        x = self.norm(self.conv(x))
        return silu(x) if self.swish else x


class SqueezeExcite(nn.Module):
    """Channel weights from the mean over all pixels."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.reduce = Conv2d(channels, reduced, 1)
        self.expand = Conv2d(reduced, channels, 1)

    def __call__(self, x: mx.array) -> mx.array:
        weights = mean_pool2d(x)  # (N, 1, 1, C)
        weights = self.expand(silu(self.reduce(weights)))
        return x * sigmoid(weights)


class MBConv(nn.Module):
    """Inverted bottleneck: expand, filter each channel, squeeze-and-excite, project, add.

    Args:
        drop: probability that the block's branch is dropped from a sample in training
            ("drop connect").
    """

    def __init__(
        self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int, drop: float
    ):
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self.expand = ConvNorm(inputs, wide)
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.excite = SqueezeExcite(wide, inputs // 4)
        self.project = ConvNorm(wide, outputs, swish=False)
        self.residual = stride == 1 and inputs == outputs
        self.drop = drop

    def __call__(self, x: mx.array) -> mx.array:
        y = self.expand(x) if "expand" in self else x
        y = self.project(self.excite(self.depthwise(y)))
        if not self.residual:
            return y
        if self.training and self.drop > 0:
            y = drop_branch(y, self.drop)
        return x + y


class EfficientNetB0(nn.Module):
    """(N, H, W, 3) normalised images → (N, 1280) features.

    Args:
        drop_connect: blocks are dropped with a probability that rises linearly from 0 at the first
            and would reach this one behind the last.
    """

    takes_shards = True

    def __init__(self, drop_connect: float = 0.2):
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2)
        self.blocks: list[MBConv] = []
        count = sum(stage[-1] for stage in STAGES)
        channels = STEM_CHANNELS
        for expansion, kernel, first_stride, outputs, repeats in STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                drop = drop_connect * len(self.blocks) / count
                self.blocks.append(MBConv(channels, outputs, expansion, kernel, stride, drop))
                channels = outputs
        self.top = ConvNorm(channels, FEATURES)
        for module in self.modules():
            if isinstance(module, Conv2d):
                _he_fan_out(module)
            # A block with a shortcut begins as that alone (Goyal et al. 2017, section 5.1).
            if isinstance(module, MBConv) and module.residual:
                module.project.norm.weight = mx.zeros_like(module.project.norm.weight)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.stem(x)  # (N, H/2, W/2, 32)
        for block in self.blocks:
            x = block(x)
        x = self.top(x)  # (N, H/32, W/32, 1280)
        return mean_pool2d(x).squeeze((1, 2))


def _he_fan_out(conv: Conv2d) -> None:
    """The published initialisation: normal with variance 2 / fan-out, biases zero."""
    outputs, height, width, _ = conv.weight.shape
    deviation = math.sqrt(2 * conv.groups / (height * width * outputs))
    conv.weight = mx.random.normal(conv.weight.shape, scale=deviation)
    if "bias" in conv:
        conv.bias = mx.zeros_like(conv.bias)
