"""EfficientNetV2 S, M and L: whole, or cut after stride 16 as a pyramid of four feature maps.

Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, tables 4 and 5.
The pyramid head pose network keeps the stem and the first five stages and drops the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..nn import BatchNorm, Conv2d, drop_branch, mean_pool2d, sigmoid, silu

# PyTorch's default, with which the published head pose networks were trained, from ImageNet weights
# that TensorFlow had trained with 1e-3.
NORM_EPS = 1e-5
TORCHVISION_EPS = 1e-3
# The chance that a block is skipped grows linearly from 0 at the first, and would reach this one
# behind the last of the uncut network.
STOCHASTIC_DEPTH = 0.2


@dataclass(frozen=True)
class Stage:
    """A row of the paper's table: `blocks` times the same block, the first with `stride`."""

    block: str  # "fused" (Fused-MBConv) or "mbconv"
    expansion: int
    stride: int
    channels: int
    blocks: int


# name → (channels of the stem, first five stages, blocks of the uncut network)
ARCHITECTURES: dict[str, tuple[int, tuple[Stage, ...], int]] = {
    "efficientnetv2_s": (
        24,
        (
            Stage("fused", 1, 1, 24, 2),
            Stage("fused", 4, 2, 48, 4),
            Stage("fused", 4, 2, 64, 4),
            Stage("mbconv", 4, 2, 128, 6),
            Stage("mbconv", 6, 1, 160, 9),
        ),
        40,
    ),
    "efficientnetv2_m": (
        24,
        (
            Stage("fused", 1, 1, 24, 3),
            Stage("fused", 4, 2, 48, 5),
            Stage("fused", 4, 2, 80, 5),
            Stage("mbconv", 4, 2, 160, 7),
            Stage("mbconv", 6, 1, 176, 14),
        ),
        57,
    ),
    "efficientnetv2_l": (
        32,
        (
            Stage("fused", 1, 1, 32, 4),
            Stage("fused", 4, 2, 64, 7),
            Stage("fused", 4, 2, 96, 7),
            Stage("mbconv", 4, 2, 192, 10),
            Stage("mbconv", 6, 1, 224, 19),
        ),
        79,
    ),
}

# The stages that the pyramid network drops.
REST: dict[str, tuple[Stage, ...]] = {
    "efficientnetv2_s": (Stage("mbconv", 6, 2, 256, 15),),
    "efficientnetv2_m": (Stage("mbconv", 6, 2, 304, 18), Stage("mbconv", 6, 1, 512, 5)),
    "efficientnetv2_l": (Stage("mbconv", 6, 2, 384, 25), Stage("mbconv", 6, 1, 640, 7)),
}


def level_channels(arch: str) -> tuple[int, ...]:
    """Channels of the four feature maps, from stride 4 to the last at stride 16."""
    return tuple(stage.channels for stage in ARCHITECTURES[arch][1][1:])


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless `activation` is False, SiLU. Keeps H×W at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = False,
        activation: bool = True,
        eps: float = NORM_EPS,
    ):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation, groups, bias
        )
        self.norm = BatchNorm(out_channels, eps=eps)
        self.activation = activation

    def __call__(self, x: mx.array) -> mx.array:
        x = self.norm(self.conv(x))
        return silu(x) if self.activation else x


