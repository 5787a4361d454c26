"""What training changes in samples: sampled per image, pixels changed per batch on the device.

Published loaders augment in two steps. With probability `--augment`, one of: flip, a shift of the
box, a random resized crop, nothing. Then, only in that case, one of: blur, brightness and contrast,
noise, nothing, each applied with probability 0.5. Turned heads, crops of other sizes and other
exposures come on top of that, where they are asked for. Everything is sampled on the host from the
sample's own generator, so a sample looks the same whichever thread, process or step it falls to.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..core.landmarks import MIRRORED, POINTS
from ..pose import turned_in_plane

SHIFT = 0.1  # of the box's width and height, at most, to each side
AREA = (0.8, 1.0)  # of the box's area that a random resized crop keeps
# Strengths, in the ranges that the published code's library (albumentations) has as defaults.
BRIGHTNESS = 0.2  # of the full range
CONTRAST = 0.2
BLUR = (0.5, 1.5)  # standard deviation in pixels of a 224 px image
NOISE = (3.0, 7.0)  # standard deviation in grey levels
TURNED, EXPOSED = 0.35, 0.35  # shares of the samples that `turn` and `exposure` change
EXTENDED = 0.8  # share of the rescaled crops beyond whose image its edge goes on, in place of black
OFF = 0.12  # of the side of a rescaled crop, by which its middle moves at most

# Columns of the (N, 5) array that tells the device what to do with each image.
FLIP, CONTRAST_SCALE, BRIGHTNESS_SHIFT, BLUR_SIGMA, NOISE_SIGMA = range(5)
UNCHANGED = np.array([0, 1, 0, 0, 0], np.float32)


@dataclass(frozen=True)
class Change:
    """The changes of one sample.

    Attributes:
        box: (4,) the crop to cut, margins included.
        turn: degrees clockwise by which the image is turned about the middle of the crop.
        pixels: (5,) changes for `apply`.
        extend: whether the image's edge is stretched outwards where the crop reaches beyond it.
    """

    box: np.ndarray
    turn: float
    pixels: np.ndarray
    extend: bool = False

    def turned(self, pose: np.ndarray) -> np.ndarray:
        """(3,) pose → that of the same head in the turned image."""
        return np.asarray(turned_in_plane(pose, self.turn)) if self.turn else pose


@dataclass(frozen=True)
class Augmentation:
    """How often and what.

    Attributes:
        probability: probability of the published augmentation.
        flip: whether mirroring is one of the choices.
        turn: largest angle in degrees by which samples are turned in the image plane.
        rescale: largest factor by which crops are larger or smaller; 1 leaves them alone.
        exposure: largest number of stops by which samples are darker, or half as many brighter.
    """

    probability: float = 0.5
    flip: bool = True
    turn: float = 0.0
    rescale: float = 1.0
    exposure: float = 0.0

    def draw(self, box: np.ndarray, size: int, rng: np.random.Generator) -> Change:
        """Choose the changes of one sample.

        Args:
            box: (4,) the crop, margins included.
            size: side of the network's input in pixels.
            rng: the sample's generator.
        """
        box, pixels = self._published(box, size, rng)
        turn = 0.0
        if self.turn and rng.random() < TURNED:
            # Cubed, because photos show heads that lean far more often than heads that lie.
            turn = float(self.turn * rng.uniform(-1, 1) ** 3)
        if self.rescale > 1:
            box = rescaled(box, float(np.exp(np.log(self.rescale) * rng.uniform(-1, 1))), rng)
        if self.exposure and rng.random() < EXPOSED:
            gain = float(2 ** rng.uniform(-self.exposure, self.exposure / 2))
            pixels[BRIGHTNESS_SHIFT] = pixels[BRIGHTNESS_SHIFT] * gain + 127.5 * (gain - 1)
            pixels[CONTRAST_SCALE] *= gain
        # Photos go on beyond a head, so black there would only tell where the head is.
        extend = self.rescale > 1 and rng.random() < EXTENDED
        return Change(box, turn, pixels, extend)

    def _published(
        self, box: np.ndarray, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        changes = UNCHANGED.copy()
        if rng.random() >= self.probability:
            return box, changes
        first = rng.choice(
            ("flip", "shift", "crop", "none") if self.flip else ("shift", "crop", "none")
        )
        if first == "flip":
            changes[FLIP] = 1
        elif first == "shift":
            box = shifted(box, rng)
        elif first == "crop":
            box = random_crop(box, rng)
        second = rng.choice(("blur", "brightness", "noise", "none"))
        if rng.random() < 0.5:
            if second == "blur":
                changes[BLUR_SIGMA] = rng.uniform(*BLUR) * size / 224
            elif second == "brightness":
                changes[CONTRAST_SCALE] = 1 + rng.uniform(-CONTRAST, CONTRAST)
                changes[BRIGHTNESS_SHIFT] = 255 * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
            elif second == "noise":
                changes[NOISE_SIGMA] = rng.uniform(*NOISE)
        return box, changes


def rescaled(box: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """The (4,) box larger by a factor, its middle moved by up to 12 % of its new sides."""
    middle, half = (box[:2] + box[2:]) / 2, factor * (box[2:] - box[:2]) / 2
    middle = middle + 2 * half * rng.uniform(-OFF, OFF, 2)
    return np.concatenate((middle - half, middle + half))


def shifted(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The (4,) box moved by up to ±10 % of its width and height."""
    width, height = box[2] - box[0], box[3] - box[1]
    dx, dy = rng.uniform(-SHIFT, SHIFT, 2)
    return box + np.array([dx * width, dy * height, dx * width, dy * height])


