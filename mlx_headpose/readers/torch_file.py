"""Files that `torch.save` wrote, read and written without PyTorch.

Two forms exist (torch/serialization.py): since PyTorch 1.6 a zip archive with `data.pkl` and one
uncompressed entry for each storage; before that a stream of pickles (magic number, protocol
version, system, content, keys of the storages) followed by the raw storages.

Nothing in a file is imported, called or unpickled. The interpreter below knows the operations
that `torch.save` writes for a state dict; the names in a pickle select inert stand-ins from a
table, and everything outside it is refused. What is built is limited in size, and storages are
read for those tensors only that are returned.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputError

# No published checkpoint comes near; a header that asks for more lies.
MAX_BYTES = 2 << 30
# Weights hardly compress. Tensors that share their numbers, and half precision, may take more in
# memory than in the file; whatever goes beyond this is a bomb.
MAX_RATIO = 16
# A network of 2,000 tensors with its optimizer takes 300,000 operations and 10 MB.
MAX_OPERATIONS = 1_000_000
MAX_PICKLE = 64 << 20
MAX_DIMENSIONS = 32
# Larger integers share their hashes, which makes a dict slow.
MAX_KEY = 1 << 60

# Where training programs keep the state dict, its running average first, beside an optimizer.
WRAPPERS = (
    "model_state_dict_ema",
    "model_state_dict",
    "state_dict_ema",
    "state_dict",
    "model_ema",
    "model",
    "net",
    "weights",
)

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
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


def read_torch(path: str | Path, wrappers: Iterable[str] = WRAPPERS) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote.

    Args:
        path: file in the zip form or the older stream form.
        wrappers: names under which a dict may hold the state dict, in order of preference.

    Returns:
        Name (without a leading "module.") → array. Floating-point numbers of every precision are
        float32; other types are as they were saved.

    Raises:
        InputError: the file is damaged, holds more than tensors, or holds none by name.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _content(file, path)
            state = _state_dict(content.loaded, tuple(wrappers))
            require_plausible(sum(tensor.result_size for tensor in state.values()), path)
            tensors = _arrays(state, content)
    except InputError:
        raise
    except _Bomb:
        raise InputError(
            f"{path}: refused, it holds more than tensors; ask for a plain state dict"
        ) from None
    except _Refused:
        raise InputError(
            f"{path}: refused, it holds Python objects that could run code; "
            "ask its publisher for a plain state dict"
        ) from None
    # A pickle or an archive of other values than expected fails in one of these ways.
    except (
        ArithmeticError, EOFError, LookupError, NotImplementedError, OSError, TypeError,
        ValueError, struct.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: damaged PyTorch file ({reason}); get it again") from None
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name; give a state dict")
    return tensors


def require_plausible(size: int, path: Path) -> None:
    """Refuse a file that claims to hold more than one of its size can.

    Args:
        size: bytes of its arrays in memory.
        path: the file.

    Raises:
        InputError: it claims too much.
    """
    if size > min(MAX_BYTES, MAX_RATIO * path.stat().st_size + (1 << 20)):
        raise InputError(f"{path}: claims to hold {size >> 20} MB; not a checkpoint")


class _Refused(Exception):
    """A pickle asks for what a state dict does not need."""


class _Bomb(Exception):
    """A pickle asks for what fills the memory."""


# What a pickle can make.


@dataclass(frozen=True, slots=True)
class _Kind:
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
class _Storage:
    """Part of the bytes under a key."""

    key: str
    kind: _Kind
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides count elements, as in PyTorch."""

    storage: _Storage
    kind: _Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def result_size(self) -> int:
        """Bytes of the array that `read_torch` returns."""
        return math.prod(self.shape) * (4 if self.kind.floating else self.kind.itemsize)


