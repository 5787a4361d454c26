"""Nine numbers to the nearest rotation (Levinson et al., "An Analysis of SVD for Deep Rotation
Estimation", NeurIPS 2020, https://arxiv.org/abs/2006.14616), on the first stages of a ResNet-18 or
on MobileNetV2.

The small network that this project trains on rendered heads. The nine numbers are compared with the
true matrix before they become a rotation, so the loss has no plateau anywhere on the full circle of
yaw: from random weights it learns there in minutes, where losses on angles or on finished rotations
wait for thousands of steps.

Where landmarks are known, training may ask for them as well, from the same hidden layer: what tells
where they are also tells the pose. Outside training no network computes them.

Outside training a network may read each crop and its mirror image, and answer the mean of both
matrices, whose rotation is their chordal mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...backbones.mobilenet import MobileNetV2
from ...backbones.resnet import ResNet
from ...core.crop import AROUND_LANDMARKS
from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, option
from ...core.inputs import ImageInput
from ...core.landmarks import POINTS
from ...core.preprocessing import Preprocessing
from ...errors import InputError
from ...nn import relu
from ...pose import (
    as_floats,
    frobenius_distance,
    matrix_to_pose,
    nearest_rotation,
    pose_to_matrix,
    sigmoid,
    wrap,
)

ARCHS = ("resnet18", "mobilenetv2")
# The published crop, k = 0.2, is the middle of those that train.
CROP = replace(AROUND_LANDMARKS, train=replace(AROUND_LANDMARKS.train, k=(0.1, 0.3)))
REDUCED = 64
LEAST = 0.01  # that a length lacks to 1
LANDMARKS_WEIGHT = 0.5  # of their mean distance in half crops, in the loss
SMOOTH = 1e-4  # under the root, where the gradient would be infinite at 0
# Signs of a rotation's elements that a mirror image turns round, if x is the mirror's normal.
MIRROR = np.array([[1, -1, -1], [-1, 1, 1], [-1, 1, 1]], np.float32)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Rotation9D."""

    model_type: ClassVar[str] = "rotation9d"
    recipe: ClassVar[Recipe] = Recipe(lr=1e-4, lr_scratch=1e-3, batch_size=32)
    float16: ClassVar[bool] = True
    learns_absence: ClassVar[bool] = True

    preprocessing: Preprocessing = field(
        default_factory=lambda: Preprocessing(size=64, crop=CROP, standardize=True)
    )
    arch: str = option("resnet18", "backbone", choices=ARCHS)
    stages: int = option(3, "stages of the ResNet-18", choices=(2, 3, 4))
    width: int = option(256, "width of the layer before the nine numbers")
    landmarks: bool = option(False, "train on 68 landmarks as well, which only training computes")
    mirrored: bool = option(False, "outside training, average each crop with its mirror image")
    # a and b of `NineHead.confidence`, fitted by bench/accuracy/calibrate.py.
    calibration: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.arch not in ARCHS:
            raise InputError(f"unknown backbone {self.arch!r}; choose one of: {', '.join(ARCHS)}")
        if len(self.calibration) not in (0, 2) or not all(map(math.isfinite, self.calibration)):
            raise InputError(f"a calibration of {self.calibration} is impossible; give two numbers")
        if not 2 <= self.stages <= 4 or not 1 <= self.width <= 4096:
            raise InputError(f"{self.stages} stages and a width of {self.width} are impossible")
        if self.preprocessing.size % self.stride:
            raise InputError(
                f"input size {self.preprocessing.size} is no multiple of {self.stride}, by which "
                "the backbone shrinks it"
            )

    @property
    def inputs(self) -> ImageInput:
        """Crops of heads."""
        return ImageInput(self.preprocessing, self.landmarks)

    def for_inference(self) -> Config:
        """See `ModelConfig.for_inference`."""
        return replace(self, landmarks=False)

    @property
    def stride(self) -> int:
        """By how much the backbone shrinks a picture."""
        return 2 << self.stages if self.arch == "resnet18" else 32