def random_crop(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A (4,) box of 0.8–1 of the area and the same shape, somewhere inside the given one."""
    side = np.sqrt(rng.uniform(*AREA))
    width, height = box[2] - box[0], box[3] - box[1]
    left = box[0] + rng.uniform() * (1 - side) * width
    top = box[1] + rng.uniform() * (1 - side) * height
    return np.array([left, top, left + side * width, top + side * height])


def apply(
    images: mx.array, targets: mx.array, changes: mx.array, key: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """Flip, blur, change brightness and contrast, and add noise, for a whole batch.

    Args:
        images: (N, H, W, 3) uint8.
        targets: (N, 3) yaw, pitch, roll in degrees, or (N, 139) with landmarks in the crops behind
            them, see `core.inputs.ImageInput`.
        changes: (N, 5), see `Augmentation.draw`.
        key: random key of the noise; None takes MLX's global one.

    Returns:
        (N, H, W, 3) uint8 images and their targets, see `mirrored`.
    """
    columns = [changes[:, i].reshape(-1, 1, 1, 1) for i in range(5)]
    flip = columns[FLIP] > 0
    x = mx.where(flip, images[:, :, ::-1], images).astype(mx.float32)
    targets = mx.where(flip.reshape(-1, 1), mirrored(targets), targets)
    x = blurred(x, changes[:, BLUR_SIGMA])
    x = (x - 127.5) * columns[CONTRAST_SCALE] + 127.5 + columns[BRIGHTNESS_SHIFT]
    x = x + columns[NOISE_SIGMA] * mx.random.normal(x.shape, key=key)
    return mx.clip(mx.round(x), 0, 255).astype(mx.uint8), targets


def mirrored(targets: mx.array) -> mx.array:
    """(N, 3) or (N, 139) targets of mirrored images: yaw, roll and all x negated, the landmarks of
    the face's two sides exchanged.
    """
    poses = targets[:, :3] * mx.array([-1.0, 1.0, -1.0])
    if targets.shape[1] == 3:
        return poses
    places = targets[:, 3:].reshape(-1, POINTS, 2)[:, mx.array(MIRRORED)] * mx.array([-1.0, 1.0])
    return mx.concatenate([poses, places.flatten(1)], axis=1)


def blurred(x: mx.array, sigma: mx.array) -> mx.array:
    """Gaussian blur as two matrix products: (N, H, W, C) images, (N,) deviations in pixels.

    Each image has its own banded matrix, the identity where sigma is 0, so that one product serves
    the batch; depthwise convolutions are slow on the CPU.
    """
    n, h, w, c = x.shape
    x = blur_matrix(h, sigma) @ x.reshape(n, h, w * c)  # over rows
    x = x.reshape(n, h, w, c).transpose(0, 2, 1, 3).reshape(n, w, h * c)
    x = blur_matrix(w, sigma) @ x  # over columns
    return x.reshape(n, w, h, c).transpose(0, 2, 1, 3)


def blur_matrix(size: int, sigma: mx.array) -> mx.array:
    """(N, size, size) rows of Gaussian weights that sum to one."""
    position = mx.arange(size, dtype=mx.float32)
    distance = position[:, None] - position[None, :]
    weights = mx.exp(-(distance**2) / (2 * mx.maximum(sigma, 1e-2).reshape(-1, 1, 1) ** 2))
    return weights / weights.sum(-1, keepdims=True)
