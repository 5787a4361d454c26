"""6DRepNet: six numbers to a rotation, on any of the field's backbones.

Hempel, Abdelrahman and Al-Hamadi, "6D Rotation Representation for Unconstrained Head Pose
Estimation" (ICIP 2022, https://arxiv.org/abs/2202.12555) and "Toward Robust and Unconstrained Full
Range of Rotation Head Pose Estimation" (IEEE TIP 2024, 6DRepNet360). The six numbers are the first
two columns of R = Rz(roll) · Ry(yaw) · Rx(pitch) before Gram-Schmidt's process, and the loss is the
angle of the rotation between R and the true one. 6DRepNet trains it on RepVGG, 6DRepNet360 on
ResNet-50, and yakhyo/head-pose-estimation on ResNets and MobileNets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones import mobilenetv3, repvgg
from ...backbones.mobilenet import MobileNetV2
from ...backbones.resnet import DEPTHS, ResNet
from ...core.estimator import (
    Estimator,
    ModelConfig,
    Outputs,
    PoseHead,
    Recipe,
    canonical,
    full_yaw_option,
    option,
)
from ...core.preprocessing import Preprocessing
from ...data.protocols import PROTOCOLS
from ...errors import InputError
from ...nn import hard_swish, mean_pool2d
from ...pose import (
    frobenius_distance,
    geodesic_radians,
    pose_to_r,
    r_to_pose,
    rotation_6d_to_matrix,
)

ARCHS = (
    *repvgg.ARCHS,
    *(f"resnet{depth}" for depth in DEPTHS),
    "mobilenetv2",
    *mobilenetv3.ARCHITECTURES,
)
LOSSES = ("geodesic", "frobenius")
# Of yakhyo's MobileNetV2, but for its projections.
MOBILENETV2_EPS = 1e-3
# Width of the layer between MobileNetV3's features and the six numbers.
HIDDEN = {"mobilenetv3_small": 1024, "mobilenetv3_large": 1280}


def arch_name(text: str) -> str:
    """The canonical name of a backbone: "RepVGG-B1g2" → "repvgg_b1g2".

    Raises:
        InputError: no such backbone.
    """
    return canonical(text, ARCHS, "backbone")


@dataclass(frozen=True)
class Config(ModelConfig):
    """6DRepNet's choices; the recipe is its train.py's."""

    model_type: ClassVar[str] = "sixdrepnet"
    recipe: ClassVar[Recipe] = Recipe(
        lr=1e-4, lr_scratch=1e-3, batch_size=80, epochs=80, milestones=(10, 20)
    )
    small: ClassVar[dict[str, Any]] = {**ModelConfig.small, "arch": "resnet18"}
    quick: ClassVar[dict[str, Any]] = {"arch": "resnet18", "full_yaw": True}
    legacy_errors: ClassVar[bool] = True

    preprocessing: Preprocessing = field(
        default_factory=lambda: PROTOCOLS["6drepnet"].cut.apply(Preprocessing())
    )
    arch: str = option("repvgg_b1g2", f"backbone: {', '.join(ARCHS)}, in any spelling")
    deploy: bool = option(
        False, "whether each RepVGG layer is one convolution, folded from its branches"
    )
    loss: str = option(
        "geodesic",
        "angle between the rotations (6DRepNet), or that and the Frobenius distance (yakhyo)",
        choices=LOSSES,
    )
    full_yaw: bool = full_yaw_option()

    def __post_init__(self) -> None:
        object.__setattr__(self, "arch", arch_name(self.arch))
        if self.loss not in LOSSES:
            raise InputError(f"unknown loss {self.loss!r}; choose one of: {', '.join(LOSSES)}")
        if self.deploy and not self.arch.startswith("repvgg"):
            raise InputError(f"{self.arch} has no branches to fold; leave out --deploy")
        if self.preprocessing.size < 32:
            raise InputError(f"the input size must be at least 32, not {self.preprocessing.size}")


class SixDHead(PoseHead):
    """Feature map (N, h, w, C) → rotations R, (N, 3, 3).

    Args:
        channels: C.
        config: config of the network.
    """

    def __init__(self, channels: int, config: Config):
        super().__init__()
        self.full_yaw = config.full_yaw
        self.frobenius = config.loss == "frobenius"
        if config.arch in HIDDEN:
            self.hidden = nn.Linear(channels, HIDDEN[config.arch])
            channels = HIDDEN[config.arch]
        self.linear = nn.Linear(channels, 6)

    def six(self, features: mx.array) -> mx.array:
        """(N, h, w, C) → (N, 6), two columns of R before they are made orthonormal."""
        x = mean_pool2d(features)[:, 0, 0]
        if "hidden" in self:
            x = hard_swish(self.hidden(x))
        return self.linear(x)

    def __call__(self, features: mx.array) -> Outputs:
        return (rotation_6d_to_matrix(self.six(features)),)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Mean angle between R and the true one in radians (6DRepNet, equation 7).

        yakhyo's loss adds the Frobenius distance ‖R − R̂‖ of each pair.
        """
        true = pose_to_r(pose)
        parts = {"geodesic": geodesic_radians(outputs[0], true).mean()}
        if self.frobenius:
            parts["frobenius"] = frobenius_distance(outputs[0], true).mean()
        return mx.stack(list(parts.values())).sum(), parts

    def decode(self, outputs: Outputs) -> mx.array:
        return r_to_pose(outputs[0], self.full_yaw)


def build_backbone(arch: str, deploy: bool = False) -> nn.Module:
    """The network under the head."""
    if arch.startswith("repvgg"):
        return repvgg.RepVGG(arch, deploy)
    if arch.startswith("resnet"):
        return ResNet(int(arch.removeprefix("resnet")))
    return MobileNetV2(MOBILENETV2_EPS) if arch == "mobilenetv2" else mobilenetv3.MobileNetV3(arch)


def build(config: Config) -> Estimator:
    """The network with random weights."""
    backbone = build_backbone(config.arch, config.deploy)
    return Estimator(config, backbone, SixDHead(backbone.channels, config))
