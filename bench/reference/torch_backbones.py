"""The small backbones in PyTorch, of the same layers as ours, to compare speed with.

Their weights are random and their names our own; `torch_resnet.py`, `torch_pyramid.py` and
`torch_tokenhpe.py` have the networks that also lend and borrow weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mlx_headpose.backbones import efficientnet, mobilenet

OUTPUTS = 198  # three times HopeNet's 66 bins; what a head costs is nothing beside a backbone


def unit(
    i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, act: Callable | None = nn.ReLU
) -> nn.Sequential:
    """Convolution without bias, norm, activation."""
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), *([] if act is None else [act(inplace=True)]))


class Added(nn.Module):
    """A branch added to its input or to a shortcut, and what follows."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, last: nn.Module):
        super().__init__()
        self.branch, self.shortcut, self.last = branch, shortcut, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.branch(x) + self.shortcut(x))


class Mean(nn.Module):
    """Over all pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def head(channels: int) -> list[nn.Module]:
    return [Mean(), nn.Linear(channels, OUTPUTS)]


def resnet18(stages: int = 4) -> nn.Sequential:
    """ResNet-18, or its first stages."""
    layers: list[nn.Module] = [*unit(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage in range(stages):
        width = 64 << stage
        for i in range(2):
            stride = 2 if i == 0 and stage else 1
            branch = nn.Sequential(unit(inputs, width, 3, stride), unit(width, width, 3, act=None))
            same = stride == 1 and inputs == width
            shortcut = nn.Identity() if same else unit(inputs, width, 1, stride, act=None)
            layers.append(Added(branch, shortcut, nn.ReLU(inplace=True)))
            inputs = width
    return nn.Sequential(*layers, *head(inputs))


class Mirrored(nn.Sequential):
    """The sum of what it says of images and, outside training, of their mirror images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return super().forward(x)
        first, second = super().forward(torch.cat((x, x.flip(3)))).chunk(2)
        return first + second


def bundled(side: int = 4) -> Mirrored:
    """The bundled network: three stages, then layers that see the pixels' places."""
    *layers, _, _ = resnet18(3)
    return Mirrored(
        *layers,
        nn.Conv2d(256, 64, 1),
        nn.Flatten(),
        nn.Linear(64 * side * side, 256),
        nn.ReLU(inplace=True),
        nn.Linear(256, 9),
    )


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.one = nn.Conv2d(squeeze, expand, 1)
        self.three = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x).relu_()
        return torch.cat((self.one(x), self.three(x)), 1).relu_()


def squeezenet1_1() -> nn.Sequential:
    """SqueezeNet 1.1."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace=True)]
    inputs = 64
    for pooled, squeeze in ((1, 16), (0, 16), (1, 32), (0, 32), (1, 48), (0, 48), (0, 64), (0, 64)):
        if pooled:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        layers.append(Fire(inputs, squeeze, 4 * squeeze))
        inputs = 8 * squeeze
    return nn.Sequential(*layers, *head(inputs))


def mobilenetv2() -> nn.Sequential:
    """MobileNetV2."""
    layers: list[nn.Module] = [*unit(3, 32, 3, 2, act=nn.ReLU6)]
    inputs = 32
    for expansion, outputs, count, first in mobilenet.STAGES:
        for i in range(count):
            stride, wide = first if i == 0 else 1, inputs * expansion
            branch = nn.Sequential(
                *([unit(inputs, wide, 1, act=nn.ReLU6)] if expansion > 1 else []),
                unit(wide, wide, 3, stride, wide, nn.ReLU6),
                unit(wide, outputs, 1, act=None),
            )
            same = stride == 1 and inputs == outputs
            layers.append(Added(branch, nn.Identity(), nn.Identity()) if same else branch)
            inputs = outputs
    return nn.Sequential(*layers, *unit(inputs, 1280, 1, act=nn.ReLU6), *head(1280))


class Excite(nn.Module):
    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.expand(gate).sigmoid()


def efficientnet_b0() -> nn.Sequential:
    """EfficientNet-B0, padded as PyTorch pads."""
    layers: list[nn.Module] = [*unit(3, 32, 3, 2, act=nn.SiLU)]
    inputs = 32
    for expansion, kernel, first, outputs, count in efficientnet.STAGES:
        for i in range(count):
            stride, wide = first if i == 0 else 1, inputs * expansion
            branch = nn.Sequential(
                *([unit(inputs, wide, 1, act=nn.SiLU)] if expansion > 1 else []),
                unit(wide, wide, kernel, stride, wide, nn.SiLU),
                Excite(wide, inputs // 4),
                unit(wide, outputs, 1, act=None),
            )
            same = stride == 1 and inputs == outputs
            layers.append(Added(branch, nn.Identity(), nn.Identity()) if same else branch)
            inputs = outputs
    return nn.Sequential(*layers, *unit(inputs, 1280, 1, act=nn.SiLU), *head(1280))
