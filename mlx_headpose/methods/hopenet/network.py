"""HopeNet and HopeLessNet: angles as classes and as their expectation.

Ruiz, Chong & Rehg, "Fine-Grained Head Pose Estimation Without Keypoints" (CVPR workshops 2018):
each angle is sorted into 66 bins of 3°, a network classifies the bin, and the softmax expectation
gives the angle. HopeLessNet puts smaller backbones under the same head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones.mobilenet import MobileNetV2
from ...backbones.resnet import DEPTHS, ResNet, batch_norm, group_norm
from ...backbones.squeezenet import SqueezeNet
from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, canonical, option
from ...errors import InputError
from ...nn import GroupNorm, MaxPool2d, mean_pool2d
from ...pose import Bins, as_floats, sigmoid, stack

ARCHS = (
    *(f"resnet{depth}" for depth in DEPTHS),
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenetv2",
)
NORMS = ("batch", "group", "hopenet_mlx")
BINS = Bins(count=66, width=3.0, offset=-99.0)
# Intercept and slope over ln(spread in degrees), fitted on every second image of AFLW2000 with
# detected faces: bench/accuracy/end_to_end.py.
CONFIDENCE = (15.67, 4.49)


def arch_name(text: str) -> str:
    """The canonical name of an architecture: "Squeezenet_1_0" → "squeezenet1_0".

    Raises:
        InputError: no such architecture.
    """
    return canonical(text, ARCHS, "architecture")


@dataclass(frozen=True)
class Config(ModelConfig):
    """HopeNet's backbone, normalisation and loss weight."""

    model_type = "hopenet"
    recipe = Recipe(
        lr=1e-5, lr_scratch=1e-3, optimizer="adam", batch_size=32, epochs=25, head_lr_scale=5.0
    )
    # From random weights the squared error, in degrees², would drown the cross entropy.
    quick: ClassVar[dict[str, Any]] = {"arch": "resnet18", "alpha": 0.02}
    small: ClassVar[dict[str, Any]] = {**ModelConfig.small, "arch": "squeezenet1_1"}
    largest_roll: ClassVar[float | None] = -BINS.offset

    arch: str = option("resnet50", f"backbone: {', '.join(ARCHS)}, in any spelling")
    norm: str = option("batch", "normalisation of a ResNet", choices=NORMS)
    alpha: float = option(1.0, "weight of the squared error of the expectation in the loss")

    def __post_init__(self) -> None:
        object.__setattr__(self, "arch", arch_name(self.arch))
        if self.norm not in NORMS:
            raise InputError(f"unknown norm {self.norm!r}; choose one of: {', '.join(NORMS)}")
        if self.norm != "batch" and not self.arch.startswith("resnet"):
            raise InputError(f"{self.arch} has only batch norm or none; leave out --norm")
        if self.preprocessing.size < 64:
            raise InputError(f"the input size must be at least 64, not {self.preprocessing.size}")


class BinHead(PoseHead):
    """Three linear classifiers of angle bins on a feature map.

    Args:
        channels: number of channels of the feature map.
        alpha: weight of the squared error in the loss.
        dropout: dropout probability before the classifiers.
        pool_last: whether to classify every position, rectify, then average (SqueezeNet's way),
            instead of averaging the features first.
    """

    classifies = True

    def __init__(
        self, channels: int, alpha: float = 1.0, dropout: float = 0.0, pool_last: bool = False
    ):
        super().__init__()
        self.yaw = nn.Linear(channels, BINS.count)
        self.pitch = nn.Linear(channels, BINS.count)
        self.roll = nn.Linear(channels, BINS.count)
        self.dropout = nn.Dropout(dropout)
        self.alpha = alpha
        self.pool_last = pool_last

    def __call__(self, features: mx.array) -> Outputs:
        """(N, h, w, channels) → logits of yaw, pitch and roll, each (N, 66)."""
        classifiers = (self.yaw, self.pitch, self.roll)
        if self.pool_last:
            features = self.dropout(features)
            return tuple(mean_pool2d(nn.relu(c(features)))[:, 0, 0] for c in classifiers)
        features = self.dropout(mean_pool2d(features)[:, 0, 0])  # (N, channels)
        return tuple(c(features) for c in classifiers)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Cross entropy + α · squared error of the expectation, summed over the angles (eq. 1)."""
        parts = {}
        total = mx.array(0.0)
        for i, name in enumerate(("yaw", "pitch", "roll")):
            logits = outputs[i].astype(mx.float32)
            angle = pose[:, i]
            classes = nn.losses.cross_entropy(logits, BINS.encode(angle), reduction="mean")
            error = BINS.expectation(logits) - angle
            parts[name] = classes + self.alpha * mx.mean(error * error)
            total = total + parts[name]
        return total, parts

    def decode(self, outputs: Outputs) -> mx.array:
        """The expectation Σ softmax · 3 − 99 of each angle, (N, 3)."""
        return stack([BINS.expectation(logits) for logits in outputs])

    def confidence(self, outputs: Outputs) -> mx.array:
        """(N,) the probability that the mean error of the three angles is below 10°.

        A logistic curve of the bins' spread, root mean square over the angles. It was fitted with
        SqueezeNet 1.1 (see `CONFIDENCE`); for other backbones it ranks well, but is not calibrated.
        """
        square = stack([BINS.spread(logits) ** 2 for logits in outputs]).mean(-1)
        intercept, slope = CONFIDENCE
        xp, square = as_floats(square)
        return sigmoid(intercept - slope * 0.5 * xp.log(square + 1e-6))


def hopenet_mlx_norm(channels: int, first: bool) -> nn.Module:
    """The group norm of the published HopeNet-in-MLX weights.

    One group per channel in the stem and the first block of a stage, elsewhere 16 groups in MLX's
    own interleaved grouping. That project also pools 2×2 where torchvision pools 3×3.
    """
    return GroupNorm(channels if first else 16, channels, pytorch_compatible=False)


def build_backbone(arch: str, norm: str = "batch") -> ResNet | SqueezeNet | MobileNetV2:
    """The network under the head."""
    if arch.startswith("resnet"):
        depth = int(arch.removeprefix("resnet"))
        if norm == "hopenet_mlx":
            return ResNet(depth, hopenet_mlx_norm, pool=MaxPool2d(2, stride=2))
        return ResNet(depth, group_norm if norm == "group" else batch_norm)
    if arch.startswith("squeezenet"):
        return SqueezeNet(arch.removeprefix("squeezenet"))
    return MobileNetV2()


def build(config: Config) -> Estimator:
    """HopeNet (or a HopeLessNet) with random weights."""
    backbone = build_backbone(config.arch, config.norm)
    squeezenet = config.arch.startswith("squeezenet")
    dropout = 0.5 if squeezenet else 0.2 if config.arch == "mobilenetv2" else 0.0
    head = BinHead(backbone.channels, config.alpha, dropout, pool_last=squeezenet)
    return Estimator(config, backbone, head)
