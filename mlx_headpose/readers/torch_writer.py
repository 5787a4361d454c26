"""Files that `torch.load` reads, written without PyTorch."""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .torch_pickle import STORAGES

_STORAGE_OF = {code: name for name, code in STORAGES.items() if name != "UntypedStorage"}


def write_torch_file(path: str | Path, value: Any) -> None:
    """Write plain values and arrays as a file that `torch.load(..., weights_only=True)` reads.

    Args:
        path: file to write; not atomically.
        value: dict (nested as needed) of names to arrays of PyTorch's types and integers.

    Raises:
        TypeError: it holds anything else.
    """
    arrays: list[np.ndarray] = []
    pickled = b"\x80\x02" + _pickled(value, arrays) + b"."
    parts: list[tuple[str, bytes]] = [("data.pkl", pickled), ("byteorder", b"little")]
    with Path(path).open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in parts:
            _write_part(archive, file.tell(), name, data)
        for index, array in enumerate(arrays):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            _write_part(archive, file.tell(), f"data/{index}", little.tobytes())
        _write_part(archive, file.tell(), "version", b"3\n")


def _write_part(archive: zipfile.ZipFile, offset: int, name: str, data: bytes) -> None:
    """An entry whose bytes lie at a multiple of 64, as PyTorch maps them into memory."""
    entry = zipfile.ZipInfo(f"archive/{name}")
    header = 30 + len(entry.filename) + 4
    padding = -(offset + header) % 64
    entry.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
    archive.writestr(entry, data)


def _pickled(value: Any, arrays: list[np.ndarray]) -> bytes:
    """Operations that push a value; its arrays are appended to `arrays`."""
    if isinstance(value, dict):
        items = [_pickled(item, arrays) for pair in value.items() for item in pair]
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, int) and not isinstance(value, bool):
        number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(number)]) + number
    storage = _STORAGE_OF.get(value.dtype.str[1:]) if isinstance(value, np.ndarray) else None
    if storage is None:
        raise TypeError(f"{type(value).__name__} cannot be written for PyTorch")
    strides = [math.prod(value.shape[axis + 1 :]) for axis in range(value.ndim)]
    key, number = str(len(arrays)), _pickled(value.size, arrays)
    arrays.append(value)
    return b"".join([
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        _pickled("storage", arrays), b"ctorch\n", storage.encode(), b"\n", _pickled(key, arrays),
        _pickled("cpu", arrays), number, b"tQK\x00",
        *(b"(" + b"".join(_pickled(n, arrays) for n in ns) + b"t" for ns in (value.shape, strides)),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ])  # fmt: skip
