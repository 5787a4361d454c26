"""ResNet-18/34/50/101/152 (He et al., "Deep Residual Learning for Image Recognition", 2015).

Strides sit in the 3×3 convolution of a bottleneck, as in torchvision's networks, on which
HopeNet's published weights were trained.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..nn import BatchNorm, Conv2d, GroupNorm, MaxPool2d, relu

# depth → (block, number of blocks in each of the four stages)
DEPTHS: dict[int, tuple[str, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


# (channels, whether it is in the stem or the first block of a stage) → normalisation.
NormFactory = Callable[[int, bool], nn.Module]


def batch_norm(channels: int, first: bool) -> nn.Module:
    """Batch norm, as in the paper."""
    return BatchNorm(channels)


def group_norm(channels: int, first: bool) -> nn.Module:
    """32 groups (Wu & He, "Group Normalization", 2018)."""
    return GroupNorm(32, channels, pytorch_compatible=True)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: NormFactory, first: bool):
        super().__init__()
        self.conv1 = Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width, first)
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width, first)
        if stride != 1 or inputs != width:
            self.downsample = [
                Conv2d(inputs, width, 1, stride, bias=False),
                norm(width, first),
            ]

    def __call__(self, x: mx.array) -> mx.array:
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return relu(y + _shortcut(self, x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: NormFactory, first: bool):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width, first)
        self.conv2 = Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm(width, first)
        self.conv3 = Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs, first)
        if stride != 1 or inputs != outputs:
            self.downsample = [
                Conv2d(inputs, outputs, 1, stride, bias=False),
                norm(outputs, first),
            ]

    def __call__(self, x: mx.array) -> mx.array:
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return relu(y + _shortcut(self, x))


def _shortcut(block: nn.Module, x: mx.array) -> mx.array:
    if "downsample" not in block:
        return x
    convolution, norm = block.downsample
    return norm(convolution(x))


class ResNet(nn.Module):
    """Images → feature map; the pose head pools it.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: makes the normalisation after each convolution.
        stages: number of the four stages to build.
        pool: pooling after the stem; None means 3×3 with stride 2.
    """

    takes_shards = True

    def __init__(
        self,
        depth: int,
        norm: NormFactory = batch_norm,
        stages: int = 4,
        pool: nn.Module | None = None,
    ):
        super().__init__()
        kind, counts = DEPTHS[depth]
        block = BasicBlock if kind == "basic" else Bottleneck
        self.conv1 = Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(64, True)
        self.pool = pool or MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for stage, count in enumerate(counts[:stages]):
            width = 64 << stage
            blocks = []
            for i in range(count):
                stride = 2 if i == 0 and stage > 0 else 1
                blocks.append(block(inputs, width, stride, norm, first=i == 0))
                inputs = width * block.expansion
            setattr(self, f"layer{stage + 1}", blocks)
        self.channels = inputs

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, H/32, W/32, channels), with all four stages."""
        x = relu(self.bn1(self.conv1(x)))  # (N, H/2, W/2, 64)
        x = self.pool(x)  # (N, H/4, W/4, 64)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            for block in self.get(stage, []):
                x = block(x)
        return x
