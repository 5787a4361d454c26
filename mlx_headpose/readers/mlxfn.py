"""The container of `.mlxfn` files: which MLX reads one, and on which device it computes.

MLX wrote the layout down nowhere but in its source (mlx/export.cpp). A file is a header and, for
each traced function, its inputs, its outputs and its tape of operations and constants. All numbers
are little-endian:

    string      u64 length, bytes
    header      string version, i32 functions, bool shapeless, [string metadata]
    function    strings keywords, u64s input ids, (shape, type)s, u64s output ids, u64 tape length
    operation   u64 id, bool 1, u64s input ids, stream, string name, its own state, outputs
    stream      i32 index, i32 device (0 CPU, 1 GPU), i32 device index
    constant    u64 id, bool 0, bool 1, and where the id is new: shape, type, bytes
    input       u64 id, bool 0, bool 0

MLX 0.32.1 added the metadata without another mark in the file: readers before it fail on a file
that has it (`std::bad_alloc`), and later ones on a file that does not (`Invalid string size`).
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InputError

DEVICES = {"cpu": 0, "gpu": 1}
STREAM = struct.Struct("<iii")
MAX_DIMENSIONS = 8  # of an array; a claim of millions would take long to multiply
DTYPE = 5  # bytes of a type: i32 and its size as a byte

# The state that an operation writes behind its name, in the letters of `_Reader.skip`. Those
# without an entry in either table are not known; fused operations are none of them, for
# their states differ between versions of MLX.
STATES = {
    "AddMM": "ff",
    "Arange": "ddd",
    "ArgPartition": "ii",
    "ArgReduce": "ii",
    "ArgSort": "i",
    "AsStrided": "IQi",
    "AsType": "T",
    "BitwiseBinary": "i",
    "Broadcast": "I",
    "BroadcastAxes": "I",
    "Concatenate": "i",
    "Convolution": "IIIIIi?",
    "Equal": "?",
    "ExpandDims": "I",
    "Flatten": "ii",
    "Full": "",
    "Gather": "II",
    "GatherAxis": "i",
    "Log": "i",
    "NumberOfElements": "I?T",
    "Pad": "III",
    "Partition": "ii",
    "QuantizedMatmul": "iii?",
    "Reduce": "iI",
    "Reshape": "I",
    "Scan": "ii??",
    "Slice": "III",
    "Softmax": "?",
    "Sort": "i",
    "Split": "Ii",
    "Sqrt": "?",
    "Squeeze": "I",
    "Transpose": "I",
    "Unflatten": "iI",
    "View": "T",
}
NAMES = """
Abs Add ArcCos ArcCosh ArcSin ArcSinh ArcTan ArcTan2 ArcTanh Ceil Copy Cos Cosh Divide DivMod Erf
ErfInv Exp Expm1 Floor Greater GreaterEqual Less LessEqual Log1p LogAddExp LogicalAnd LogicalNot
LogicalOr LogSumExp Matmul Maximum Minimum Multiply Negative NotEqual Power Remainder Round Select
Sigmoid Sign Sin Sinh Square StopGradient Subtract Tan Tanh
"""
STATELESS = frozenset(NAMES.split())


class Malformed(InputError):
    """A file that is no `.mlxfn`, or holds what is not understood here."""


@dataclass(frozen=True)
class Header:
    """What a file says before its functions.

    Attributes:
        version: version of the MLX that wrote it.
        functions: how many traces follow, one for each shape of input.
        shapeless: whether inputs of other shapes are taken.
        metadata: the text of MLX 0.32.1 and later; None in the older form.
        metadata_at: where it stands, or would stand, in bytes.
        end: where the functions begin, in bytes.
    """

    version: str
    functions: int
    shapeless: bool
    metadata: str | None
    metadata_at: int
    end: int


def read_header(content: bytes | bytearray) -> Header:
    """The header of a file, in either form.

    Raises:
        Malformed: it is none.
    """
    reader = _Reader(content)
    version = reader.string(limit=64)
    functions = reader.integer()
    shapeless = reader.boolean()
    start = reader.at
    metadata = _metadata(_Reader(content, start))
    end = start if metadata is None else start + 8 + len(metadata.encode())
    return Header(version, functions, shapeless, metadata, start, end)


def _metadata(reader: _Reader) -> str | None:
    """The metadata that stand here; None if the functions do.

    The first function begins with the number of its keywords, none in our files, and the number of
    its inputs, at least one.
    """
    length = reader.long()
    if length == 0:
        return "" if reader.long() == 0 else None
    reader.at -= 8
    try:
        text = reader.string()
        json.loads(text)
    except (Malformed, ValueError, RecursionError):
        return None
    return text


def with_metadata(content: bytes | bytearray, metadata: str | None) -> bytes:
    """The same functions in the other form, or with another text.

    Args:
        content: bytes of a file.
        metadata: JSON for MLX 0.32.1 and later; None for those before it.

    Raises:
        Malformed: the content is none of a `.mlxfn` file.
    """
    header = read_header(content)
    field = b""
    if metadata is not None:
        text = metadata.encode()
        field = struct.pack("<Q", len(text)) + text
    return bytes(content[: header.metadata_at]) + field + bytes(content[header.end :])


def devices(content: bytes | bytearray) -> Counter[str]:
    """How many operations a file computes on each device, by the keys of `DEVICES`.

    Raises:
        Malformed: it is damaged, or has an operation that is not known here.
    """
    names = {number: name for name, number in DEVICES.items()}
    found: Counter[str] = Counter()
    for _, at in operations(content):
        number = STREAM.unpack_from(content, at)[1]
        if number not in names:
            raise Malformed(f"an operation is on the unknown device {number}")
        found[names[number]] += 1
    return found


def on_device(content: bytes | bytearray, device: str) -> bytes:
    """The same functions, with every operation on one device.

    Args:
        content: bytes of a file.
        device: a key of `DEVICES`.

    Raises:
        Malformed: see `devices`.
    """
    changed = bytearray(content)
    for _, at in operations(content):
        STREAM.pack_into(changed, at, 0, DEVICES[device], 0)
    return bytes(changed)


def operations(content: bytes | bytearray) -> Iterator[tuple[str, int]]:
    """The name of each operation and where its stream stands, of all functions in turn.

    Raises:
        Malformed: see `devices`.
    """
    header = read_header(content)
    reader = _Reader(content, header.end)
    constants: set[int] = set()
    for _ in range(header.functions):
        for _ in range(reader.count(8)):
            reader.string()
        reader.skip("Q")
        reader.shapes_and_types()
        reader.skip("Q")
        for _ in range(reader.count(10)):
            identity = reader.long()
            if reader.boolean():
                reader.skip("Q")
                at = reader.at
                reader.move(STREAM.size)
                name = reader.string(limit=64)
                if name not in STATES and name not in STATELESS:
                    raise Malformed(f"the operation {name} is not known")
                yield name, at
                reader.skip(STATES.get(name, ""))
                reader.outputs()
            elif reader.boolean() and identity not in constants:
                constants.add(identity)
                reader.move(reader.elements() * reader.type_size())
    if reader.at != len(content):
        raise Malformed(f"{len(content) - reader.at} bytes follow the functions")


class _Reader:
    """Walks through the bytes of a file."""

    def __init__(self, content: bytes | bytearray, at: int = 0):
        self.content = content
        self.at = at

    def move(self, count: int) -> int:
        """Step over bytes that have to be there; where they begin."""
        start = self.at
        if not 0 <= count <= len(self.content) - start:
            raise Malformed("the file is cut short or damaged")
        self.at += count
        return start

    def integer(self) -> int:
        return struct.unpack_from("<i", self.content, self.move(4))[0]

    def long(self) -> int:
        return struct.unpack_from("<Q", self.content, self.move(8))[0]

    def boolean(self) -> bool:
        value = self.content[self.move(1)]
        if value > 1:
            raise Malformed("the file is damaged")
        return value == 1

    def count(self, least: int) -> int:
        """A number of things of at least so many bytes each, which the file can hold."""
        count = self.long()
        if count * least > len(self.content) - self.at:
            raise Malformed("the file is cut short or damaged")
        return count

    def string(self, limit: int | None = None) -> str:
        length = self.long()
        if limit is not None and length > limit:
            raise Malformed("not a .mlxfn file")
        start = self.move(length)
        try:
            return bytes(self.content[start : self.at]).decode()
        except UnicodeDecodeError:
            raise Malformed("not a .mlxfn file") from None

    def elements(self) -> int:
        """The number of elements of a shape."""
        dimensions = self.count(4)
        if dimensions > MAX_DIMENSIONS:
            raise Malformed(f"an array claims {dimensions} dimensions")
        sizes = [self.integer() for _ in range(dimensions)]
        if min(sizes, default=0) < 0:
            raise Malformed("an array claims a negative size")
        return math.prod(sizes)

    def type_size(self) -> int:
        """The bytes of an element of a type."""
        return self.content[self.move(DTYPE) + 4]

    def skip(self, layout: str) -> None:
        """Step over values: i int, f float, d double, ? bool, T type, I ints, Q 64-bit ints."""
        sizes = {"i": 4, "f": 4, "d": 8, "?": 1, "T": DTYPE}
        for letter in layout:
            if letter in sizes:
                self.move(sizes[letter])
            else:
                width = {"I": 4, "Q": 8}[letter]
                self.move(width * self.count(width))

    def shapes_and_types(self) -> None:
        for _ in range(self.count(8 + DTYPE)):
            self.skip("IT")

    def outputs(self) -> None:
        """What an operation returns: one array, or several with their ids."""
        if self.long() == 0:
            self.skip("IT")
            return
        self.skip("Q")
        for _ in range(self.count(8)):
            self.skip("I")
        self.move(DTYPE * self.count(DTYPE))
