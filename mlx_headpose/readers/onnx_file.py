"""Read ONNX files, from nothing but themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.checkpoint import Tensors
from ..errors import InputError

# YuNet's file is 0.2 MB, a large head detector's 100 MB.
MAX_BYTES = 512 << 20


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


def read_layers(path: str | Path) -> Tensors:
    """The parameters of an ONNX graph's layers, in the order in which it computes them.

    Exporters fold batch norms into convolutions and number what results, so that names say nothing.

    Returns:
        "layer<i>.<kind>.<leaf>" → array: kind "conv" (weight (O, C / groups, kh, kw) and bias),
        "norm" (weight, bias, running_mean and running_var) or "linear" (weight (O, C) and bias).

    Raises:
        InputError: the file cannot be read; see `load_onnx`.
    """
    model = load_onnx(path)
    from onnx import numpy_helper

    try:
        known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Identity" and node.input[0] in known:
                known[node.output[0]] = known[node.input[0]]
        return _layers(model.graph.node, known)
    except Exception as error:  # a tensor whose bytes do not fit its shape, a node without inputs
        raise InputError(f"{path}: damaged ONNX file ({error}); get it again") from None


def _layers(nodes: Any, known: dict[str, np.ndarray]) -> Tensors:
    """See `read_layers`; `known` holds the constants by name."""
    leaves = {
        "Conv": ("conv", ("weight", "bias")),
        "BatchNormalization": ("norm", ("weight", "bias", "running_mean", "running_var")),
        "Gemm": ("linear", ("weight", "bias")),
        "MatMul": ("linear", ("weight",)),
    }
    layers: Tensors = {}
    products: dict[str, str] = {}  # result of a product → its layer, where a bias may follow
    number = 0
    for node in nodes:
        if node.op_type == "Add":
            for result, bias in (node.input, node.input[::-1]):
                if result in products and known.get(bias, np.zeros(())).ndim == 1:
                    layers[f"{products[result]}.bias"] = np.array(known[bias])
            continue
        if node.op_type not in leaves or node.input[1] not in known:
            continue
        kind, names = leaves[node.op_type]
        if kind == "linear" and known[node.input[1]].ndim != 2:
            continue
        layer = f"layer{number}.{kind}"
        number += 1
        for leaf, source in zip(names, node.input[1:], strict=False):
            if source in known:
                layers[f"{layer}.{leaf}"] = np.array(known[source])
        if node.op_type == "MatMul":
            products[node.output[0]] = layer
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        if kind == "linear" and not transposed:
            layers[f"{layer}.weight"] = np.ascontiguousarray(layers[f"{layer}.weight"].T)
    return layers