def _size(value: Any) -> int:
    """A size or an offset; a bool is none."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a size is no number")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) not in (tuple, list) or len(value) > MAX_DIMENSIONS:
        raise ValueError("a tensor has no shape")
    return tuple(_size(n) for n in value)


def _tensor(storage: Any, kind: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    if type(storage) is not _Storage or type(kind) is not _Kind:
        raise ValueError("a tensor has no storage")
    offset, shape, strides = _size(offset), _sizes(shape), _sizes(strides)
    if len(shape) != len(strides):
        raise ValueError("a tensor has no shape")
    # Where there is one element, or none, its stride means nothing.
    strides = tuple(s if n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * kind.itemsize > storage.size:
        raise ValueError("a tensor is larger than its storage")
    if math.prod(n or 1 for n in shape) * kind.itemsize >= 1 << 62:
        raise ValueError("a tensor has no possible shape")
    return _Tensor(storage, kind, offset, shape, strides)


def _require_no_metadata(metadata: tuple[Any, ...]) -> None:
    """A lazy conjugate or negative would have to be computed."""
    if len(metadata) > 1 or any(metadata):
        raise ValueError("a tensor is a lazy negative")


def _rebuild_tensor(arguments: tuple[Any, ...]) -> _Tensor:
    storage, offset, shape, strides = arguments
    return _tensor(storage, getattr(storage, "kind", None), offset, shape, strides)


def _rebuild_tensor_v2(arguments: tuple[Any, ...]) -> _Tensor:
    storage, offset, shape, strides, _grad, _hooks, *metadata = arguments
    _require_no_metadata(tuple(metadata))
    return _rebuild_tensor((storage, offset, shape, strides))


def _rebuild_tensor_v3(arguments: tuple[Any, ...]) -> _Tensor:
    storage, offset, shape, strides, _grad, _hooks, dtype, *metadata = arguments
    _require_no_metadata(tuple(metadata))
    return _tensor(storage, dtype, offset, shape, strides)


def _rebuild_parameter(arguments: tuple[Any, ...]) -> _Tensor:
    """Also with attributes that somebody set, which are left out."""
    tensor = arguments[0]
    if type(tensor) is not _Tensor or len(arguments) not in (3, 4):
        raise ValueError("a parameter has no tensor")
    return tensor


def _rebuild_from_type(arguments: tuple[Any, ...]) -> _Tensor:
    """A tensor with attributes that somebody set, which are left out."""
    function, kind, arguments, _state = arguments
    if function not in _REBUILD.values() or kind is not _TENSOR or type(arguments) is not tuple:
        raise _Refused
    return function.call(arguments)


def _ordered_dict(arguments: tuple[Any, ...]) -> OrderedDict:
    """Empty in Python 3, with a list of pairs in Python 2."""
    (pairs,) = arguments or ([],)
    if type(pairs) is not list:
        raise ValueError("an ordered dict is no list")
    made: OrderedDict = OrderedDict()
    for key, value in pairs:
        made[_key(key)] = value
    return made


def _inert(arguments: tuple[Any, ...]) -> Any:
    """What stands beside weights (devices, sets, counters) is kept as it was described."""
    return arguments


def _first(arguments: tuple[Any, ...]) -> Any:
    (shape,) = arguments
    return shape


def _key(value: Any) -> Any:
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
    **{("torch", name): _Kind(code) for name, code in (STORAGES | DTYPES).items()},
    **{("torch.cuda", name): _Kind(code) for name, code in STORAGES.items()},
    ("torch.storage", "UntypedStorage"): _Kind("u1"),
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


class _Interpreter:
    """The operations of pickle protocol 2 that build plain values and tensors.

    Args:
        storage: persistent identifier → storage.
    """

    def __init__(self, storage: Callable[[tuple[Any, ...]], _Storage]):
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
                    raise _Refused
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
            raise _Bomb
        if key not in _NAMES:
            raise _Refused
        return _NAMES[key]

    def _reduce(self) -> None:
        function, arguments = self._last(2)
        if type(function) is not _Function or type(arguments) is not tuple:
            raise _Refused
        # A call may copy its arguments, which the file holds once.
        self._spend(sum(len(a) for a in arguments if isinstance(a, (list, tuple, dict))))
        self.stack.append(function.call(arguments))

    def _build(self) -> None:
        """Attributes of an ordered dict (versions of modules) are left out."""
        (state,) = self._last(1)
        if type(self.stack[-1]) is not OrderedDict or type(state) is not dict:
            raise _Refused

    def _set_items(self, items: list[Any] | tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise ValueError("it puts items where there is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _extend(self, items: list[Any] | tuple[Any, ...]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("it puts items where there is no list")
        self.stack[-1].extend(items)


# The two forms of files.


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file holds: the value of its pickle, and a way to read its storages' bytes."""

    loaded: Any
    read: Callable[[str], np.ndarray]
    byte_order: str = "<"


