"""The pickles in PyTorch's files, interpreted without unpickling.

Nothing in a file is imported, called or unpickled. The interpreter knows the operations that
`torch.save` writes for a state dict; the names in a pickle select inert stand-ins from a table,
and everything outside it is refused. What is built is limited in size.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

# A network of 2,000 tensors with its optimizer takes 300,000 operations and 10 MB.
MAX_OPERATIONS = 1_000_000
MAX_PICKLE = 64 << 20
MAX_DIMENSIONS = 32
# Larger integers share their hashes, which makes a dict slow.
MAX_KEY = 1 << 60

BFLOAT16 = "bfloat16"  # which NumPy lacks
# Storage or dtype → NumPy's code.
STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "b1", "UntypedStorage": "u1",
}  # fmt: skip
DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": BFLOAT16, "int64": "i8",
    "int32": "i4", "int16": "i2", "int8": "i1", "uint64": "u8", "uint32": "u4", "uint16": "u2",
    "uint8": "u1", "bool": "b1",
}  # fmt: skip
# Allowed by PyTorch, needed by no checkpoint, and able to fill the memory.
BOMBS = {("builtins", "bytearray"), ("__builtin__", "bytearray"), ("_codecs", "encode")}


class Refused(Exception):
    """A pickle asks for what a state dict does not need."""


class Bomb(Exception):
    """A pickle asks for what fills the memory."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Stand-in for a type of storage, and for a dtype."""

    code: str

    @property
    def itemsize(self) -> int:
        return 2 if self.code == BFLOAT16 else np.dtype(self.code).itemsize

    @property
    def floating(self) -> bool:
        return self.code == BFLOAT16 or self.code[0] == "f"


@dataclass(frozen=True, slots=True)
class _Function:
    """Stand-in for a function: it takes the arguments as a tuple and builds a value of ours."""

    call: Callable[[tuple[Any, ...]], Any]


@dataclass(frozen=True, slots=True)
class Storage:
    """Part of the bytes under a key."""

    key: str
    kind: Kind
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; offset and strides count elements, as in PyTorch."""

    storage: Storage
    kind: Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def result_size(self) -> int:
        """Bytes of the array that `read_torch` returns."""
        return math.prod(self.shape) * (4 if self.kind.floating else self.kind.itemsize)


def as_size(value: Any) -> int:
    """A size or an offset; a bool is none."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a size is no number")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) not in (tuple, list) or len(value) > MAX_DIMENSIONS:
        raise ValueError("a tensor has no shape")
    return tuple(as_size(n) for n in value)


