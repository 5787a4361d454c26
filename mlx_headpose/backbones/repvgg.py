"""RepVGG (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021).

In training a layer is the sum of a 3×3 convolution, a 1×1 convolution and, where the shapes allow
it, nothing at all, each with a batch norm. In evaluation all three are linear, so they fold into
one 3×3 convolution (section 3.3): the deploy form, which computes the same and is faster.
"""

from __future__ import annotations

import re

import mlx.core as mx
import mlx.nn as nn

from ..nn import BatchNorm, Conv2d, relu

WIDTHS = (64, 128, 256, 512)
# name without its groups → (layers, factor on the width) of the four stages: tables 2 and 3.
SIZES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "repvgg_a0": ((2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5)),
    "repvgg_a1": ((2, 4, 14, 1), (1, 1, 1, 2.5)),
    "repvgg_a2": ((2, 4, 14, 1), (1.5, 1.5, 1.5, 2.75)),
    "repvgg_b0": ((4, 6, 16, 1), (1, 1, 1, 2.5)),
    "repvgg_b1": ((4, 6, 16, 1), (2, 2, 2, 4)),
    "repvgg_b2": ((4, 6, 16, 1), (2.5, 2.5, 2.5, 5)),
    "repvgg_b3": ((4, 6, 16, 1), (3, 3, 3, 5)),
}
# Every second layer of the "g" forms has groups.
ARCHS = (*SIZES, *(f"repvgg_b{size}g{groups}" for size in (1, 2, 3) for groups in (2, 4)))


def layout(arch: str) -> tuple[list[list[int]], list[list[int]]]:
    """Output channels and groups of every layer, by stage; the first stage is the stem.

    Args:
        arch: one of `ARCHS`.
    """
    match = re.fullmatch(r"(\w+?)(?:g(\d))?", arch)
    assert match is not None
    counts, factors = SIZES[match[1]]
    grouped = int(match[2] or 1)
    widths = [int(width * factor) for width, factor in zip(WIDTHS, factors, strict=True)]
    channels, groups = [[min(64, widths[0])]], [[1]]
    number = 0
    for count, width in zip(counts, widths, strict=True):
        channels.append([width] * count)
        groups.append([grouped if (number + i) % 2 else 1 for i in range(count)])
        number += count
    return channels, groups


class RepVGGBlock(nn.Module):
    """One layer, in either form.

    Args:
        inputs, outputs: channels.
        stride: stride of its convolutions.
        groups: number of groups of its convolutions.
        deploy: whether the branches are folded.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, deploy: bool):
        super().__init__()
        if deploy:
            self.conv = Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups)
            return
        self.dense = Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)
        self.dense_norm = BatchNorm(outputs)
        self.point = Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)
        self.point_norm = BatchNorm(outputs)
        if stride == 1 and inputs == outputs:
            self.identity_norm = BatchNorm(outputs)

    def __call__(self, x: mx.array) -> mx.array:
        if "conv" in self:
            return relu(self.conv(x))
        y = self.dense_norm(self.dense(x)) + self.point_norm(self.point(x))
        return relu(y + self.identity_norm(x) if "identity_norm" in self else y)

    def folded(self) -> tuple[mx.array, mx.array]:
        """Weight (outputs, 3, 3, inputs / groups) and bias (outputs,) of the deploy form."""
        scale, bias = self.dense_norm.scale_and_shift()
        weight = self.dense.weight * scale[:, None, None, None]
        scale, shift = self.point_norm.scale_and_shift()
        centre = self.point.weight * scale[:, None, None, None]
        bias = bias + shift
        if "identity_norm" in self:
            scale, shift = self.identity_norm.scale_and_shift()
            # As a 1×1 convolution: of its group's inputs, each output takes its own.
            outputs, _, _, each = weight.shape
            own = mx.arange(outputs)[:, None] % each == mx.arange(each)
            centre = centre + (own * scale[:, None])[:, None, None]
            bias = bias + shift
        return weight + mx.pad(centre, [(0, 0), (1, 1), (1, 1), (0, 0)]), bias


class RepVGG(nn.Module):
    """Images → feature map; the pose head pools it.

    Args:
        arch: one of `ARCHS`.
        deploy: whether the branches of every layer are folded.
    """

    takes_shards = True

    def __init__(self, arch: str, deploy: bool = False):
        super().__init__()
        self.arch = arch
        self.deploy = deploy
        inputs = 3
        self.stages = []
        for widths, groups in zip(*layout(arch), strict=True):
            stage = []
            for i, (width, group) in enumerate(zip(widths, groups, strict=True)):
                stage.append(RepVGGBlock(inputs, width, 2 if i == 0 else 1, group, deploy))
                inputs = width
            self.stages.append(stage)
        self.channels = inputs

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, H/32, W/32, channels)."""
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x

    def folded(self) -> RepVGG:
        """The deploy form, which in evaluation computes the same."""
        deploy = RepVGG(self.arch, deploy=True)
        for stage, ours in zip(deploy.stages, self.stages, strict=True):
            for block, trained in zip(stage, ours, strict=True):
                block.conv.weight, block.conv.bias = trained.folded()
        deploy.train(self.training)
        return deploy
