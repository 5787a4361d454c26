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
