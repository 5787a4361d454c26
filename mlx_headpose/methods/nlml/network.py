"""NLML-HPE: head pose from face landmarks by a non-linear manifold.

Ghafourian and Sukno, "NLML-HPE: Head Pose Estimation with Limited Data via Manifold Learning",
2025 (arXiv 2507.18429). A Tucker decomposition of landmarks (`methods/nlml_manifold`) gives each
angle three factors, and each factor is a cosine of that angle. An encoder reads the nine factors
from a face's landmarks, and one small network per angle reads the angle from its three factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, option
from ...data import Dataset
from ...errors import InputError
from .inputs import LandmarkInput

# The tip of the nose and the outer corners of the eyes, counted from 0: MediaPipe's 468 points
# and the 68 points of AFLW2000's `pt3d_68`.
REFERENCE_POINTS = {468: (1, 33, 263), 68: (30, 36, 45)}
RANK = 3  # factors per angle


@dataclass(frozen=True)
class Config(ModelConfig):
    """NLML-HPE's network.

    `landmarks` points are read; `normalization` says how they lose place and size. The rest says
    which poses it learns.
    """

    model_type: ClassVar[str] = "nlml"
    recipe: ClassVar[Recipe] = Recipe(lr=1e-4, lr_scratch=1e-3, batch_size=256, epochs=20)

    landmarks: int = option(
        468, "points per face: 468 (MediaPipe) or 68 (pt3d_68)", choices=tuple(REFERENCE_POINTS)
    )
    normalization: str = option(
        "nose",
        "nose: tip at the origin, eye corners 1 apart; centroid: mean at the origin, RMS radius 1",
        choices=("nose", "centroid"),
    )

    max_yaw: int = option(50, "largest yaw that the network learns, in degrees")
    max_pitch: int = option(40, "largest pitch")
    max_roll: int = option(30, "largest roll")
    step: int = option(10, "degrees between the poses of the manifold's tensor")
    noise: float = option(0.1, "of the landmarks in training, in RMS radii of a face; 0 if exact")
    identity_rank: int = option(5, "ranks of identity that the manifold keeps; more search sharper")

    def __post_init__(self) -> None:
        check_landmarks(self.landmarks, self.normalization)
        if self.identity_rank < 1:
            raise InputError(f"nlml needs an identity rank of 1 or more, not {self.identity_rank}")
        if not 0 <= self.noise < 1:
            raise InputError(f"nlml needs a noise between 0 and 1, not {self.noise}")
        for limit in self.limits:
            if not 0 < self.step <= limit <= 180:
                raise InputError(
                    f"nlml needs limits between the step ({self.step}°) and 180°, not {limit}°"
                )

    @property
    def limits(self) -> tuple[float, float, float]:
        """Largest absolute yaw, pitch and roll in degrees."""
        return self.max_yaw, self.max_pitch, self.max_roll

    @property
    def inputs(self) -> LandmarkInput:
        """Landmarks of a face."""
        return LandmarkInput(self.landmarks)

    def grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Yaws, pitches and rolls of the tensor in degrees, symmetric about 0."""
        yaw, pitch, roll = (
            np.arange(-(limit // self.step), limit // self.step + 1) * float(self.step)
            for limit in self.limits
        )
        return yaw, pitch, roll


def check_landmarks(count: int, normalization: str) -> None:
    """Refuse what `normalize_landmarks` cannot do."""
    if count not in REFERENCE_POINTS:
        raise InputError(f"nlml reads 468 or 68 landmarks, not {count}")
    if normalization not in ("nose", "centroid"):
        raise InputError(f"unknown normalization {normalization!r}: nose or centroid")


def normalize_landmarks(points: mx.array, normalization: str) -> mx.array:
    """Landmarks without place and size, in the axes that the network reads.

    Args:
        points: (N, L, 3) in image axes: x right, y down, z towards the viewer, one unit for all.
        normalization: see `Config`.

    Returns:
        (N, 3·L): x, y and z of each point in turn. z points away from the viewer, as MediaPipe
        has it, and with it the published weights.
    """
    points = points * mx.array([1.0, 1.0, -1.0])
    if normalization == "nose":
        nose, right, left = REFERENCE_POINTS[points.shape[1]]
        size = mx.linalg.norm(points[:, right] - points[:, left], axis=-1)
        points = points - points[:, nose : nose + 1]
    else:
        points = points - points.mean(axis=1, keepdims=True)
        size = mx.sqrt((points**2).sum(axis=-1).mean(axis=-1))
    points = points / mx.maximum(size, 1e-6)[:, None, None]
    return points.reshape(len(points), -1)


class Encoder(nn.Module):
    """Landmarks → nine factors: yaw's three, pitch's three, roll's three."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        widths = (3 * config.landmarks, 1024, 512, 256, 128, 64, 3 * RANK)
        self.layers = [nn.Linear(*pair) for pair in pairwise(widths)]

    def __call__(self, landmarks: mx.array) -> mx.array:
        """(N, L, 3) landmarks in image axes, or (N, 3·L) already normalised → (N, 9)."""
        x = landmarks
        if x.ndim == 3:
            x = normalize_landmarks(x, self.config.normalization)
            if self.training:  # in the weights' type, perhaps bfloat16, too coarse for pixels
                x = x.astype(self.layers[0].weight.dtype)
        *hidden, narrow, last = self.layers
        for layer in hidden:
            x = nn.relu(layer(x))
        return last(mx.tanh(narrow(x)))


class AngleNetwork(nn.Module):
    """Three factors of one angle → that angle in radians."""

    def __init__(self) -> None:
        super().__init__()
        widths = (RANK, 128, 256, 128, 64, 1)
        self.layers = [nn.Linear(*pair) for pair in pairwise(widths)]

    def __call__(self, factors: mx.array) -> mx.array:
        """(N, 3) → (N,)."""
        *hidden, last = self.layers
        x = factors
        for layer in hidden:
            x = nn.relu(layer(x))
        return last(x).squeeze(-1)


class FactorHead(PoseHead):
    """Factors → angles, and the loss against the factors that the manifold gives a pose."""

    def __init__(self) -> None:
        super().__init__()
        self.yaw, self.pitch, self.roll = AngleNetwork(), AngleNetwork(), AngleNetwork()
        # (angle, factor, (a, b, c, d)): factor = a·cos(b·angle + c) + d, angle in radians.
        # Zero until a manifold is fitted; nothing but the loss reads them.
        self.cosines = mx.zeros((3, RANK, 4))
        self.freeze(keys=["cosines"], recurse=False)

    def __call__(self, features: mx.array) -> Outputs:
        """(N, 9) → angles (N, 3) in radians, and the factors themselves."""
        return self.angles(features), features

    def angles(self, factors: mx.array) -> mx.array:
        """(N, 9) → (N, 3) yaw, pitch, roll in radians."""
        networks = (self.yaw, self.pitch, self.roll)
        parts = mx.split(factors, 3, axis=-1)
        return mx.stack(
            [network(part) for network, part in zip(networks, parts, strict=True)], axis=-1
        )

    def factors(self, angles: mx.array) -> mx.array:
        """(N, 3) radians → (N, 9): the cosines of the manifold."""
        a, b, c, d = mx.moveaxis(self.cosines, -1, 0)  # each (3 angles, 3 factors)
        return (a * mx.cos(b * angles[..., None] + c) + d).reshape(len(angles), -1)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Squared error of the factors, plus that of the angles in radians."""
        angles, factors = outputs
        target = mx.radians(pose)
        parts = {
            "factors": nn.losses.mse_loss(factors, self.factors(target)),
            "angles": nn.losses.mse_loss(angles, target),
        }
        return parts["factors"] + parts["angles"], parts

    def decode(self, outputs: Outputs) -> mx.array:
        return outputs[0] * (180 / math.pi)


class NLML(Estimator):
    """The network, and the manifold that it needs before it trains."""

    def prepare(
        self, dataset: Dataset, folder: Path, seed: int, say: Callable[[str], None]
    ) -> Dataset:
        """See `stages.prepare`."""
        from .stages import prepare

        return prepare(self, dataset, folder, seed, say)


def build(config: Config) -> NLML:
    """The network with random weights; its factors mean something once a manifold is fitted."""
    return NLML(config, Encoder(config), FactorHead())
