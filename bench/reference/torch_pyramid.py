"""The pyramid network in PyTorch, under the published names, to compare with."""

from __future__ import annotations

import torch
from torch import nn

from mlx_headpose.backbones.efficientnetv2 import ARCHITECTURES, level_channels


def unit(i: int, o: int, k: int, stride: int = 1, groups: int = 1, act: bool = True) -> list:
    """Convolution without bias, norm, SiLU."""
    conv = nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(o), *([nn.SiLU(inplace=True)] if act else [])]


class SE(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        gate = self.fc1(x.mean((2, 3), keepdim=True))
        return x * torch.sigmoid(self.fc2(nn.functional.silu(gate)))


class Block(nn.Module):
    def __init__(self, kind: str, i: int, o: int, stride: int, expansion: int):
        super().__init__()
        wide = i * expansion
        parts: dict[str, nn.Module] = {}
        if kind == "fused":
            parts["fused"] = nn.Sequential(*unit(i, wide, 3, stride))
            if expansion > 1:
                parts["fused_point_wise"] = nn.Sequential(*unit(wide, o, 1, act=False))
        else:
            parts["linear_bottleneck"] = nn.Sequential(*unit(i, wide, 1))
            parts["depth_wise"] = nn.Sequential(*unit(wide, wide, 3, stride, groups=wide))
            parts["se"] = SE(wide, i // 4)
            parts["point_wise"] = nn.Sequential(*unit(wide, o, 1, act=False))
        self.block = nn.Sequential()
        for name, part in parts.items():
            self.block.add_module(name, part)
        self.residual = stride == 1 and i == o

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


def pair(i: int, middle: int, o: int, kernels: tuple[int, int], strides: tuple[int, int]):
    """Two convolutions with bias, each with norm and SiLU."""
    layers = []
    for a, b, k, s in zip((i, middle), (middle, o), kernels, strides, strict=True):
        layers += [nn.Conv2d(a, b, k, s, k // 2), nn.BatchNorm2d(b), nn.SiLU()]
    return nn.Sequential(*layers)


class Side(nn.Module):
    def __init__(self, c4: int, c8: int, c16: int, last: int):
        super().__init__()
        self.up1 = pair(last, last, c16, (3, 1), (1, 1))
        self.up2 = pair(c16, c16, c8, (3, 1), (1, 1))
        self.upsample2 = self.upsample(c8)
        self.up3 = pair(c8, c8, c4, (3, 1), (1, 1))
        self.upsample3 = self.upsample(c4)
        self.down0 = pair(c4, c4, c4, (3, 3), (1, 2))
        self.down1 = pair(c4, c8, c8, (3, 3), (1, 2))
        self.down2 = pair(c8, c16, c16, (3, 3), (1, 1))
        self.down3 = pair(c16, last, last, (3, 3), (2, 2))

    @staticmethod
    def upsample(channels: int):
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, 2), nn.BatchNorm2d(channels), nn.SiLU()
        )

    def forward(self, levels):
        a = self.up1(levels[3])
        b = self.up2(a + levels[2])
        c = self.up3(self.upsample2(b) + levels[1])
        x = self.down0(self.upsample3(c) + levels[0])
        return self.down3(self.down2(self.down1(x + c) + b) + a)


class Atrous(nn.Module):
    def __init__(self, channels: int, dilation: int, attend_input: bool):
        super().__init__()
        k = 3 if dilation > 1 else 1
        conv = nn.Conv2d(
            channels, 256, k, padding=dilation * (k // 2), dilation=dilation, bias=False
        )
        self.artous_convolution = nn.Sequential(conv, nn.BatchNorm2d(256), nn.SiLU())
        self.adjust_module = nn.Conv2d(channels if attend_input else 256, 256, 1, bias=False)
        self.bypass_module = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.attend_input = attend_input

    def forward(self, x):
        y = self.artous_convolution(x)
        seen = (x if self.attend_input else y).mean((2, 3), keepdim=True)
        gate = self.bypass_module(self.adjust_module(seen)[:, :, 0].transpose(1, 2))
        return y * torch.sigmoid(gate).transpose(1, 2)[..., None]


class ASPP(nn.Module):
    def __init__(self, channels: int, attend_input: bool):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*unit(channels, 256, 1)),
                Atrous(channels, 1, attend_input),
                Atrous(channels, 2, attend_input),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(channels, 256, 1)),
            ]
        )
        self.project = nn.Sequential(*unit(1024, 256, 1), nn.Dropout(0.5))

    def forward(self, x):
        views = [conv(x) for conv in self.convs]
        views[3] = views[3].expand_as(views[0])
        return self.project(torch.cat(views, 1))


class TorchPyramid(nn.Module):
    """(N, 3, H, W) → the six logits."""

    def __init__(self, arch: str = "efficientnetv2_s", form: str = "pyramid"):
        super().__init__()
        channels, stages, _ = ARCHITECTURES[arch]
        self.stem = nn.Sequential(*unit(3, channels, 3, 2))
        blocks, self.ends = [], []
        for stage in stages:
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(Block(stage.block, channels, stage.channels, stride, stage.expansion))
                channels = stage.channels
            self.ends.append(len(blocks) - 1)
        self.blocks = nn.Sequential(*blocks)
        self.side = Side(*level_channels(arch))
        self.aspp = nn.Sequential(ASPP(channels, form == "pyramid_pfas"), *unit(256, 256, 3))
        for angle in ("yaw", "pitch", "roll"):
            for name, classes in (("coarse", 10), ("shift", 20)):
                self.add_module(f"fc_{angle}_{name}", nn.Linear(256, classes))

    def forward(self, x):
        x = self.stem(x)
        levels = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends[1:]:
                levels.append(x)
        x = self.aspp(self.side(levels)).mean((2, 3))
        return tuple(
            getattr(self, f"fc_{angle}_{name}")(x)
            for angle in ("yaw", "pitch", "roll")
            for name in ("coarse", "shift")
        )
