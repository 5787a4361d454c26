"""WHENet (Zhou and Gregson 2020, https://arxiv.org/abs/2005.10353): the full circle of yaw.

EfficientNet-B0, and one linear layer per angle over bins of 3°: 120 from −180° for yaw, 66 from
−99° for pitch and roll. The loss is HopeNet's, a cross entropy over bins and a regression of the
softmax's expectation, with the regression of yaw wrapped: −179° and 179° are 2° apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones.efficientnet import FEATURES, EfficientNetB0
from ...core.crop import AROUND_HEAD
from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, option
from ...core.preprocessing import Preprocessing
from ...errors import InputError
from ...pose import Bins, as_floats, softmax, stack, wrap, wrapped_square

# In the order of a pose.
BINS = {"yaw": Bins(120, 3, -180), "pitch": Bins(66, 3, -99), "roll": Bins(66, 3, -99)}


@dataclass(frozen=True)
class Config(ModelConfig):
    """WHENet."""

    model_type: ClassVar[str] = "whenet"
    recipe: ClassVar[Recipe] = Recipe(lr=1e-5, lr_scratch=2e-3, batch_size=32)
    quick: ClassVar[dict[str, Any]] = {"label_width": 10.0, "drop_connect": 0.0}
    largest_roll: ClassVar[float | None] = -BINS["roll"].offset

    preprocessing: Preprocessing = field(
        default_factory=lambda: Preprocessing(resize="squash", crop=AROUND_HEAD)
    )
    # HopeNet's 1 drowns the cross entropy at first: at random the squared error of yaw is 10,800.
    alpha: float = option(1e-4, "weight of the squared error beside the cross entropy")
    label_width: float = option(
        0.0,
        "standard deviation in degrees of the labels' Gaussian over the bins, which learns from "
        "fewer samples; 0 labels one bin, as published",
    )
    decoding: str = option(
        "circular",
        "how the bins of yaw become an angle: their mean direction, or the published expectation, "
        "which averages the two sides of the seam at 180 degrees to 0",
        choices=("circular", "expectation"),
    )
    drop_connect: float = option(
        0.2, "probability of dropping a block in training: it rises from 0 towards this at the end"
    )

    def __post_init__(self) -> None:
        if self.decoding not in ("circular", "expectation"):
            raise InputError(f"decoding {self.decoding!r} is neither circular nor expectation")
        if not 0 <= self.drop_connect < 1:
            raise InputError(f"drop_connect {self.drop_connect} is not in 0..1")
        for name in ("alpha", "label_width"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be 0 or more, not {value}")


def soft_labels(angles: mx.array, bins: Bins, width: float) -> mx.array:
    """(N,) degrees → (N, count): a Gaussian around each angle, on a circle across the seam too."""
    difference = mx.array(bins.lower_edges, mx.float32) - angles[:, None]
    if bins.circular:
        difference = wrap(difference)
    return mx.softmax(-0.5 * mx.square(difference / width), axis=1)


class WHENetHead(PoseHead):
    """(N, 1280) features → logits of yaw (N, 120), pitch (N, 66) and roll (N, 66)."""

    classifies = True

    def __init__(self, config: Config):
        super().__init__()
        self.alpha = config.alpha
        self.label_width = config.label_width
        self.decoding = config.decoding
        self.yaw, self.pitch, self.roll = (
            nn.Linear(FEATURES, bins.count) for bins in BINS.values()
        )

    def __call__(self, features: mx.array) -> Outputs:
        return self.yaw(features), self.pitch(features), self.roll(features)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Σ over angles of cross entropy + α · squared error of the expectation (yaw: wrapped)."""
        parts = {}
        for logits, (name, bins), true in zip(outputs, BINS.items(), pose.T, strict=True):
            labels = (
                soft_labels(true, bins, self.label_width)
                if self.label_width > 0
                else bins.encode(true)
            )
            entropy = nn.losses.cross_entropy(logits, labels, reduction="mean")
            difference = bins.expectation(logits) - true
            square = wrapped_square(difference) if bins.circular else mx.square(difference)
            parts[name] = entropy + self.alpha * square.mean()
        return parts["yaw"] + parts["pitch"] + parts["roll"], parts

    def decode(self, outputs: Outputs) -> mx.array:
        angles = [
            bins.circular_expectation(logits)
            if bins.circular and self.decoding == "circular"
            else bins.expectation(logits)
            for logits, bins in zip(outputs, BINS.values(), strict=True)
        ]
        return stack(angles)

    def confidence(self, outputs: Outputs) -> mx.array:
        """(N,) the largest yaw probability over three neighbouring bins, across the seam too."""
        xp, weights = as_floats(softmax(outputs[0]))
        three = weights + xp.roll(weights, 1, 1) + xp.roll(weights, -1, 1)
        return three.max(axis=1)


def build(config: Config) -> Estimator:
    """A network with random weights."""
    return Estimator(config, EfficientNetB0(config.drop_connect), WHENetHead(config))
