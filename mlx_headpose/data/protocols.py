"""How published test programs and demos cut heads out of images and count errors, by name.

A protocol is data. It changes how a network's input is cut, never what the network was trained
with: channel order, mean and deviation stay its own. docs/protocols.md has the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..core.crop import AROUND_HEAD, AROUND_POINTS, NONE, Crop, Margins
from ..core.preprocessing import Preprocessing
from ..errors import InputError
from ..pose import (
    angle_errors,
    matrix_to_pose,
    plain_angle_errors,
    pose_to_matrix,
    shifted_angle_errors,
    twin_angle_errors,
)
from .base import Dataset

T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """How a program cuts a head out of an image.

    Attributes:
        name: what --crop_of calls it.
        source: file that does it.
        crop: box and margins.
        resize: see `Preprocessing`.
        resize_to: length that the crop is scaled to, in sides of the network's input.
        filter: see `Preprocessing`.
        clip: see `Preprocessing`.
        swaps: whether the program hands its network the channels in the wrong order.
    """

    name: str
    source: str
    crop: Crop
    resize: str = "short_side"
    resize_to: float = 1.0
    filter: str = "bilinear"
    clip: bool = False
    swaps: bool = False

    def apply(self, preprocessing: Preprocessing) -> Preprocessing:
        """A network's preprocessing with this cut in place of its own."""
        longer = round(self.resize_to * preprocessing.size)
        colours = preprocessing.colours
        return dataclasses.replace(
            preprocessing,
            crop=self.crop,
            resize=self.resize,
            resize_to=None if longer == preprocessing.size else longer,
            filter=self.filter,
            clip=self.clip,
            colours=colours[::-1] if self.swaps else colours,
        )


@dataclass(frozen=True)
class Protocol:
    """A published evaluation.

    Attributes:
        cut: how it cuts heads out.
        limit: degrees that no angle of a sample may exceed.
        below: whether the limit itself is left out as well.
        errors: (N, 3) predicted and (N, 3) true poses in degrees → (N, 3) errors as it counts them.
        count: what `errors` does, for people.
    """

    cut: Cut
    limit: float
    below: bool
    errors: Callable[[np.ndarray, np.ndarray], np.ndarray]
    count: str

    @property
    def name(self) -> str:
        """What --protocol calls it."""
        return self.cut.name

    def tests(self, poses: np.ndarray) -> np.ndarray:
        """(N, 3) poses in degrees → (N,) whether the protocol tests them."""
        largest = np.abs(poses).max(axis=1)
        return largest < self.limit if self.below else largest <= self.limit

    def keep(self, dataset: Dataset) -> None:
        """Leave out, and count, the samples that the protocol does not test."""
        dataset.drop(~self.tests(dataset.poses), f"an angle outside ±{self.limit:g}°")

    def mean_errors(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """(3,) mean errors of yaw, pitch and roll as the published program counts them.

        Args:
            predicted: (N, 3) degrees. As there, yaw is taken within ±90°.
            true: (N, 3) degrees.
        """
        narrow = matrix_to_pose(pose_to_matrix(predicted))
        inside = np.abs(predicted[:, :1]) <= 90
        return self.errors(np.where(inside, predicted, narrow), true).mean(axis=0)


# Around a detected face, of its box in whole pixels, with height and width swapped.
DEMO = Margins((1.0, 1.0, 1.0, 1.0), of="swapped", rounding="truncate")
SIXD = dataclasses.replace(AROUND_POINTS, face=DEMO)
YAKHYO = dataclasses.replace(SIXD, train=Margins((0.6, 1.2, 0.6, 0.6), (0.2, 0.4), of="start"))
OPAL = Crop(
    "landmarks",
    test=Margins(rounding="outward", square=1.6),
    train=Margins(square=1.6),
    # A face's box reaches a quarter of the landmarks' height higher.
    face=Margins((0.0, -1.0, 0.0, 0.0), square=1.6),
    head=Margins(square=1.0),
)
SEMIUHPE = Crop(
    "visible",
    test=Margins((1.0, 2.0, 1.0, 1.0), of="longer", rounding="truncate"),
    train=Margins((1.0, 2.0, 1.0, 1.0), of="longer"),
    face=AROUND_HEAD.face,
    head=Margins(square=1.1),
)

# FSA-Net adds 0.4 of the face box on every side; the last two factors undo that the box has grown.
FSANET = Margins((1.0, 1.0, 1 / 1.4, 1 / 1.4), (0.4, 0.4))
HOPENET = Margins((0.6, 1.0, 0.6, 0.6), (0.35, 0.35))
# Box of a network's crop → whose margins are taken around the face box of a frame of BIWI's, and
# these margins.
BIWI_MARGINS = {
    "points": ("HopeNet's", HOPENET),
    "visible": ("HopeNet's", HOPENET),
    "landmarks": ("FSA-Net's", FSANET),
    "head": ("no", NONE),
}

LEGACY = "each angle's minimum over shifts of 180° and 360°"
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            Cut("6drepnet", "6DRepNet's test.py", SIXD, resize_to=256 / 224),
            99.0,
            False,
            shifted_angle_errors,
            LEGACY,
        ),
        Protocol(
            Cut("6drepnet360", "6DRepNet360's test.py", SIXD, resize_to=256 / 224),
            99.0,
            False,
            angle_errors,
            "each angle's minimum over shifts of 360°",
        ),
        Protocol(
            Cut("yakhyo", "yakhyo/head-pose-estimation's evaluate.py", YAKHYO, resize_to=256 / 224),
            99.0,
            False,
            shifted_angle_errors,
            LEGACY,
        ),
        Protocol(
            Cut("opal", "opal23_headpose_aflw2000.py", OPAL, "warp", filter="nearest"),
            99.0,
            False,
            twin_angle_errors,
            "the better of the two triples that turn alike",
        ),
        Protocol(
            Cut("semiuhpe", "SemiUHPE's AFLW2000 test", SEMIUHPE, "pad", 1.0, "bicubic", True),
            90.0,
            True,
            plain_angle_errors,
            "plain differences",
        ),
    )
}

# Crops around a detected face. The margins are those of `crop.face`.
AS_FOUND = dataclasses.replace(AROUND_POINTS, face=Margins(rounding="truncate"))
DEMOS = {
    cut.name: cut
    for cut in (
        Cut("6drepnet-demo", "6DRepNet's demo.py", SIXD, clip=True, swaps=True),
        Cut("6drepnet-pip", "the package sixdrepnet", dataclasses.replace(SIXD, face=NONE)),
        Cut("yakhyo-detect", "yakhyo's detect.py", YAKHYO, "whole", clip=True),
        Cut("yakhyo-onnx", "yakhyo's onnx_inference.py", YAKHYO, "squash", 1.0, "linear", True),
        Cut("uniface", "uniface's HeadPose", AS_FOUND, "squash", 1.0, "linear", True),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        InputError: there is none.
    """
    return _named("protocol", PROTOCOLS, name)


def find_demo(name: str) -> Cut:
    """The demo's cut of a name.

    Raises:
        InputError: there is none.
    """
    return _named("demo", DEMOS, name)


def _named(kind: str, known: dict[str, T], name: str) -> T:
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}; choose one of: {', '.join(known)}")
    return known[name]
