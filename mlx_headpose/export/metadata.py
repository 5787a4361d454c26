"""What an exported network says of itself: how it is fed, what it answers, under which licence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .. import weights
from .._version import __version__
from ..convert.published import PUBLISHED
from ..core.crop import Margins
from ..methods import ModelConfig
from ..weights import dtype_name

FORMAT = "mlx-headpose function"
NO_LICENCE = "not stated"
SIGNS = (
    "yaw, pitch, roll in degrees; positive yaw turns the nose to the image's left, positive pitch "
    "lifts it, positive roll turns the head clockwise as the viewer sees it"
)
# What trainings call their files: the name is the folder's then.
OF_A_TRAINING = ("best", "last", "model")


def describe(
    config: ModelConfig,
    example: Any,
    outputs: list[str],
    batch_sizes: tuple[int, ...] | None,
    name: str = "network",
    licence: str = NO_LICENCE,
    arithmetic: str = "float32",
) -> dict[str, Any]:
    """What a program needs to know of an exported network, as JSON gives it back.

    Args:
        config: the network's.
        example: one input of the function, an array.
        outputs: names of what the function returns, in order.
        batch_sizes: the only ones that the function accepts; None if it accepts all.
        name: name of the network.
        licence: licence of its weights.
        arithmetic: type in which the backbone computes.
    """
    shape = ["N", *example.shape[1:]]
    about = {
        "format": FORMAT,
        "version": __version__,
        "name": name,
        "licence": licence,
        "signs": SIGNS,
        "input": {
            "shape": shape,
            "dtype": dtype_name(example.dtype),
            **({} if config.inputs.landmarks else fed_with_images(config)),
        },
        "outputs": outputs,
        "batch_sizes": "any" if batch_sizes is None else list(batch_sizes),
        "arithmetic": arithmetic,
        "config": config.to_dict(),
    }
    return json.loads(json.dumps(about))


def fed_with_images(config: ModelConfig) -> dict[str, Any]:
    """How a face becomes the network's input.

    Margins are shares of the box's width and height at x_min, y_min, x_max, y_max. Each side sees
    the box that the sides before it moved. Margins by another rule are None.
    """
    preprocessing = config.preprocessing
    return {
        "layout": "NHWC, red green blue",
        "normalization": "in the function",
        "side": preprocessing.size,
        "resize": preprocessing.resize,
        "resize_to": preprocessing.resize_to or preprocessing.size,
        "filter": preprocessing.filter,
        "clip": preprocessing.clip,
        "face_margins": shares(preprocessing.crop.face),
        "head_margins": shares(preprocessing.crop.head),
    }


def shares(margins: Margins) -> list[float] | None:
    """Margins as shares of the box; None where they follow another rule."""
    if margins != Margins(margins.factors, margins.k):
        return None
    return [factor * sum(margins.k) / 2 for factor in margins.factors]


def network_name(source: str | Path) -> str:
    """What a network is called: its file's name, or its training's where that says nothing.

    Args:
        source: a file, a folder in the hub's form, or a hub id.
    """
    path = Path(source)
    if path.suffix != ".safetensors":
        return path.name
    folder = path.resolve().parent
    if path.stem in OF_A_TRAINING:
        return folder.name.removeprefix("workdirs_")
    if folder.name == "snapshots" and re.fullmatch(r"\d+", path.stem):
        return f"{folder.parent.name.removeprefix('workdirs_')}-{path.stem}"
    return path.stem


def known_licence(source: str | Path) -> str:
    """The licence of weights that this project knows; else that none is stated."""
    path = Path(source)
    if path.exists() and weights.BUNDLED.exists() and path.samefile(weights.BUNDLED):
        return "MIT"
    published = PUBLISHED.get(path.stem)
    return published.licence if published else NO_LICENCE
