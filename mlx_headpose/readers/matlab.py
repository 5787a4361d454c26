"""Read arrays of numbers from a MATLAB 5 file.

"MAT-File Format" (MathWorks), level 5, as far as annotations need it: named real arrays, compressed
or not. scipy's reader is written in C and a damaged file can crash it; here nothing is trusted.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Annotations have a few kilobytes. This bounds what a file can make us hold.
MAX_BYTES = 64 << 20

HEADER = 128
MATRIX, COMPRESSED = 14, 15
# The format's number of a type of elements → NumPy's type.
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Classes of arrays that hold numbers: double, single, and the integers.
NUMBERS = range(6, 16)
COMPLEX = 0x800


class OtherVersion(ValueError):
    """A file of another version of the format, which is not damaged."""


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of these names that a file holds, as float64; others are passed over.

    Raises:
        OSError: the file cannot be read.
        OtherVersion: it is of another version of the format.
        ValueError: it is damaged.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too large for an annotation")
    content = path.read_bytes()
    if content.startswith(b"MATLAB 7.3"):
        raise OtherVersion("a MATLAB 7.3 (HDF5) file; save it again with the option '-v7'")
    if _is_level_4(content):
        raise OtherVersion("a MATLAB 4 file; save it again with the option '-v7'")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or content[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError("no MATLAB 5 file")
    found: dict[str, np.ndarray] = {}
    for kind, body in _elements(content[HEADER:], order, aligned=False):
        if kind == COMPRESSED:
            element = _inflate(body)
            kind, body = next(_elements(element, order), (0, b""))
        if kind == MATRIX:
            name, value = _matrix(body, order, names)
            if value is not None:
                found[name] = value
    return found


def _is_level_4(content: bytes) -> bool:
    """Whether it starts as the first matrix of a level 4 file does, which has no other head."""
    if len(content) < 20:
        return False
    for order, first in (("<", 0), (">", 1000)):
        kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", content)
        digits = 0 <= kind - first < 60 and kind % 10 in (0, 1, 2) and kind % 100 // 10 < 6
        if digits and rows >= 0 and columns >= 0 and imaginary in (0, 1) and 0 < length < 256:
            name = content[20 : 20 + length]
            return len(name) == length and name[-1] == 0 and name[:-1].isascii()
    return False


def _inflate(body: bytes) -> bytes:
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"a compressed part is damaged: {error}") from None
    if stream.unconsumed_tail:
        raise ValueError("a compressed part is too large for an annotation")
    return content


def _elements(content: bytes, order: str, aligned: bool = True) -> Iterator[tuple[int, bytes]]:
    """The (type, bytes) of the elements that lie one after the other; padding is passed over."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # four bytes or fewer lie in the tag itself
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError("an element of impossible size")
        else:
            start = at + 8
            end = start + size + (-size % 8 if aligned or kind != COMPRESSED else 0)
        if start + size > len(content):
            raise ValueError("it is cut off")
        yield kind, content[start : start + size]
        at = end


def _matrix(body: bytes, order: str, names: tuple[str, ...]) -> tuple[str, np.ndarray | None]:
    """The name of an array, and its values if they are real numbers and wanted."""
    elements = _elements(body, order)
    flags, shape, label = (next(elements, (0, b""))[1] for _ in range(3))
    name = label.decode("latin1")
    if name not in names:
        return name, None
    if len(flags) != 8 or len(shape) % 4:
        raise ValueError(f"the head of {name} is damaged")
    (flag,) = struct.unpack_from(f"{order}I", flags)
    if flag & 0xFF not in NUMBERS or flag & COMPLEX:
        return name, None
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    kind, data = next(elements, (0, b""))
    if kind not in TYPES:
        raise ValueError(f"{name} is damaged")
    stored = np.dtype(f"{order}{TYPES[kind]}")
    if len(sizes) < 2 or min(sizes) < 0 or math.prod(sizes) * stored.itemsize != len(data):
        raise ValueError(f"{name} has another size than it says")
    return name, np.frombuffer(data, stored).astype(np.float64).reshape(sizes, order="F")
