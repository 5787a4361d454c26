"""What a network reads: how samples of datasets and heads in frames become its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from PIL import Image

from ..errors import InputError
from .crop import Margins, cut
from .landmarks import POINTS, in_crop
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.augment import Augmentation

# The published loaders scale the shorter side to 240 and cut 224 of it at random, also those of
# networks whose tests scale it to 250 or 256.
RANDOM_CROP = 224 / 240
LEAST_PUBLISHED = 224 / 256
SQUARED = Margins(square=1.0)

# (H, W, 3) uint8 RGB image and (4,) box → what the network reads of that head, or None.
HeadReader = Callable[[np.ndarray, np.ndarray], np.ndarray | None]
# (H, W, 3) uint8 RGB image and (4,) face box → (L, 3) landmarks in image axes, or None.
Landmarker = HeadReader


class Input:
    """Base of what networks read.

    Attributes:
        landmarks: number of landmarks of a face, or 0 for images.
        in_shards: whether a batch is worth cutting into parts, one per core.
        augments: whether training changes the pixels of a batch.
        target: shape of a sample's training target; (3,) for yaw, pitch and roll, which come
            first where there is more of it.
    """

    landmarks = 0
    in_shards = False
    augments = False
    target: tuple[int, ...] = (3,)

    def open(self, dataset: Dataset, train: bool = False, skip_bad: bool = False) -> Dataset:
        """A dataset as this input can read it.

        Args:
            dataset: the samples.
            train: whether a network is to be trained on them.
            skip_bad: whether to leave broken pictures out and count them instead of stopping.

        Raises:
            InputError: it lacks what the network reads or learns.
        """
        if dataset.shows_scenes:
            raise InputError(
                f"{dataset.name}: scenes of many heads train head detectors; for networks that "
                "estimate poses choose another dataset"
            )
        return dataset

    def sample(self, dataset: Dataset, index: int) -> np.ndarray:
        """A sample for evaluation."""
        raise NotImplementedError

    def training_sample(
        self,
        dataset: Dataset,
        index: int,
        rng: np.random.Generator,
        augmentation: Augmentation | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """A sample for training, its target, and the augmentation that the step applies, if any."""
        return self.sample(dataset, index), dataset.poses[index], None

    def head_reader(self, margins: Margins, landmarker: Landmarker | None) -> HeadReader:
        """The function that reads a head in a frame.

        Args:
            margins: margins around its detected box.
            landmarker: function that finds landmarks; None takes the default one.
        """
        raise NotImplementedError

    def example(self, batch: int) -> mx.array:
        """(batch, ...) noise of the shape and type that the network reads."""
        raise NotImplementedError

    def example_targets(self, batch: int) -> np.ndarray:
        """(batch, *target) float32 of a plausible kind, to train on: poses all over a range."""
        count = batch * math.prod(self.target)
        return np.linspace(-50, 40, count, dtype=np.float32).reshape(batch, *self.target)

    def normalize(self, inputs: mx.array) -> mx.array:
        """Inputs as the backbone takes them."""
        return inputs


class ImageInput(Input):
    """Square crops: (N, size, size, 3) uint8 RGB images.

    Args:
        preprocessing: size, resize rule, mean and deviation.
        learns_landmarks: whether training samples have 68 landmarks as a further target: x and y of
            each in the crop, as `in_crop` has them, NaN where they are not known.
    """

    in_shards = True
    augments = True

    def __init__(self, preprocessing: Preprocessing, learns_landmarks: bool = False):
        self.preprocessing = preprocessing
        self.learns_landmarks = learns_landmarks
        if learns_landmarks:
            self.target = (3 + 2 * POINTS,)

    def __str__(self) -> str:
        size = self.preprocessing.size
        return f"images of {size} × {size} pixels"

    def open(self, dataset: Dataset, train: bool = False, skip_bad: bool = False) -> Dataset:
        """See `Input.open`."""
        dataset = super().open(dataset, train)
        places = map(dataset.image_landmarks, range(len(dataset)))
        if train and self.learns_landmarks and not any(np.isfinite(p).any() for p in places):
            raise InputError(
                f"{dataset.name}: none of its images has known landmarks to learn; leave "
                "--landmarks out, or train on --dataset rendered or synthetic"
            )
        return dataset

    def sample(self, dataset: Dataset, index: int) -> np.ndarray:
        """(size, size, 3) uint8, cut as the published evaluations do."""
        return cut(dataset.image(index), dataset.crop_box(index), self.preprocessing)

    def training_sample(
        self,
        dataset: Dataset,
        index: int,
        rng: np.random.Generator,
        augmentation: Augmentation | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(size, size, 3) uint8 with random margins, position and augmentation, and its target."""
        size = self.preprocessing.size
        box, pose = dataset.crop_box(index, rng), dataset.poses[index]
        turn, changes, extend = 0.0, None, False
        if augmentation is not None:
            change = augmentation.draw(box, size, rng)
            box, turn, changes = change.box, change.turn, change.pixels
            extend = change.extend
            pose = change.turned(pose)
        resize, part = self.preprocessing.resize, size / (self.preprocessing.resize_to or size)
        if resize == "short_side":
            box = square_inside(box, part if part < LEAST_PUBLISHED else RANDOM_CROP, rng)
        elif resize == "pad":
            box = SQUARED.apply(box)
        if resize in ("squash", "pad") and part < 1:
            box = part_inside(box, part, rng)
        if self.learns_landmarks:
            places = in_crop(dataset.image_landmarks(index)[:, :2], box, turn)
            pose = np.concatenate((pose, places.ravel()))
        return dataset.cut(index, box, size, turn, extend), pose, changes

    def head_reader(self, margins: Margins, landmarker: Landmarker | None) -> HeadReader:
        """The function that cuts a head out of a frame."""

        def read(image: np.ndarray, box: np.ndarray) -> np.ndarray:
            height, width = image.shape[:2]
            left, top, right, bottom = margins.apply(box)
            # A box far outside must not make a crop of unbounded size.
            left, right = np.clip([left, right], -width, 2 * width)
            top, bottom = np.clip([top, bottom], -height, 2 * height)
            # Only this part of an image, which may be huge, is copied into a PIL image.
            x, y = np.clip([int(left), int(top)], 0, [width - 1, height - 1])
            below, beyond = max(y + 1, math.ceil(bottom)), max(x + 1, math.ceil(right))
            part = Image.fromarray(image[y:below, x:beyond])
            inside = np.array([left - x, top - y, right - x, bottom - y])
            return cut(part, inside, self.preprocessing)

        return read

    def example(self, batch: int) -> mx.array:
        """(batch, size, size, 3) uint8 noise."""
        size = self.preprocessing.size
        rng = np.random.default_rng(0)
        return mx.array(rng.integers(0, 256, (batch, size, size, 3), np.uint8))

    def normalize(self, inputs: mx.array) -> mx.array:
        """See `Preprocessing.normalize`."""
        return self.preprocessing.normalize(inputs)


def square_inside(box: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    """A (4,) square of `part` of the box's shorter side, somewhere inside the box."""
    side = part * min(box[2] - box[0], box[3] - box[1])
    return _placed(box, np.array([side, side]), rng)


def part_inside(box: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    """A (4,) box of `part` of the box's width and of its height, somewhere inside the box."""
    return _placed(box, part * (box[2:] - box[:2]), rng)


def _placed(box: np.ndarray, sides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    corner = box[:2] + rng.uniform(size=2) * (box[2:] - box[:2] - sides)
    return np.concatenate((corner, corner + sides))
