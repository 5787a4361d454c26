"""SemiUHPE: nine numbers to the nearest rotation, on a ResNet or EfficientNetV2.

Zhou, Jiang and Lu, "Semi-Supervised Unconstrained Head Pose Estimation in the Wild"
(https://arxiv.org/abs/2404.02544). A small network on the backbone's mean features gives a 3×3
matrix, whose nearest rotation (by singular values) is the pose. The networks trained on
DAD-3DHeads turn by that set's axes, those trained on 300W-LP by 6DRepNet's R.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones.efficientnetv2 import REST, WholeEfficientNetV2
from ...backbones.resnet import DEPTHS, ResNet
from ...core.estimator import (
    Estimator,
    ModelConfig,
    Outputs,
    PoseHead,
    Recipe,
    full_yaw_option,
    option,
)
from ...core.preprocessing import Preprocessing
from ...data.protocols import PROTOCOLS
from ...errors import InputError
from ...nn import BatchNorm, mean_pool2d, relu6
from ...pose import as_floats, frobenius_distance, nearest_rotation, pose_to_r, r_to_pose

ARCHS = (*(f"resnet{depth}" for depth in DEPTHS), *REST)
AXES = ("300wlp", "dad3dheads")
WIDTHS = (512, 128)  # of the layers between the features and the nine numbers
DROPOUT = 0.2
HALF_TURN = (1.0, -1.0, -1.0)  # Rx(180°), which scales columns
SMOOTH = 1e-4  # under the root, where the gradient would be infinite at 0


@dataclass(frozen=True)
class Config(ModelConfig):
    """SemiUHPE's choices."""

    model_type: ClassVar[str] = "semiuhpe"
    recipe: ClassVar[Recipe] = Recipe(lr=1e-4, lr_scratch=1e-3, batch_size=32)
    small: ClassVar[dict[str, Any]] = {**ModelConfig.small, "arch": "resnet18"}
    quick: ClassVar[dict[str, Any]] = {
        "arch": "resnet18",
        "axes": "300wlp",
        "full_yaw": True,
    }

    preprocessing: Preprocessing = field(
        default_factory=lambda: PROTOCOLS["semiuhpe"].cut.apply(Preprocessing())
    )
    arch: str = option("resnet50", "backbone", choices=ARCHS)
    axes: str = option("dad3dheads", "set whose axes the network's matrix turns by", choices=AXES)
    full_yaw: bool = full_yaw_option()

    def __post_init__(self) -> None:
        if self.arch not in ARCHS:
            raise InputError(f"unknown backbone {self.arch!r}; choose one of: {', '.join(ARCHS)}")
        if self.axes not in AXES:
            raise InputError(f"unknown axes {self.axes!r}; choose one of: {', '.join(AXES)}")
        if self.preprocessing.size < 32:
            raise InputError(f"the input size must be at least 32, not {self.preprocessing.size}")


class MatrixHead(PoseHead):
    """Feature map (N, h, w, C) → (N, 9), a matrix row by row that is no rotation yet.

    Args:
        channels: C.
        config: config of the network.
    """

    def __init__(self, channels: int, config: Config):
        super().__init__()
        self.axes = config.axes
        self.full_yaw = config.full_yaw
        self.dropout = nn.Dropout(DROPOUT)
        first, second = WIDTHS
        self.fc1, self.bn1 = nn.Linear(channels, first), BatchNorm(first)
        self.fc2, self.bn2 = nn.Linear(first, second), BatchNorm(second)
        self.fc3 = nn.Linear(second, 9)

    def __call__(self, features: mx.array) -> Outputs:
        x = self.dropout(mean_pool2d(features)[:, 0, 0])
        x = relu6(self.bn1(self.fc1(x)))
        x = relu6(self.bn2(self.fc2(x)))
        return (self.fc3(x),)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Mean Frobenius distance to the true matrix, before it becomes a rotation."""
        true = network_matrix(pose_to_r(pose), self.axes)
        distance = frobenius_distance(outputs[0].reshape(-1, 3, 3), true, SMOOTH).mean()
        return distance, {"distance": distance}

    def decode(self, outputs: Outputs) -> mx.array:
        matrix = nearest_rotation(outputs[0].reshape(-1, 3, 3))
        return r_to_pose(r_of_network(matrix, self.axes), self.full_yaw)


def network_matrix(r: mx.array, axes: str) -> mx.array:
    """R of 6DRepNet → the matrix that the network learns, (..., 3, 3).

    That of DAD-3DHeads is (R · Rx(180°))ᵀ: heads with y up, cameras that look along z.
    """
    xp, r = as_floats(r)
    return r if axes == "300wlp" else (r * xp.array(HALF_TURN)).swapaxes(-1, -2)


def r_of_network(matrix: mx.array, axes: str) -> mx.array:
    """The way back from `network_matrix`, (..., 3, 3)."""
    xp, matrix = as_floats(matrix)
    return matrix if axes == "300wlp" else matrix.swapaxes(-1, -2) * xp.array(HALF_TURN)


def build(config: Config) -> Estimator:
    """The network with random weights."""
    arch = config.arch
    resnet = arch.startswith("resnet")
    backbone = ResNet(int(arch.removeprefix("resnet"))) if resnet else WholeEfficientNetV2(arch)
    return Estimator(config, backbone, MatrixHead(backbone.channels, config))