def _content(file: io.BufferedReader, path: Path) -> _Content:
    start = file.read(512)
    file.seek(0)
    if start[257:262] == b"ustar":
        raise InputError(
            f"{path}: a tar archive, as PyTorch wrote before version 0.2; load it with PyTorch "
            "and save it again, or unpack it"
        )
    return _read_zip(file, path) if start[:2] == b"PK" else _read_stream(file)


def _storage_fields(identifier: Any, more: int) -> tuple[_Kind, str, int, tuple[Any, ...]]:
    """Type, key, number of elements and what follows of ("storage", type, key, device, number)."""
    if type(identifier) is not tuple or len(identifier) != 5 + more:
        raise ValueError("it points to what is no storage")
    word, kind, key, _device, count, *rest = identifier
    if word != "storage" or type(kind) is not _Kind or type(key) is not str:
        raise ValueError("it points to what is no storage")
    return kind, key, _size(count), tuple(rest)


def _bytes_at(file: io.BufferedReader, offset: int, size: int) -> np.ndarray:
    """Bytes of a file that is known to be so long."""
    data = np.empty(size, np.uint8)
    file.seek(offset)
    if file.readinto(data.data) != size:
        raise ValueError("it ends too early")
    return data


def _read_zip(file: io.BufferedReader, path: Path) -> _Content:
    total = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    # torch does not compress, so that what lies there cannot be more than the file.
    if sum(entry.file_size for entry in entries) > total:
        raise InputError(f"{path}: its parts claim more bytes than it has; get it again")
    members = {entry.filename: entry for entry in entries}
    if any(name.split("/")[1:] == ["constants.pkl"] for name in members):
        raise InputError(
            f"{path}: a TorchScript archive, which holds code; save its state_dict: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
        )
    folders = [name.split("/")[0] for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(members) != len(entries) or len(folders) != 1:
        raise ValueError("it holds not one data.pkl")

    def read(name: str) -> np.ndarray:
        entry = members[f"{folders[0]}/{name}"]
        packed = entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1
        if packed or entry.compress_size != entry.file_size:
            raise ValueError("its parts are compressed or encrypted")
        file.seek(entry.header_offset)
        signature, name_length, extra_length = struct.unpack("<4s22xHH", file.read(30))
        if signature != b"PK\x03\x04":
            raise ValueError("its parts are not where it says")
        data = _bytes_at(
            file, entry.header_offset + 30 + name_length + extra_length, entry.file_size
        )
        # PyTorch writes 0 where it is told to save the time.
        if entry.CRC not in (0, zlib.crc32(data.data)):
            raise ValueError("a checksum is wrong")
        return data

    kinds: dict[str, _Kind] = {}

    def storage(identifier: tuple[Any, ...]) -> _Storage:
        kind, key, count, _ = _storage_fields(identifier, 0)
        size = count * kind.itemsize
        if size != members[f"{folders[0]}/data/{key}"].file_size:
            raise ValueError("a storage is not as large as its part")
        if size and kinds.setdefault(key, kind) != kind:
            raise ValueError("a storage is of two types")
        return _Storage(key, kind, 0, size)

    order = b"little"
    if f"{folders[0]}/byteorder" in members:
        order = read("byteorder").tobytes()
    if order not in (b"little", b"big"):
        raise ValueError("its byte order is unknown")
    if members[f"{folders[0]}/data.pkl"].file_size > MAX_PICKLE:
        raise ValueError("more than a checkpoint needs")
    loaded = _Interpreter(storage).load(io.BytesIO(read("data.pkl").tobytes()))
    return _Content(loaded, lambda key: read(f"data/{key}"), "<" if order == b"little" else ">")


def _read_stream(file: io.BufferedReader) -> _Content:
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    roots: dict[str, _Storage] = {}

    def storage(identifier: tuple[Any, ...]) -> _Storage:
        kind, key, count, (view,) = _storage_fields(identifier, 1)
        root = roots.setdefault(key, _Storage(key, kind, 0, count * kind.itemsize))
        if root.size != count * kind.itemsize or (root.size and root.kind != kind):
            raise ValueError("a storage is of two types")
        if view is None:
            return root
        _view_key, offset, count = view
        start, size = _size(offset) * kind.itemsize, _size(count) * kind.itemsize
        if start + size > root.size:
            raise ValueError("a view is larger than its storage")
        return _Storage(key, kind, start, size)

    interpreter = _Interpreter(storage)
    if interpreter.load(file) != MAGIC:
        raise ValueError("it does not start as torch.save starts one")
    if interpreter.load(file) != PROTOCOL:
        raise ValueError("its protocol is unknown")
    interpreter.load(file)  # the sizes of C's types, which no longer differ
    loaded = interpreter.load(file)
    keys = interpreter.load(file)
    if type(keys) is not list:
        raise ValueError("it lists no storages")
    offsets: dict[str, int] = {}
    for key in keys:
        root = roots[_key(key)]
        if key in offsets:
            raise ValueError("it lists a storage twice")
        head = file.read(8)
        offsets[key] = file.tell()
        if len(head) != 8 or offsets[key] + root.size > total:
            raise ValueError("it ends too early")
        if int.from_bytes(head, "little") * root.kind.itemsize != root.size:
            raise ValueError("a storage is not as large as it says")
        file.seek(root.size, io.SEEK_CUR)
    return _Content(loaded, lambda key: _bytes_at(file, offsets[key], roots[key].size))


def _state_dict(loaded: Any, wrappers: tuple[str, ...]) -> dict[str, _Tensor]:
    """The dict of tensors in what a file held, at most two wrappers deep."""
    for _ in range(3):
        if not isinstance(loaded, dict):
            return {}
        tensors = {k: v for k, v in loaded.items() if type(k) is str and type(v) is _Tensor}
        if tensors:
            # Training on several GPUs puts "module." in front of every name.
            if all(name.startswith("module.") for name in tensors):
                tensors = {name.removeprefix("module."): v for name, v in tensors.items()}
            return tensors
        loaded = next((loaded[key] for key in wrappers if key in loaded), None)
    return {}


def _arrays(state: dict[str, _Tensor], content: _Content) -> dict[str, np.ndarray]:
    """Tensors as arrays; those that share a storage share its memory where they can."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in state.items():
        key = tensor.storage.key
        if 0 not in tensor.shape and key not in storages:
            storages[key] = content.read(key)
        arrays[name] = _array(tensor, storages.get(key), content.byte_order)
    return arrays


def _array(tensor: _Tensor, data: np.ndarray | None, byte_order: str) -> np.ndarray:
    half = tensor.kind.code == BFLOAT16
    saved = np.dtype(byte_order + ("u2" if half else tensor.kind.code))
    if data is None or 0 in tensor.shape:
        view = np.empty(tensor.shape, saved)
    else:
        view = np.ndarray(
            tensor.shape,
            saved,
            data,
            tensor.storage.start + tensor.offset * saved.itemsize,
            [stride * saved.itemsize for stride in tensor.strides],
        )
    if half:  # the upper half of a float32
        bits = view.astype(np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    kind = np.dtype(np.float32) if tensor.kind.floating else saved.newbyteorder("=")
    with np.errstate(over="ignore", invalid="ignore"):  # of float64
        return view.astype(kind, order="C", copy=False)


# Writing.


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


_STORAGE_OF = {code: name for name, code in STORAGES.items() if name != "UntypedStorage"}
