"""WHENet's Keras weights, by layer order and shape.

Keras numbers its layers on from whatever the session had built before, so the numbers in their
names say nothing. The order of the layers does: it is the order in which our network is written.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from mlx.utils import tree_flatten

from ...core.checkpoint import Conversion, Format, Published, Tensors
from .. import build
from .network import BINS, Config

# Keras's name of a weight, by ours; "weight" depends on the layer.
LEAVES = {"bias": "bias", "running_mean": "moving_mean", "running_var": "moving_variance"}


@functools.cache
def _expected() -> list[tuple[str, str, tuple[int, ...]]]:
    """Our name, Keras's leaf and Keras's shape of every tensor, in the file's order."""
    expected = []
    parameters: Any = tree_flatten(build(Config()).parameters())
    for name, value in parameters:
        path = name.split(".")
        leaf, shape = LEAVES.get(path[-1], path[-1]), value.shape
        path.pop()
        if path[-1] == "norm":
            leaf = {"weight": "gamma", "bias": "beta"}.get(leaf, leaf)
        elif leaf == "weight" and path[-2:] == ["depthwise", "conv"]:
            channels, height, width, _ = shape
            leaf, shape = "depthwise_kernel", (height, width, channels, 1)
        elif leaf == "weight":
            leaf, shape = "kernel", (*shape[1:], shape[0])
        expected.append((name, leaf, tuple(shape)))
    return expected


def _leaf(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":")[0]


def _ordered(tensors: Tensors) -> list[tuple[str, np.ndarray]]:
    """The tensors in our order; the output layers, alike in shape, by the names they were given."""
    angles = list(BINS)
    items = list(tensors.items())
    body, heads = items[: -2 * len(angles)], items[-2 * len(angles) :]
    named = [name.split("_")[0] for name, _value in heads]
    if sorted(named) == sorted(angles * 2):
        heads.sort(key=lambda item: angles.index(item[0].split("_")[0]))
    return body + heads


def _matches(tensors: Tensors) -> bool:
    found = [(_leaf(name), tuple(value.shape)) for name, value in _ordered(tensors)]
    return found == [(leaf, shape) for _name, leaf, shape in _expected()]


def _to_mlx(leaf: str, value: np.ndarray) -> np.ndarray:
    if leaf == "depthwise_kernel":  # (kh, kw, channels, 1) → (channels, kh, kw, 1)
        value = value.transpose(2, 0, 1, 3)
    elif leaf == "kernel":  # (..., in, out) → (out, ..., in)
        value = np.moveaxis(value, -1, 0)
    return np.ascontiguousarray(value, np.float32)


def _convert(tensors: Tensors) -> Conversion:
    ours = {
        name: _to_mlx(leaf, value)
        for (name, leaf, _shape), (_source, value) in zip(
            _expected(), _ordered(tensors), strict=True
        )
    }
    # The authors' expectation is how these weights were trained to be read.
    config = Config(decoding="expectation")
    return Conversion("WHENet (EfficientNet-B0), Keras", config.to_dict(), ours)


FORMATS = [Format("WHENet, Keras", _matches, _convert)]


PUBLISHED = [
    Published(
        "whenet",
        "whenet",
        "https://github.com/Ascend-Research/HeadPoseEstimation-WHENet/raw/"
        "a0d7bdfb5e2ac97ae6b0ae3eef79fdcf4075ab82/WHENet.h5",
        ("git_blob", "ea13d612231a84d7c3adc5a5cee49bb6da5867af"),
        "BSD-type (trained on 300W-LP and CMU Panoptic: research use)",
    ),
]
