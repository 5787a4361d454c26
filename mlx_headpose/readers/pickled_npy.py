"""Read a `.npy` file that holds a pickled dict of arrays, without running what the pickle asks for.

`numpy.save` of a dict pickles it, and unpickling an untrusted file runs its code. Here the pickle
may name only an array, its dtype, the function that makes an array, and those that make
bytes of text. Each is answered by a stand-in below that does nothing but keep values, and the
arrays are then made of their raw bytes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from ..core.checkpoint import Tensors
from ..errors import InputError
from .npy import Layout

MAX_BYTES = 2 << 30


class _Dtype:
    """Stand-in for `numpy.dtype(code, align, copy)`: plain numbers, or the object outside."""

    def __init__(self, code: Any = None, *_: Any):
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "O8"):
            raise pickle.UnpicklingError(f"an array of {code!r}")
        self.code: str = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a dtype of unknown byte order")
        self.order = order

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Budget:
    """The bytes that a pickle may still make: text becomes bytes, and bytes become arrays.

    Of a text or bytes that the file holds once, a pickle can ask for any number of copies.
    """

    def __init__(self, size: int):
        self.left = 2 * size

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise pickle.UnpicklingError("more bytes than the file has")

    def encode(self, text: Any, encoding: Any) -> bytes:
        """How older pickles hold bytes."""
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("text that is no bytes")
        self.spend(len(text))
        return text.encode("latin1")

    def reconstruct(self, *_: Any) -> _Array:
        return _Array(self)


class _Array:
    """Stand-in for an array: its shape, dtype and bytes as the pickle gives them."""

    def __init__(self, budget: _Budget):
        self.budget = budget
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise pickle.UnpicklingError("an array of no shape")
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array of no dtype")
        if dtype.code == "O8":
            if not isinstance(data, list) or len(data) != 1:
                raise pickle.UnpicklingError("an array of objects")
            self.value = data[0]
            return
        kind = dtype.numpy()
        if not isinstance(data, bytes) or len(data) != math.prod(shape) * kind.itemsize:
            raise pickle.UnpicklingError("an array of the wrong length")
        self.budget.spend(len(data))
        flat = np.frombuffer(data, kind).astype(kind.newbyteorder("="))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _empty() -> bytes:
    """How older pickles hold no bytes at all."""
    return b""


class _Unpickler(pickle.Unpickler):
    """Unpickles stand-ins.

    Args:
        file: at the start of the pickle.
        size: bytes of the file.
    """

    def __init__(self, file: io.BytesIO, size: int):
        super().__init__(file)
        budget = _Budget(size)
        self.stand_ins: dict[tuple[str, str], Any] = {
            ("numpy", "dtype"): _Dtype,
            ("numpy", "ndarray"): None,  # only named, for `_reconstruct` to make one
            ("numpy.core.multiarray", "_reconstruct"): budget.reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): budget.reconstruct,
            ("_codecs", "encode"): budget.encode,
            ("__builtin__", "bytes"): _empty,
        }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.stand_ins[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def _require_modest(content: bytes) -> None:
    """Refuse operations that take memory for what the file does not hold.

    The unpickler makes room for as many remembered values as the largest number of one says.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        remembers = operation.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if operation.name == "BYTEARRAY8" or (remembers and int(argument or 0) > count):
            raise pickle.UnpicklingError(f"an impossible {operation.name}")


def read_npy(path: Path) -> Tensors:
    """Name → array of a `.npy` file that holds one dict.

    Raises:
        InputError: the file is damaged, or holds anything but a dict of plain arrays.
    """
    content = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    file = io.BytesIO(content)
    try:
        layout = Layout.read(file)
        if not layout.dtype.hasobject or layout.shape != ():
            raise InputError(
                f"{path}: holds one array without a name; give a file with all weights"
            )
        _require_modest(content[file.tell() :])
        loaded = _Unpickler(file, len(content)).load()
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, it holds more than arrays ({error}), which could run code or fill "
            "the memory; get a file of plain arrays"
        ) from None
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(f"{path}: damaged .npy file ({error}); get it again") from None
    tensors = loaded.value if isinstance(loaded, _Array) else None
    if not isinstance(tensors, dict):
        raise InputError(f"{path}: holds no dict of arrays; give a file of weights by name")
    if not all(isinstance(n, str) and isinstance(v, _Array) for n, v in tensors.items()):
        raise InputError(f"{path}: holds more than named arrays; give a file of weights by name")
    if not all(isinstance(v.value, np.ndarray) for v in tensors.values()):
        raise InputError(f"{path}: holds arrays of objects; give a file of weights by name")
    return {name: array.value for name, array in tensors.items()}
