"""OPAL: an inverted residual network under Euler angles, a quaternion or six numbers.

Cobo, Valle, Buenaposada and Baumela, "On the representation and methodology for wide and short
range head pose estimation" (Pattern Recognition 2024, https://arxiv.org/abs/2401.05807). The
published networks read 128×128 pixels, blue first, and turn with D of docs/conventions.md: their
yaw has the opposite sign of ours, and their six numbers are rows of D. The opal loss treats small,
medium and large errors apart, all by the angle between the rotations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones.irn import IRN
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
from ...nn import mean_pool2d
from ...pose import (
    as_floats,
    geodesic_radians,
    matrix_to_pose,
    pose_to_matrix,
    quaternion_to_matrix,
    rotation_6d_to_matrix,
    wrap,
)

# What the network returns → how many numbers its last layer has.
ROTATIONS = {"euler": 3, "quaternion": 4, "6d": 6}
SMALLEST = 64  # pixels, halved six times before one is left
LEAST_SLOPE = 1e-4  # of the tanh at β: everything below is divided by it
GUARD = 1e-8  # added to divisors, as published: with ε = β = 0 they are 0


@dataclass(frozen=True)
class Config(ModelConfig):
    """OPAL's choices; ε, β, σ and μ are those of its notebook."""

    model_type: ClassVar[str] = "opal"
    recipe: ClassVar[Recipe] = Recipe(lr=1e-4, lr_scratch=1e-3, batch_size=64)
    quick: ClassVar[dict[str, Any]] = {"full_yaw": True}

    preprocessing: Preprocessing = field(
        default_factory=lambda: PROTOCOLS["opal"].cut.apply(
            Preprocessing(size=128, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), colours="BGR")
        )
    )
    rotation: str = option("6d", "what the network returns", choices=tuple(ROTATIONS))
    scale: float = option(
        1.0, "degrees in one unit of Euler angles; the published Panoptic network has 180"
    )
    epsilon: float = option(5.0, "degrees below which an error counts squared; with beta 0, none")
    beta: float = option(15.0, "degrees from which an error counts as it is")
    sigma: float = option(12.0, "steepness, in 1 / radians, of the tanh between them")
    mu: float = option(10.0, "degrees at which the tanh is steepest")
    full_yaw: bool = full_yaw_option()

    def __post_init__(self) -> None:
        if self.rotation not in ROTATIONS:
            raise InputError(
                f"unknown rotation {self.rotation!r}; choose one of: {', '.join(ROTATIONS)}"
            )
        if not 0 < self.scale <= 360:
            raise InputError(f"a scale of {self.scale} degrees is impossible")
        if not 0 <= self.epsilon <= self.beta <= 180 or not 0 <= self.mu <= 180:
            raise InputError(
                f"epsilon {self.epsilon}, beta {self.beta} and mu {self.mu} must be degrees, "
                "epsilon not above beta"
            )
        if not 0 <= self.sigma <= 1000:
            raise InputError(f"a sigma of {self.sigma} is impossible")
        joined = math.tanh(self.sigma * math.radians(self.beta - self.mu))
        flat = self.sigma == 0 or 1 - joined**2 < LEAST_SLOPE
        if self.beta > 0 and flat:
            raise InputError(
                f"with sigma {self.sigma} the tanh is flat at beta {self.beta}, where it joins the "
                "error itself; choose another sigma above 0, or a beta nearer to mu"
            )
        if self.preprocessing.size < SMALLEST:
            raise InputError(
                f"the input size must be at least {SMALLEST}, not {self.preprocessing.size}"
            )


def opal_loss(
    epsilon: float, beta: float, sigma: float, mu: float
) -> Callable[[mx.array], mx.array]:
    """The function from errors to opal losses, both in radians (section 3.3).

    A square below ε, a tanh between, and the error itself from β on, joined so that values and
    slopes meet. With ε = β = 0 it is the error.

    Args:
        epsilon, beta: where the parts meet, in radians.
        sigma: steepness of the tanh, in 1 / radians.
        mu: where the tanh is steepest, in radians.
    """
    centre = mu * sigma
    at_beta = math.tanh(sigma * beta - centre)
    at_epsilon = math.tanh(sigma * epsilon - centre)
    tanh_slope = 1 / (sigma * (1 - at_beta**2) + GUARD)
    square_slope = tanh_slope * sigma * (1 - at_epsilon**2) / (2 * epsilon + GUARD)
    tanh_shift = square_slope * epsilon**2 - tanh_slope * at_epsilon
    linear_shift = tanh_slope * at_beta + tanh_shift - beta

    def loss(error: mx.array) -> mx.array:
        square = square_slope * mx.square(error)
        middle = tanh_slope * mx.tanh(sigma * error - centre) + tanh_shift
        tail = mx.where(error < beta, middle, error + linear_shift)
        return mx.where(error < epsilon, square, tail)

    return loss


class OpalHead(PoseHead):
    """Feature map (N, h, w, C) → Euler angles (N, 3), quaternions (N, 4) or matrices (N, 9).

    The angles are yaw (with the opposite sign of ours), pitch and roll; the quaternion is w, x, y,
    z of any length; the nine numbers are Dᵀ row by row.

    Args:
        channels: C.
        config: config of the network.
    """

    def __init__(self, channels: int, config: Config):
        super().__init__()
        self.rotation = config.rotation
        self.scale = config.scale
        self.full_yaw = config.full_yaw
        self._loss = opal_loss(
            math.radians(config.epsilon),
            math.radians(config.beta),
            config.sigma,
            math.radians(config.mu),
        )
        self.linear = nn.Linear(channels, ROTATIONS[config.rotation])

    def __call__(self, features: mx.array) -> Outputs:
        x = self.linear(mean_pool2d(features)[:, 0, 0])
        return (rotation_6d_to_matrix(x).flatten(1) if self.rotation == "6d" else x,)

    def matrix(self, outputs: Outputs) -> mx.array:
        """Outputs → D, (N, 3, 3)."""
        (x,) = outputs
        if self.rotation == "euler":
            return pose_to_matrix(self._angles(x))
        matrix = quaternion_to_matrix(x) if self.rotation == "quaternion" else x.reshape(-1, 3, 3)
        return matrix.swapaxes(-1, -2)

    def _angles(self, x: mx.array) -> mx.array:
        xp, x = as_floats(x)
        return x * xp.array([-self.scale, self.scale, self.scale])

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Mean opal loss in degrees, of the angle between the rotations."""
        error = geodesic_radians(self.matrix(outputs), pose_to_matrix(pose))
        total = mx.degrees(self._loss(error)).mean()
        return total, {"opal": total}

    def decode(self, outputs: Outputs) -> mx.array:
        """Euler angles come out as the network gives them, unless the full circle is wanted."""
        if self.rotation == "euler" and not self.full_yaw:
            return wrap(self._angles(outputs[0]))
        return matrix_to_pose(self.matrix(outputs), self.full_yaw)


def build(config: Config) -> Estimator:
    """The network with random weights."""
    backbone = IRN()
    return Estimator(config, backbone, OpalHead(backbone.channels, config))
