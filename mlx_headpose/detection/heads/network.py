"""Our own detector of heads, from every side: a small, fully convolutional, anchor-free network.

Cells of three strides predict for the head whose middle they are near: a score, the box of the
head, the box of its 68 landmarks, seen or hidden, and which way it looks. Cells are assigned by a
head's size and middle, as in FCOS (Tian et al., 2019, https://arxiv.org/abs/1904.01355); the score
learns the overlap of the predicted box with the true one (quality focal loss: Li et al., 2020,
https://arxiv.org/abs/2006.04388, equation 1), and boxes learn by their generalised overlap
(Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630). The features of three strides are
merged from the top down (Lin et al., 2017, https://arxiv.org/abs/1612.03144).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, option
from ...core.inputs import ImageInput
from ...core.preprocessing import Preprocessing
from ...core.scene import HEAD, IGNORE, MAX_HEADS, TARGET
from ...errors import InputError
from ...nn import BatchNorm, Conv2d, double, relu
from .boxes import select

if TYPE_CHECKING:
    from ...data import Dataset
    from ...data.augment import Augmentation

STRIDES = (8, 16, 32)
# Of a cell's outputs and of a decoded head: score, head box (4), face box (4), cos and sin of yaw.
CHANNELS = 11
# Sides (roots of areas) in pixels of the heads that each stride's cells learn; some two learn.
SIZES = ((0.0, 44.0), (32.0, 104.0), (72.0, math.inf))
# Sizes beyond those by which a cell at a head's middle still is no example of "no head".
LENIENT = 1.5
# Of the typical head of a stride, in strides, and of a face in its head.
TYPICAL, FACE = 3.0, 0.6
# A head's cells lie as near to its middle: in strides, or as a share of its size.
NEAR, NEAR_SHARE = 1.0, 0.25
SCORE_WEIGHT, BOX_WEIGHT, FACE_WEIGHT, YAW_WEIGHT = 3.0, 1.5, 1.0, 0.2
PRIOR = 0.01  # score of a cell before training
MOST = 4.0  # of the logarithm of a predicted size
MOST_MM = 1000.0  # of an outline's centre and axes


@dataclass(frozen=True)
class Config(ModelConfig):
    """The head detector. `preprocessing.size` is the side of the scenes that it trains on."""

    model_type: ClassVar[str] = "headdetector"
    criterion: ClassVar[str] = "missed"
    recipe: ClassVar[Recipe] = Recipe(lr=3e-4, lr_scratch=2e-3, optimizer="adamw", batch_size=16)

    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(size=320))
    stem: int = option(24, "channels at stride 4")
    narrow: int = option(40, "channels at stride 8, and of the merged features")
    middle: int = option(96, "channels at stride 16")
    wide: int = option(112, "channels at stride 32")
    blocks: int = option(2, "residual blocks at each stride")
    # The numbers of `inference.verified.joint`; without, the detector decides alone.
    verification: tuple[float, ...] = ()
    # What the boxes that it finds bound: the numbers of a `space.position.Ellipsoid`; without, the
    # 68 landmarks as they are.
    outline: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        widths = (self.stem, self.narrow, self.middle, self.wide)
        if not all(8 <= width <= 1024 and width % 8 == 0 for width in widths):
            raise InputError(f"channels {widths} are impossible; give multiples of 8 up to 1024")
        numbers = self.verification
        if len(numbers) not in (0, 7) or not all(map(math.isfinite, numbers)):
            raise InputError(f"a verification of {numbers} is impossible; give seven numbers")
        numbers = self.outline
        if numbers and not (
            len(numbers) == 6
            and all(abs(number) <= MOST_MM for number in numbers)
            and min(numbers[2:5]) > 0
            and 0 <= numbers[5] <= 1
        ):
            raise InputError(f"an outline of {numbers} is impossible; give an ellipsoid's numbers")
        if not 1 <= self.blocks <= 16:
            raise InputError(f"{self.blocks} blocks are impossible; give 1 to 16")
        if self.preprocessing.size % STRIDES[-1]:
            raise InputError(
                f"input size {self.preprocessing.size} is no multiple of {STRIDES[-1]}, by which "
                "the network shrinks a scene"
            )

    @property
    def inputs(self) -> SceneInput:
        """Whole images: scenes in training."""
        return SceneInput(self.preprocessing)


class SceneInput(ImageInput):
    """(N, H, W, 3) uint8 RGB images of any size, sides multiples of 32, with many heads each."""

    augments = False
    target = (MAX_HEADS, TARGET)

    def example_targets(self, batch: int) -> np.ndarray:
        """(batch, 12, 11) float32: in each scene one head, no cell just as far as its limits."""
        side = float(self.preprocessing.size)
        targets = np.zeros((batch, *self.target), np.float32)
        # Its box, that of its face, which way it looks, and that it is a head.
        box, face = np.array([0.22, 0.2, 0.8, 0.9]), np.array([0.31, 0.35, 0.7, 0.8])
        targets[:, 0] = [*side * box, *side * face, 0.8, 0.6, HEAD]
        return targets

    def open(self, dataset: Dataset, train: bool = False, skip_bad: bool = False) -> Dataset:
        """A set of scenes.

        Raises:
            InputError: it is another set.
        """
        if not dataset.shows_scenes:
            raise InputError(
                f"{dataset.name}: shows one head each; head detectors learn from --dataset scenes"
            )
        return dataset

    def sample(self, dataset: Dataset, index: int) -> np.ndarray:
        """(size, size, 3) uint8."""
        return dataset.scene(index)[0]

    def training_sample(
        self,
        dataset: Dataset,
        index: int,
        rng: np.random.Generator,
        augmentation: Augmentation | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """A scene and its (12, 11) targets."""
        return *dataset.scene(index, rng), None


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        padding = 0 if kernel == stride else kernel // 2
        self.conv = Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.norm = BatchNorm(outputs)

    def __call__(self, x: Any) -> Any:
        return relu(self.norm(self.conv(x)))


class Block(nn.Module):
    """A 1×1 convolution to fewer channels and a 3×3 one back, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        less = max(8, channels * 5 // 64 * 8)
        self.reduce = ConvNorm(channels, less, 1)
        self.grow = ConvNorm(less, channels, 3)

    def __call__(self, x: Any) -> Any:
        return x + self.grow(self.reduce(x))


class Backbone(nn.Module):
    """Images (N, H, W, 3) → features of the three strides, merged from the top down."""

    takes_shards = True

    def __init__(self, config: Config):
        super().__init__()
        widths = (config.narrow, config.middle, config.wide)
        self.stem = ConvNorm(3, config.stem, 4, stride=4)
        inputs = (config.stem, *widths[:-1])
        self.down = [ConvNorm(i, o, 3, stride=2) for i, o in zip(inputs, widths, strict=True)]
        self.blocks = [[Block(width) for _ in range(config.blocks)] for width in widths]
        self.lateral = [ConvNorm(width, config.narrow, 1) for width in widths]
        self.smooth = [Block(config.narrow) for _ in widths]

    def __call__(self, images: Any) -> Features:
        x = self.stem(images)
        features = []
        for down, blocks, lateral in zip(self.down, self.blocks, self.lateral, strict=True):
            x = down(x)
            for block in blocks:
                x = block(x)
            features.append(lateral(x))
        for level in (1, 0):
            features[level] = features[level] + double(features[level + 1])
        return Features(smooth(x) for smooth, x in zip(self.smooth, features, strict=True))


class Features(list):
    """The features of the strides, (N, h, w, C) each, perhaps in shards."""

    def join(self) -> Features:
        """The same as whole batches."""
        return Features(feature.join() for feature in self)


class DetectionHead(PoseHead):
    """Merged features → for each stride (N, h, w, 11) raw outputs.

    Args:
        channels: number of channels of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.output = [Conv2d(channels, CHANNELS, 1) for _ in STRIDES]
        for conv in self.output:
            conv.weight *= 0.3
            conv.bias = mx.array([-math.log(1 / PRIOR - 1), *[0.0] * (CHANNELS - 1)])

    def __call__(self, features: Any) -> Outputs:
        return tuple(output(x) for output, x in zip(self.output, features, strict=True))

    def loss(self, outputs: Outputs, targets: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Training loss.

        Args:
            outputs: outputs of the network.
            targets: (N, M, 11) what each scene shows; see `core.scene`.

        Returns:
            The scalar to minimise, and its parts.
        """
        predicted = _cells(outputs)
        positive, counted, wanted = assign(outputs, targets)
        number = mx.maximum(positive.sum(), 1)
        true, true_face = wanted[..., :4], wanted[..., 4:8]
        overlap, generalised = overlaps(predicted[..., 1:5], true)
        face = overlaps(predicted[..., 5:9], true_face)[1]
        box_loss = (positive * (1 - generalised)).sum() / number
        face_loss = (positive * (1 - face)).sum() / number
        turn = mx.square(predicted[..., 9:11] - wanted[..., 8:10]).sum(-1)
        yaw_loss = (positive * turn).sum() / number
        # A found head's score shall say how well its box fits.
        quality = mx.stop_gradient(positive * mx.maximum(overlap, 0.1))
        logit = predicted[..., 0]
        score = mx.sigmoid(logit)
        entropy = mx.logaddexp(logit, mx.zeros_like(logit)) - logit * quality
        focal = mx.square(mx.stop_gradient(mx.abs(quality - score))) * entropy
        score_loss = (counted * focal).sum() / number
        parts = {"score": score_loss, "box": box_loss, "face": face_loss, "yaw": yaw_loss}
        total = SCORE_WEIGHT * score_loss + BOX_WEIGHT * box_loss
        return total + FACE_WEIGHT * face_loss + YAW_WEIGHT * yaw_loss, parts

    def decode(self, outputs: Outputs) -> mx.array:
        """Outputs → (N, cells, 11): score in 0..1, head box and face box in the input's pixels
        (x_min, y_min, x_max, y_max each), cos and sin of yaw."""
        cells = _cells(outputs)
        return mx.concatenate([mx.sigmoid(cells[..., :1]), cells[..., 1:]], -1)

    def likely(self, outputs: Outputs, min_score: float) -> list[np.ndarray]:
        """(cells, 11) for each image: as `decode`, only the cells of at least that score.

        They are chosen and decoded on the host: of thousands a few are left.
        """
        mx.eval(*outputs)
        arrays = [np.array(raw) for raw in outputs]
        with np.errstate(divide="ignore"):
            least = np.log(np.float64(min_score)) - np.log1p(-np.float64(min_score))
        images: list[list[np.ndarray]] = [[] for _ in range(len(arrays[0]))]
        for stride, raw in zip(STRIDES, arrays, strict=True):
            for own, image in zip(images, raw, strict=True):
                row, column = np.nonzero(image[..., 0] >= least)
                cells = image[row, column].astype(np.float64)
                middle = (np.stack((column, row), -1) + 0.5) * stride
                decoded = _boxes(np, cells, middle, stride)
                decoded[:, 0] = 1 / (1 + np.exp(-decoded[:, 0]))
                own.append(decoded.astype(np.float32))
        return [np.concatenate(own) for own in images]

    def heads(self, outputs: Outputs, min_score: float) -> list[np.ndarray]:
        """(H, 11) for each image: its decoded cells that are heads, best first."""
        return [select(cells, min_score) for cells in self.likely(outputs, min_score)]

    def error(self, outputs: Outputs, targets: mx.array) -> mx.array:
        """(1,) mean percentage of the true boxes that the predicted ones of their cells miss."""
        positive, _, wanted = assign(outputs, targets)
        overlap = overlaps(_cells(outputs)[..., 1:5], wanted[..., :4])[0]
        return 100 * (1 - (positive * overlap).sum() / mx.maximum(positive.sum(), 1))[None]


def _middles(height: int, width: int, stride: int) -> mx.array:
    """(h · w, 2) x and y of the middles of a stride's cells."""
    column, row = mx.meshgrid(mx.arange(width), mx.arange(height), indexing="xy")
    return (mx.stack([column, row], -1).reshape(-1, 2) + 0.5) * stride


def _cells(outputs: Outputs) -> mx.array:
    """Raw outputs of the strides → (N, cells, 11): the score's logit, boxes, cos and sin of yaw."""
    levels = []
    for stride, raw in zip(STRIDES, outputs, strict=True):
        n, height, width, _ = raw.shape
        y = raw.reshape(n, height * width, CHANNELS)
        levels.append(_boxes(mx, y, _middles(height, width, stride), stride))
    return mx.concatenate(levels, 1)


def _boxes(xp: Any, y: Any, middles: Any, stride: int) -> Any:
    """Raw cells (..., 11) with their middles (..., 2) → the same with boxes in pixels.

    `xp` is mlx.core or numpy.
    """
    fixed = mx.stop_gradient if xp is mx else np.asarray
    middle = middles + y[..., 1:3] * stride
    size = xp.exp(xp.clip(y[..., 3:5], -MOST, MOST)) * (TYPICAL * stride)
    face_middle = middle + 0.5 * fixed(size) * y[..., 5:7]
    face_size = xp.exp(xp.clip(y[..., 7:9], -MOST, MOST)) * (FACE * fixed(size))
    boxes = [middle - size / 2, middle + size / 2]
    boxes += [face_middle - face_size / 2, face_middle + face_size / 2]
    return xp.concatenate([y[..., :1], *boxes, y[..., 9:]], -1)


def assign(outputs: Outputs, targets: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Which head each cell shall find.

    Args:
        outputs: outputs of the network, for the strides' sizes.
        targets: see `DetectionHead.loss`.

    Returns:
        (N, cells) 1 where a cell has a head; (N, cells) 1 where its score is trained, which it is
        not within ignored boxes and near the middles of heads that another stride is for; and
        (N, cells, 11) the target of each cell, of use only where it has a head.
    """
    boxes, kind = targets[:, None, :, :4], targets[:, None, :, 10]  # (N, 1, M, ...)
    middle, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    size = mx.sqrt(mx.maximum(sides[..., 0] * sides[..., 1], 1e-6))
    positives, trained, wanted = [], [], []
    for stride, (low, high), raw in zip(STRIDES, SIZES, outputs, strict=True):
        places = _middles(raw.shape[1], raw.shape[2], stride)[None, :, None]  # (1, P, 1, 2)
        away = mx.abs(places - middle)  # (N, P, M, 2)
        reach = mx.maximum(NEAR * stride, NEAR_SHARE * size)
        near = away.max(-1) <= reach
        inside = (away <= sides / 2).all(-1)
        is_head = kind == HEAD
        candidate = near & inside & is_head & (size >= low) & (size < high)
        # Of several heads at one place the smallest is in front, or at least not lost.
        cost = mx.where(candidate, size, math.inf)
        chosen = cost.argmin(-1)  # (N, P)
        positive = candidate.any(-1)
        close = (away.max(-1) <= LENIENT * reach) & is_head & ~candidate
        close &= (size >= low / LENIENT) & (size < high * LENIENT)
        ignored = (inside & (kind == IGNORE)).any(-1) | close.any(-1)
        positives.append(positive.astype(mx.float32))
        trained.append((positive | ~ignored).astype(mx.float32))
        wanted.append(mx.take_along_axis(targets, chosen[..., None], 1))
    joined = [mx.stop_gradient(mx.concatenate(part, 1)) for part in (positives, trained, wanted)]
    return joined[0], joined[1], joined[2]


def overlaps(boxes: mx.array, others: mx.array) -> tuple[mx.array, mx.array]:
    """Intersection over union of (..., 4) boxes, and the generalised one; both (...)."""
    low, high = (
        mx.maximum(boxes[..., :2], others[..., :2]),
        mx.minimum(boxes[..., 2:], others[..., 2:]),
    )
    shared = mx.maximum(high - low, 0).prod(-1)
    areas = [mx.maximum(b[..., 2:] - b[..., :2], 1e-3).prod(-1) for b in (boxes, others)]
    union = areas[0] + areas[1] - shared
    low, high = (
        mx.minimum(boxes[..., :2], others[..., :2]),
        mx.maximum(boxes[..., 2:], others[..., 2:]),
    )
    hull = mx.maximum(mx.maximum(high - low, 1e-3).prod(-1), union)
    overlap = shared / union
    return overlap, overlap - (hull - union) / hull


def build(config: Config) -> Estimator:
    """The network with random weights."""
    return Estimator(config, Backbone(config), DetectionHead(config.narrow))
