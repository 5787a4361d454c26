"""ResNet-50 with HopeNet's head and loss in PyTorch, for comparison with ours."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class HopeNet(nn.Module):
    """(N, 3, H, W) normalised images → logits of yaw, pitch and roll, each (N, 66)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks, inputs = [], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(count):
                blocks.append(Bottleneck(inputs, width, stride if i == 0 else 1))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.heads = nn.ModuleList(nn.Linear(inputs, 66) for _ in range(3))

    def forward(self, x):
        features = self.blocks(self.stem(x)).mean((2, 3))
        return [head(features) for head in self.heads]


def hopenet_loss(outputs, pose):
    """Cross entropy of the bins plus the squared error of the expectation, over three angles."""
    centres = torch.arange(66, dtype=torch.float32, device=pose.device) * 3 - 99
    total = torch.zeros((), device=pose.device)
    for logits, angle in zip(outputs, pose.unbind(1), strict=True):
        bins = ((angle + 99) / 3).floor().long().clamp(0, 65)
        expected = functional.softmax(logits, 1) @ centres
        total = total + functional.cross_entropy(logits, bins)
        total = total + functional.mse_loss(expected, angle)
    return total