def _tensor(storage: Any, kind: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    if type(storage) is not Storage or type(kind) is not Kind:
        raise ValueError("a tensor has no storage")
    offset, shape, strides = as_size(offset), _sizes(shape), _sizes(strides)
    if len(shape) != len(strides):
        raise ValueError("a tensor has no shape")
    # Where there is one element, or none, its stride means nothing.
    strides = tuple(s if n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * kind.itemsize > storage.size:
        raise ValueError("a tensor is larger than its storage")
    if math.prod(n or 1 for n in shape) * kind.itemsize >= 1 << 62:
        raise ValueError("a tensor has no possible shape")
    return Tensor(storage, kind, offset, shape, strides)


def _require_no_metadata(metadata: tuple[Any, ...]) -> None:
    """A lazy conjugate or negative would have to be computed."""
    if len(metadata) > 1 or any(metadata):
        raise ValueError("a tensor is a lazy negative")


def _rebuild_tensor(arguments: tuple[Any, ...]) -> Tensor:
    storage, offset, shape, strides = arguments
    return _tensor(storage, getattr(storage, "kind", None), offset, shape, strides)


def _rebuild_tensor_v2(arguments: tuple[Any, ...]) -> Tensor:
    storage, offset, shape, strides, _grad, _hooks, *metadata = arguments
    _require_no_metadata(tuple(metadata))
    return _rebuild_tensor((storage, offset, shape, strides))


def _rebuild_tensor_v3(arguments: tuple[Any, ...]) -> Tensor:
    storage, offset, shape, strides, _grad, _hooks, dtype, *metadata = arguments
    _require_no_metadata(tuple(metadata))
    return _tensor(storage, dtype, offset, shape, strides)


def _rebuild_parameter(arguments: tuple[Any, ...]) -> Tensor:
    """Also with attributes that somebody set, which are left out."""
    tensor = arguments[0]
    if type(tensor) is not Tensor or len(arguments) not in (3, 4):
        raise ValueError("a parameter has no tensor")
    return tensor


def _rebuild_from_type(arguments: tuple[Any, ...]) -> Tensor:
    """A tensor with attributes that somebody set, which are left out."""
    function, kind, arguments, _state = arguments
    if function not in _REBUILD.values() or kind is not _TENSOR or type(arguments) is not tuple:
        raise Refused
    return function.call(arguments)


def _ordered_dict(arguments: tuple[Any, ...]) -> OrderedDict:
    """Empty in Python 3, with a list of pairs in Python 2."""
    (pairs,) = arguments or ([],)
    if type(pairs) is not list:
        raise ValueError("an ordered dict is no list")
    made: OrderedDict = OrderedDict()
    for key, value in pairs:
        made[as_key(key)] = value
    return made


def _inert(arguments: tuple[Any, ...]) -> Any:
    """What stands beside weights (devices, sets, counters) is kept as it was described."""
    return arguments


def _first(arguments: tuple[Any, ...]) -> Any:
    (shape,) = arguments
    return shape


def as_key(value: Any) -> Any:
    """A key of a dict: hashing a deep tuple would overflow the stack."""
    if type(value) not in (str, int, float, bool, type(None)):
        raise ValueError("a dict has keys that are no names")
    if type(value) is int and abs(value) > MAX_KEY:
        raise ValueError("a dict has an impossible key")
    return value


_TENSOR = object()  # stand-in for the classes
_REBUILD = {
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor_v2),
    ("torch._utils", "_rebuild_tensor_v3"): _Function(_rebuild_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_rebuild_parameter),
}
# All names that a pickle may give.
_NAMES: dict[tuple[str, str], Any] = {
    **_REBUILD,
    **{("torch", name): Kind(code) for name, code in (STORAGES | DTYPES).items()},
    **{("torch.cuda", name): Kind(code) for name, code in STORAGES.items()},
    ("torch.storage", "UntypedStorage"): Kind("u1"),
    ("torch._tensor", "_rebuild_from_type_v2"): _Function(_rebuild_from_type),
    ("torch", "Tensor"): _TENSOR,
    ("torch.nn.parameter", "Parameter"): _TENSOR,
    ("torch", "Size"): _Function(_first),
    ("torch", "device"): _Function(_inert),
    ("torch.serialization", "_get_layout"): _Function(_inert),
    ("collections", "OrderedDict"): _Function(_ordered_dict),
    ("collections", "Counter"): _Function(_inert),
    ("builtins", "set"): _Function(_inert),
    ("builtins", "complex"): _Function(_inert),
    ("__builtin__", "set"): _Function(_inert),
    ("__builtin__", "complex"): _Function(_inert),
}
_PICKLE_OPERATIONS = {operation.code for operation in pickletools.opcodes}


class Interpreter:
    """The operations of pickle protocol 2 that build plain values and tensors.

    Args:
        storage: persistent identifier → storage.
    """

    def __init__(self, storage: Callable[[tuple[Any, ...]], Storage]):
        self.storage = storage
        # For all pickles of a file together.
        self.operations = MAX_OPERATIONS
        self.bytes = MAX_PICKLE

    def load(self, file: BinaryIO) -> Any:
        """The value of the pickle that starts at a file's position, which moves behind it."""
        self.file = file
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        while True:
            self._spend(1)
            operation = self._take(1)
            if operation == b".":
                return self.stack.pop()
            self._run(operation)

    def _spend(self, operations: int) -> None:
        self.operations -= operations
        if self.operations < 0:
            raise ValueError("more than a checkpoint needs")

    def _take(self, count: int) -> bytes:
        self.bytes -= count
        if self.bytes < 0:
            raise ValueError("more than a checkpoint needs")
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("it ends too early")
        return data

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _marked_items(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def _last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise ValueError("it takes more values than it made")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def _run(self, operation: bytes) -> None:
        push = self.stack.append
        match operation:
            case b"q":  # BINPUT
                self.memo[self._number("B")] = self.stack[-1]
            case b"r":  # LONG_BINPUT
                self.memo[self._number("<I")] = self.stack[-1]
            case b"h":  # BINGET
                push(self.memo[self._number("B")])
            case b"j":  # LONG_BINGET
                push(self.memo[self._number("<I")])
            case b"K":  # BININT1
                push(self._number("B"))
            case b"(":  # MARK
                self.marked.append(self.stack)
                self.stack = []
            case b"t":  # TUPLE
                items = tuple(self._marked_items())
                self.stack.append(items)
            case b"\x85" | b"\x86" | b"\x87":  # TUPLE1, TUPLE2, TUPLE3
                push(self._last(operation[0] - 0x84))
            case b")":  # EMPTY_TUPLE
                push(())
            case b"X":  # BINUNICODE
                push(self._take(self._number("<I")).decode("utf-8", "surrogatepass"))
            case b"R":  # REDUCE
                self._reduce()
            case b"Q":  # BINPERSID
                push(self.storage(self.stack.pop()))
            case b"M":  # BININT2
                push(self._number("<H"))
            case b"J":  # BININT
                push(self._number("<i"))
            case b"\x8a":  # LONG1
                push(int.from_bytes(self._take(self._number("B")), "little", signed=True))
            case b"G":  # BINFLOAT
                push(self._number(">d"))
            case b"N":  # NONE
                push(None)
            case b"\x88" | b"\x89":  # NEWTRUE, NEWFALSE
                push(operation == b"\x88")
            case b"c":  # GLOBAL
                push(self._global())
            case b"}":  # EMPTY_DICT
                push({})
            case b"]":  # EMPTY_LIST
                push([])
            case b"u":  # SETITEMS
                self._set_items(self._marked_items())
            case b"s":  # SETITEM
                self._set_items(self._last(2))
            case b"e":  # APPENDS
                self._extend(self._marked_items())
            case b"a":  # APPEND
                self._extend(self._last(1))
            case b"U":  # SHORT_BINSTRING: text of Python 2
                push(self._take(self._number("B")).decode())
            case b"b":  # BUILD
                self._build()
            case b"\x80":  # PROTO
                self._take(1)
            case _:
                if operation.decode("latin1") in _PICKLE_OPERATIONS:
                    raise Refused
                raise ValueError("it holds what is no pickle")

    def _global(self) -> Any:
        name = []
        for _ in range(2):
            line = self.file.readline(256)
            self.bytes -= len(line)
            if not line.endswith(b"\n"):
                raise ValueError("it ends too early")
            name.append(line[:-1].decode())
        key = name[0], name[1]
        if key in BOMBS:
            raise Bomb
        if key not in _NAMES:
            raise Refused
        return _NAMES[key]

    def _reduce(self) -> None:
        function, arguments = self._last(2)
        if type(function) is not _Function or type(arguments) is not tuple:
            raise Refused
        # A call may copy its arguments, which the file holds once.
        self._spend(sum(len(a) for a in arguments if isinstance(a, (list, tuple, dict))))
        self.stack.append(function.call(arguments))

    def _build(self) -> None:
        """Attributes of an ordered dict (versions of modules) are left out."""
        (state,) = self._last(1)
        if type(self.stack[-1]) is not OrderedDict or type(state) is not dict:
            raise Refused

    def _set_items(self, items: list[Any] | tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise ValueError("it puts items where there is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[as_key(key)] = value

    def _extend(self, items: list[Any] | tuple[Any, ...]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("it puts items where there is no list")
        self.stack[-1].extend(items)
