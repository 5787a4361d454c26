"""yakhyo's networks in PyTorch under torchvision's names, to be exported as its releases are."""

from __future__ import annotations

import torch
from torch import nn

from mlx_headpose.backbones.mobilenetv3 import ARCHITECTURES, STEM, Row, rounded_to_eight


class SixD(nn.Module):
    """Features → mean → linear layers → rotation by Gram-Schmidt, as columns."""

    def six_to_matrix(self, six: torch.Tensor) -> torch.Tensor:
        x = nn.functional.normalize(six[:, :3], dim=1)
        z = nn.functional.normalize(torch.cross(x, six[:, 3:], dim=1), dim=1)
        return torch.stack([x, torch.cross(z, x, dim=1), z], 2)


class Basic(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            convolution = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(SixD):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, width in enumerate((64, 128, 256, 512)):
            stride = 1 if stage == 0 else 2
            blocks = nn.Sequential(Basic(inputs, width, stride), Basic(width, width, 1))
            setattr(self, f"layer{stage + 1}", blocks)
            inputs = width
        self.linear_reg = nn.Linear(512, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.six_to_matrix(self.linear_reg(x.mean((2, 3))))


def conv_norm(i: int, o: int, k: int, s: int = 1, groups: int = 1, act: type | None = None):
    layers = [nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o, 1e-3)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Squeeze(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, rounded_to_eight(channels / 4), 1)
        self.fc2 = nn.Conv2d(rounded_to_eight(channels / 4), channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.relu(self.fc1(nn.functional.adaptive_avg_pool2d(x, 1)))
        return x * nn.functional.hardsigmoid(self.fc2(gate))


class Residual(nn.Module):
    def __init__(self, inputs: int, row: Row):
        super().__init__()
        act = nn.Hardswish if row.hard else nn.ReLU
        wide = row.hidden
        self.block = nn.Sequential(
            *([conv_norm(inputs, wide, 1, act=act)] if wide != inputs else []),
            conv_norm(wide, wide, row.kernel, row.stride, wide, act),
            *([Squeeze(wide)] if row.squeeze else []),
            conv_norm(wide, row.outputs, 1),
        )
        self.residual = row.stride == 1 and inputs == row.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class MobileNetV3(SixD):
    def __init__(self, arch: str, hidden: int):
        super().__init__()
        layers = [conv_norm(3, STEM, 3, 2, act=nn.Hardswish)]
        inputs = STEM
        for row in ARCHITECTURES[arch]:
            layers.append(Residual(inputs, row))
            inputs = row.outputs
        layers.append(conv_norm(inputs, 6 * inputs, 1, act=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        last = nn.Linear(hidden, 6)
        self.linear_reg = nn.Sequential(nn.Linear(6 * inputs, hidden), nn.Hardswish(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.six_to_matrix(self.linear_reg(self.features(x).mean((2, 3))))