class NineHead(PoseHead):
    """Feature map (N, h, w, C) → (N, 3, 3), which is not orthogonal.

    In training, where it learns landmarks, also their (N, 68, 2) places in the crop, as
    `core.landmarks.in_crop` has them.

    Outside training a mirrored head reads (2N, h, w, C), those of the crops before those of their
    mirror images.

    Args:
        channels: C.
        side: h and w.
        width: width of the hidden layer.
        calibration: see `confidence`.
        landmarks: whether it learns them.
        mirrored: whether it joins the outputs of each crop and its mirror image outside training.
    """

    # The bundled network's outputs are that long for 10 % of what a detector takes for heads in
    # rendered scenes, 79 % of the backs of heads, and 87 % of the heads from the front.
    min_length = 0.36

    training_only = ("landmarks",)

    def __init__(
        self,
        channels: int,
        side: int,
        width: int,
        calibration: tuple[float, ...] = (),
        landmarks: bool = False,
        mirrored: bool = False,
    ):
        super().__init__()
        self.calibration = calibration
        self.mirrored = mirrored
        self.reduce = nn.Linear(channels, REDUCED)
        self.fc1 = nn.Linear(REDUCED * side * side, width)
        self.fc2 = nn.Linear(width, 9)
        self.fc2.weight *= 0.1  # starts near "no idea", the zero matrix
        if landmarks:
            self.landmarks = nn.Linear(width, 2 * POINTS)
            self.landmarks.weight *= 0.1

    def views(self, inputs: mx.array) -> mx.array:
        """See `PoseHead.views`; the crops are followed by their mirror images."""
        return mx.concatenate([inputs, inputs[:, :, ::-1]]) if self.mirrored else inputs

    def __call__(self, features: mx.array) -> Outputs:
        x = self.reduce(features).flatten(1)  # where in the picture something is must not be lost
        x = relu(self.fc1(x))
        nine = self.fc2(x).reshape(-1, 3, 3)
        if self.training and "landmarks" in self:
            return nine, self.landmarks(x).reshape(-1, POINTS, 2)
        if self.mirrored and not self.training:
            seen, mirrored = nine.reshape(2, -1, 3, 3)
            nine = (seen + mirrored * mx.array(MIRROR)) / 2
        return (nine,)

    def loss(self, outputs: Outputs, target: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Mean Frobenius distance to the true matrix, or where no head is (NaN) to the zero matrix.

        The paper squares it. Unsquared, pictures on which nobody could see the pose weigh less:
        after 20,000 rendered heads the median rotation error was 19.4° in place of 22.6°.

        A network that learns landmarks adds their mean distance, of those that are known.

        Args:
            outputs: what the network returned.
            target: (N, 3) poses in degrees or (N, 139), see `core.inputs.ImageInput`.
        """
        pose = target[:, :3]
        there = ~mx.isnan(pose).any(-1)[:, None, None]
        true = mx.where(there, pose_to_matrix(mx.nan_to_num(pose)), 0)
        distance = frobenius_distance(outputs[0], true, SMOOTH).mean()
        if len(outputs) == 1:
            return distance, {"distance": distance}
        places = target[:, 3:].reshape(-1, POINTS, 2)
        known = ~mx.isnan(places).any(-1)
        off = mx.where(known[..., None], outputs[1] - places, 0)
        far = mx.sqrt(mx.square(off).sum(-1) + SMOOTH) * known
        landmarks = far.sum() / mx.maximum(known.sum(), 1)
        parts = {"distance": distance, "landmarks": landmarks}
        return distance + LANDMARKS_WEIGHT * landmarks, parts

    def error(self, outputs: Outputs, target: mx.array) -> mx.array:
        """See `PoseHead.error`; of the heads alone, 0 if there is none."""
        pose = target[:, :3]
        there = ~mx.isnan(pose).any(-1, keepdims=True)
        errors = mx.abs(wrap(mx.stop_gradient(self.decode(outputs)) - mx.nan_to_num(pose)))
        return (errors * there).sum(0) / mx.maximum(there.sum(), 1)

    def decode(self, outputs: Outputs) -> mx.array:
        return matrix_to_pose(nearest_rotation(outputs[0]), full_yaw=True)

    @property
    def min_confidence(self) -> float:  # type: ignore[override]
        """Confidence below which a crop most likely shows no head."""
        return float(self._chance(np, np.float64(self.min_length)))

    def confidence(self, outputs: Outputs) -> mx.array:
        """Chance that the mean error of the three angles is within 10°.

        The length of the matrix says it: what lies between many possible rotations is shorter than
        each. Platt's scaling (1999) makes a chance of it, sigmoid(a + b·z), where z is the negative
        logarithm of what the length lacks to 1. Networks without a calibration answer the length.
        """
        xp, matrix = as_floats(outputs[0])
        return self._chance(xp, xp.sqrt((matrix * matrix).sum((-2, -1)) / 3))

    def _chance(self, xp: Any, length: Any) -> Any:
        if not self.calibration:
            return xp.minimum(length, 1)
        a, b = self.calibration
        return sigmoid(a + b * logarithm(xp, length))


def logarithm(xp: Any, length: Any) -> Any:
    """−log of what a length lacks to 1; it ends where noise decides."""
    return -xp.log(xp.maximum(1 - length, LEAST) + LEAST)


def build(config: Config) -> Estimator:
    """The network with random weights."""
    resnet = config.arch == "resnet18"
    backbone = ResNet(18, stages=config.stages) if resnet else MobileNetV2()
    side = config.preprocessing.size // config.stride
    head = NineHead(
        backbone.channels,
        side,
        config.width,
        config.calibration,
        config.landmarks,
        config.mirrored,
    )
    return Estimator(config, backbone, head)
