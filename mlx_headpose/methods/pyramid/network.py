"""Pyramid head pose network: feature pyramid aggregation over EfficientNetV2.

"Telemedicine Application of Deep-learning-based Head Pose Estimation from RGB Image Sequence" and
its public code, in both forms that were published. Features of four levels flow down a top-down
path and up a bottom-up path, an atrous spatial pyramid pooling (ASPP) with channel attention looks
at them at several scales, and each angle is a coarse bin of 20° plus a shift of 0 to 19°.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones.efficientnetv2 import ConvNorm, EfficientNetV2, level_channels
from ...core.crop import AROUND_LANDMARKS
from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, option
from ...core.preprocessing import Preprocessing
from ...errors import InputError
from ...nn import BatchNorm, ConvTranspose2d, mean_pool2d, sigmoid, silu
from ...pose import Bins, softmax, stack, wrapped_square

ANGLES = ("yaw", "pitch", "roll")
COARSE = Bins(count=10, width=20, offset=-100)
SHIFT = Bins(count=20, width=1, offset=0)  # from the beginning of a coarse bin

WIDTH = 256  # channels of the ASPP and of the pooled feature

# What people call the three sizes: `--efficient 4/3/2` is the published command line's.
SIZES = {"s": "s", "m": "m", "l": "l", "4": "s", "3": "m", "2": "l"}


def arch_name(spelling: str) -> str:
    """The canonical name of a backbone, from any spelling in any case.

    Raises:
        InputError: no such backbone.
    """
    short = re.sub(r"[-_ ]|efficientnet|v2", "", str(spelling).lower())
    if short not in SIZES:
        raise InputError(
            f"pyramid has no backbone {spelling!r}; "
            "choose efficientnetv2_s, efficientnetv2_m or efficientnetv2_l"
        )
    return f"efficientnetv2_{SIZES[short]}"


@dataclass(frozen=True)
class Config(ModelConfig):
    """The pyramid network's sizes and form."""

    model_type: ClassVar[str] = "pyramid"
    recipe: ClassVar[Recipe] = Recipe(
        lr=1e-5,
        lr_scratch=3e-4,  # at 1e-3 it learns more slowly
        optimizer="adamw",
        weight_decay=0.01,
        batch_size=32,
        epochs=100,
        head_lr_scale=5.0,
        head_parameters=tuple(f"head.{angle}_" for angle in ANGLES),
    )
    largest_roll: ClassVar[float | None] = -COARSE.offset

    preprocessing: Preprocessing = field(
        default_factory=lambda: Preprocessing(size=224, resize="squash", crop=AROUND_LANDMARKS)
    )
    arch: str = option(
        "efficientnetv2_s",
        "backbone: efficientnetv2_s, efficientnetv2_m or efficientnetv2_l, or 4, 3, 2 for these",
        "--arch",
        "--efficient",
    )
    form: str = option(
        "pyramid",
        "where the channel attention looks: pyramid at its branch's output, "
        "pyramid_pfas at the ASPP's input",
        choices=("pyramid", "pyramid_pfas"),
    )
    loss: str = option(
        "symmetric",
        "how errors wrap at 360 degrees: symmetric, or published (which wraps one side only)",
        choices=("symmetric", "published"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "arch", arch_name(self.arch))
        for name in ("form", "loss"):
            choices = next(f for f in dataclasses.fields(self) if f.name == name).metadata[
                "choices"
            ]
            if getattr(self, name) not in choices:
                raise InputError(
                    f"pyramid has no {name} {getattr(self, name)!r}; "
                    f"choose one of: {', '.join(choices)}"
                )
        if self.preprocessing.size % 32 or self.preprocessing.size < 32:
            raise InputError(
                f"pyramid cannot read images of {self.preprocessing.size} pixels; "
                "choose a size that is a multiple of 32"
            )


class Up(nn.Module):
    """One step of the top-down path: refine, then narrow to the next level's channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.refine = ConvNorm(in_channels, in_channels, 3, bias=True)
        self.narrow = ConvNorm(in_channels, out_channels, 1, bias=True)

    def __call__(self, x: mx.array) -> mx.array:
        return self.narrow(self.refine(x))


class Upsample(nn.Module):
    """Twice the height and width, learned."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ConvTranspose2d(channels, channels, 2, stride=2)
        self.norm = BatchNorm(channels)

    def __call__(self, x: mx.array) -> mx.array:
        return silu(self.norm(self.conv(x)))


class Down(nn.Module):
    """One step of the bottom-up path: two 3×3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, strides: tuple[int, int]):
        super().__init__()
        self.first = ConvNorm(in_channels, out_channels, 3, strides[0], bias=True)
        self.second = ConvNorm(out_channels, out_channels, 3, strides[1], bias=True)

    def __call__(self, x: mx.array) -> mx.array:
        return self.second(self.first(x))


class FeaturePyramidAggregation(nn.Module):
    """Top-down and bottom-up paths over four levels, joined by sums at each level.

    Args:
        channels: number of channels of the four levels, finest first.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        c4, c8, c16, c16_last = channels
        self.up1 = Up(c16_last, c16)
        self.up2 = Up(c16, c8)
        self.upsample2 = Upsample(c8)
        self.up3 = Up(c8, c4)
        self.upsample3 = Upsample(c4)
        self.down0 = Down(c4, c4, (1, 2))
        self.down1 = Down(c4, c8, (1, 2))
        self.down2 = Down(c8, c16, (1, 1))
        self.down3 = Down(c16, c16_last, (2, 2))

    def __call__(self, levels: tuple[mx.array, ...]) -> mx.array:
        """Maps at strides 4, 8, 16, 16 → (N, ⌈H/64⌉, ⌈W/64⌉, last level's channels)."""
        x4, x8, x16, x16_last = levels
        p16 = self.up1(x16_last)  # (N, H/16, W/16, c16)
        p16_narrow = self.up2(p16 + x16)  # (N, H/16, W/16, c8)
        p8 = self.up3(self.upsample2(p16_narrow) + x8)  # (N, H/8, W/8, c4)
        x = self.down0(self.upsample3(p8) + x4)  # (N, H/8, W/8, c4)
        x = self.down1(x + p8)  # (N, H/16, W/16, c8)
        x = self.down2(x + p16_narrow)  # (N, H/16, W/16, c16)
        return self.down3(x + p16)


class AtrousBranch(nn.Module):
    """A convolution whose channels are weighted by efficient channel attention (ECA).

    Wang et al., "ECA-Net", CVPR 2020, with a learned mixing of the channel means in front. The
    published forms differ in what the attention looks at: the branch's own output ("pyramid"), or
    the ASPP's input ("pyramid_pfas").
    """

    def __init__(self, in_channels: int, dilation: int, attend_input: bool):
        super().__init__()
        self.attend_input = attend_input
        self.atrous = ConvNorm(in_channels, WIDTH, 3 if dilation > 1 else 1, dilation=dilation)
        self.adjust = nn.Linear(in_channels if attend_input else WIDTH, WIDTH, bias=False)
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        y = self.atrous(x)
        means = mean_pool2d(x if self.attend_input else y)[:, 0, 0]
        gate = self.eca(self.adjust(means)[..., None])  # (N, C, 1): neighbours are channels
        return y * sigmoid(gate)[:, None, None, :, 0]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: four views of the map side by side, then mixed."""

    def __init__(self, in_channels: int, attend_input: bool):
        super().__init__()
        self.point = ConvNorm(in_channels, WIDTH, 1)
        self.atrous1 = AtrousBranch(in_channels, 1, attend_input)
        self.atrous2 = AtrousBranch(in_channels, 2, attend_input)
        self.pool = ConvNorm(in_channels, WIDTH, 1)
        self.project = ConvNorm(4 * WIDTH, WIDTH, 1)
        self.dropout = nn.Dropout(0.5)
        self.refine = ConvNorm(WIDTH, WIDTH, 3)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, h, w, C) → (N, h, w, 256)."""
        point = self.point(x)
        whole = mx.broadcast_to(self.pool(mean_pool2d(x)), point.shape)
        x = mx.concatenate([point, self.atrous1(x), self.atrous2(x), whole], axis=-1)
        return self.refine(self.dropout(self.project(x)))


class PyramidHead(PoseHead):
    """Four feature maps → for each angle 10 coarse bins of 20° and 20 shifts of 1°."""

    classifies = True

    def __init__(self, channels: tuple[int, ...], form: str, loss: str):
        super().__init__()
        self.one_sided = loss == "published"
        self.aggregation = FeaturePyramidAggregation(channels)
        self.aspp = ASPP(channels[-1], attend_input=form == "pyramid_pfas")
        for angle in ANGLES:
            self[f"{angle}_coarse"] = nn.Linear(WIDTH, COARSE.count)
            self[f"{angle}_shift"] = nn.Linear(WIDTH, SHIFT.count)

    def __call__(self, features: tuple[mx.array, ...]) -> Outputs:
        """Feature maps → yaw's, pitch's and roll's (N, 10) coarse and (N, 20) shift logits."""
        x = mean_pool2d(self.aspp(self.aggregation(features)))[:, 0, 0]  # (N, 256)
        return tuple(self[f"{angle}_{part}"](x) for angle in ANGLES for part in ("coarse", "shift"))

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Cross entropy of the bin and of the shift, plus the wrapped squared error in degrees².

        An angle outside −100..100° counts as the nearest bin and shift; its squared error is that
        of the true angle.
        """
        coarse_labels, shift_labels = labels(pose)
        wrapped = one_sided_squared_error if self.one_sided else wrapped_squared_error
        parts = {}
        for i, angle in enumerate(ANGLES):
            coarse, shift = outputs[2 * i : 2 * i + 2]
            parts[angle] = (
                nn.losses.cross_entropy(coarse, coarse_labels[:, i], reduction="mean")
                + nn.losses.cross_entropy(shift, shift_labels[:, i], reduction="mean")
                + wrapped(expected_angle(coarse, shift), pose[:, i]).mean()
            )
        return parts["yaw"] + parts["pitch"] + parts["roll"], parts

    def decode(self, outputs: Outputs) -> mx.array:
        """Expected angle of the bins plus that of the shifts, (N, 3) in degrees."""
        return stack([expected_angle(*outputs[2 * i : 2 * i + 2]) for i in range(len(ANGLES))])

    def confidence(self, outputs: Outputs) -> mx.array:
        """Probability of the likeliest coarse bin, mean over the angles."""
        return stack([softmax(coarse).max(-1) for coarse in outputs[::2]]).mean(-1)


def labels(pose: mx.array) -> tuple[mx.array, mx.array]:
    """(..., 3) degrees → coarse bin 0..9 and shift 0..19 of each angle, as int32.

    The nearest of them for an angle outside −100..100°.
    """
    coarse = COARSE.encode(pose)
    return coarse, SHIFT.encode(pose - COARSE.offset - COARSE.width * coarse)


def expected_angle(coarse: mx.array, shift: mx.array) -> mx.array:
    """(N, 10) and (N, 20) logits → (N,) degrees: the bins' expectation plus the shifts'."""
    return COARSE.expectation(coarse) + SHIFT.expectation(shift)


def wrapped_squared_error(predicted: mx.array, target: mx.array) -> mx.array:
    """Square of the shorter way round, degrees²."""
    return wrapped_square(predicted - target)


def one_sided_squared_error(predicted: mx.array, target: mx.array) -> mx.array:
    """As published: wraps only where the prediction is the larger of the two."""
    difference = predicted - target
    return mx.minimum(difference**2, (360 - difference) ** 2)


def build(config: Config) -> Estimator:
    """The network with random weights."""
    backbone = EfficientNetV2(config.arch)
    head = PyramidHead(level_channels(config.arch), config.form, config.loss)
    model = Estimator(config, backbone, head)
    initialise(model)
    return model


def initialise(model: nn.Module) -> None:
    """Random weights of the dense layers: 0.01 for the outputs, He's normal by fan-out elsewhere.

    Convolutions keep MLX's. He's, which are larger, learn more slowly with Adam: after 24,000
    synthetic heads the validation MAE was 13.3° in place of 11.5°.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        output = name.endswith(("_coarse", "_shift"))
        deviation = 0.01 if output else math.sqrt(2 / len(module.weight))
        module.weight = deviation * mx.random.normal(module.weight.shape)
        if "bias" in module:
            module.bias = mx.zeros(module.bias.shape)
