"""How a crop of an image becomes a network's input."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..errors import InputError
from .crop import AROUND_POINTS, FILTERS, Crop, finite

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESIZES = ("squash", "short_side", "whole", "pad", "warp")
COLOURS = ("RGB", "BGR")
# Deviation in grey levels that keeps an image of one colour from being divided by 0.
FLAT = 0.5
MAX_SIZE = 4096


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input; saved with the weights.

    Attributes:
        size: side of the square input in pixels.
        resize: "squash" scales the crop to a square; "short_side" scales its shorter side, of which
            the central square is kept; "whole" keeps all of that; "pad" adds black to the shorter
            side first; "warp" samples the
            crop without rounding it to whole pixels.
        resize_to: length that `resize` scales to, of which the central square of `size` is kept;
            None means `size`.
        crop: how heads are cut out of images.
        mean, std: per channel, in the order of `colours`, of values scaled to 0..1.
        filter: how pixels are scaled, one of `crop.FILTERS`.
        colours: order of the channels that the network reads, "RGB" or "BGR"; images are RGB.
        clip: whether a crop ends at the image's border, in place of black outside.
        standardize: whether the pixels of each crop are brought to mean 0 and deviation 1, all
            channels by the same two numbers, in place of `mean` and `std`; exposure and contrast
            then make no difference.
    """

    size: int = 224
    resize: str = "short_side"
    resize_to: int | None = None
    crop: Crop = AROUND_POINTS
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    filter: str = "bilinear"
    colours: str = "RGB"
    clip: bool = False
    standardize: bool = False

    def __post_init__(self) -> None:
        whole = isinstance(self.resize_to, int | None)
        fits = whole and self.size <= (self.resize_to or self.size) <= 8192
        if not (1 <= self.size <= MAX_SIZE and fits):
            raise InputError(
                f"input size {self.size} with resize_to {self.resize_to} is impossible; give "
                f"whole sizes of 1 to {MAX_SIZE}, the second not smaller than the first"
            )
        if self.resize not in RESIZES:
            raise InputError(
                f"unknown resize rule {self.resize!r}; choose one of: {', '.join(RESIZES)}"
            )
        for name, value, known in (
            ("filter", self.filter, FILTERS),
            ("colours", self.colours, COLOURS),
        ):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}; choose one of: {', '.join(known)}")
        channels = (*self.mean, *self.std)
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(finite, channels)):
            raise InputError("mean and std must be three numbers each")
        if not isinstance(self.standardize, bool):
            raise InputError(f"standardize must be true or false, not {self.standardize!r}")
        if not all(self.std):
            raise InputError("a channel's std must not be 0")

    def at_size(self, size: int) -> Preprocessing:
        """The same for another input size; `resize_to` changes in proportion."""
        resize_to = self.resize_to and round(self.resize_to * size / self.size)
        return dataclasses.replace(self, size=size, resize_to=resize_to)

    def image_processor(self) -> dict[str, Any]:
        """The same in the terms of the Hugging Face hub's image processors, as JSON can hold it."""
        side = self.resize_to or self.size
        return {
            "do_convert_rgb": True,
            "do_resize": True,
            "resize": self.resize,
            "size": {"height": side, "width": side},
            "resample": int(FILTERS[self.filter]),
            "do_center_crop": side != self.size,
            "crop_size": {"height": self.size, "width": self.size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": not self.standardize,
            "standardize": self.standardize,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "channel_order": self.colours,
        }

    def normalize(self, images: mx.array) -> mx.array:
        """(N, H, W, 3) uint8 → (N, H, W, 3) float32 with the network's mean and deviation, or
        each image's own.

        A float input is taken to be normalised already and is returned as it is.
        """
        if images.dtype != mx.uint8:
            return images
        if self.colours == "BGR":
            images = images[..., ::-1]
        if self.standardize:
            x = images.astype(mx.float32)
            x = x - x.mean((1, 2, 3), keepdims=True)
            deviation = mx.sqrt(mx.square(x).mean((1, 2, 3), keepdims=True) + FLAT**2)
            return x / deviation
        # One fused multiply-add: (x / 255 - mean) / std.
        scale = 1 / (255 * mx.array(self.std))
        shift = mx.array(self.mean) / mx.array(self.std)
        return images * scale - shift