class SqueezeExcitation(nn.Module):
    """Weights each channel by a small network's look at all channel means."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.reduce = nn.Linear(channels, squeezed)
        self.expand = nn.Linear(squeezed, channels)

    def __call__(self, x: mx.array) -> mx.array:
        gate = mean_pool2d(x)[:, 0, 0]  # (N, C)
        gate = sigmoid(self.expand(silu(self.reduce(gate))))
        return x * gate[:, None, None]


class Block(nn.Module):
    """Base of both blocks: a residual around `transform` where the shapes allow it.

    Args:
        skip: whether the input is added to the output.
        drop: chance that training leaves the transform out for a sample (stochastic depth).
    """

    def __init__(self, skip: bool, drop: float):
        super().__init__()
        self.skip = skip
        self.drop = drop

    def transform(self, x: mx.array) -> mx.array:
        raise NotImplementedError

    def __call__(self, x: mx.array) -> mx.array:
        y = self.transform(x)
        if not self.skip:
            return y
        if self.training and self.drop > 0:
            y = drop_branch(y, self.drop)
        return x + y


class FusedMBConv(Block):
    """A 3×3 convolution that widens, then a 1×1 that narrows; without expansion only the first."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, drop: float, eps: float
    ):
        super().__init__(skip=stride == 1 and inputs == outputs, drop=drop)
        self.fused = ConvNorm(inputs, inputs * expansion, 3, stride, eps=eps)
        if expansion > 1:
            self.narrow = ConvNorm(inputs * expansion, outputs, 1, activation=False, eps=eps)

    def transform(self, x: mx.array) -> mx.array:
        x = self.fused(x)
        return self.narrow(x) if "narrow" in self else x


class MBConv(Block):
    """1×1 that widens, 3×3 depthwise, squeeze-and-excitation, 1×1 that narrows."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, drop: float, eps: float
    ):
        super().__init__(skip=stride == 1 and inputs == outputs, drop=drop)
        wide = inputs * expansion
        self.expand = ConvNorm(inputs, wide, 1, eps=eps)
        self.depthwise = ConvNorm(wide, wide, 3, stride, groups=wide, eps=eps)
        self.se = SqueezeExcitation(wide, inputs // 4)
        self.project = ConvNorm(wide, outputs, 1, activation=False, eps=eps)

    def transform(self, x: mx.array) -> mx.array:
        return self.project(self.se(self.depthwise(self.expand(x))))


class EfficientNetV2(nn.Module):
    """Images → feature maps at strides 4, 8, 16 and 16, the ends of stages two to five.

    Args:
        arch: a key of `ARCHITECTURES`.
        rest: further stages behind the fifth.
        eps: epsilon of the norms.
    """

    def __init__(self, arch: str, rest: tuple[Stage, ...] = (), eps: float = NORM_EPS):
        super().__init__()
        stem, stages, uncut_blocks = ARCHITECTURES[arch]
        self.stem = ConvNorm(3, stem, 3, stride=2, eps=eps)
        self.blocks: list[Block] = []
        level_ends: list[int] = []  # the last block of each stage from the second on
        channels = stem
        for stage in (*stages, *rest):
            block = FusedMBConv if stage.block == "fused" else MBConv
            for i in range(stage.blocks):
                drop = STOCHASTIC_DEPTH * len(self.blocks) / uncut_blocks
                stride = stage.stride if i == 0 else 1
                self.blocks.append(
                    block(channels, stage.channels, stride, stage.expansion, drop, eps)
                )
                channels = stage.channels
            if stage is not stages[0]:
                level_ends.append(len(self.blocks) - 1)
        self.level_ends = tuple(level_ends)

    def __call__(self, x: mx.array) -> Any:
        """(N, H, W, 3) → (N, H/4, W/4, ·), (N, H/8, W/8, ·), (N, H/16, W/16, ·) twice."""
        x = self.stem(x)  # (N, H/2, W/2, C)
        levels = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.level_ends:
                levels.append(x)
        return tuple(levels)


class WholeEfficientNetV2(EfficientNetV2):
    """Images → feature map of 1280 channels, with every stage, as torchvision has it."""

    channels = 1280

    def __init__(self, arch: str):
        super().__init__(arch, REST[arch], eps=TORCHVISION_EPS)
        self.last = ConvNorm(REST[arch][-1].channels, self.channels, 1, eps=TORCHVISION_EPS)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, H/32, W/32, 1280)."""
        return self.last(super().__call__(x)[-1])
