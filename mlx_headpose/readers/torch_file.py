"""Files that `torch.save` wrote, read without PyTorch.

Two forms exist (torch/serialization.py): since PyTorch 1.6 a zip archive with `data.pkl` and one
uncompressed entry for each storage; before that a stream of pickles (magic number, protocol
version, system, content, keys of the storages) followed by the raw storages.

`torch_pickle.py` interprets the pickles; storages are read for those tensors only that are
returned.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .torch_pickle import (
    BFLOAT16,
    MAX_PICKLE,
    Bomb,
    Interpreter,
    Kind,
    Refused,
    Storage,
    Tensor,
    as_key,
    as_size,
)

# No published checkpoint comes near; a header that asks for more lies.
MAX_BYTES = 2 << 30
# Weights hardly compress. Tensors that share their numbers, and half precision, may take more in
# memory than in the file; whatever goes beyond this is a bomb.
MAX_RATIO = 16

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
    except Bomb:
        raise InputError(
            f"{path}: refused, it holds more than tensors; ask for a plain state dict"
        ) from None
    except Refused:
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


def _storage_fields(identifier: Any, more: int) -> tuple[Kind, str, int, tuple[Any, ...]]:
    """Type, key, number of elements and what follows of ("storage", type, key, device, number)."""
    if type(identifier) is not tuple or len(identifier) != 5 + more:
        raise ValueError("it points to what is no storage")
    word, kind, key, _device, count, *rest = identifier
    if word != "storage" or type(kind) is not Kind or type(key) is not str:
        raise ValueError("it points to what is no storage")
    return kind, key, as_size(count), tuple(rest)


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

    kinds: dict[str, Kind] = {}

    def storage(identifier: tuple[Any, ...]) -> Storage:
        kind, key, count, _ = _storage_fields(identifier, 0)
        size = count * kind.itemsize
        if size != members[f"{folders[0]}/data/{key}"].file_size:
            raise ValueError("a storage is not as large as its part")
        if size and kinds.setdefault(key, kind) != kind:
            raise ValueError("a storage is of two types")
        return Storage(key, kind, 0, size)

    order = b"little"
    if f"{folders[0]}/byteorder" in members:
        order = read("byteorder").tobytes()
    if order not in (b"little", b"big"):
        raise ValueError("its byte order is unknown")
    if members[f"{folders[0]}/data.pkl"].file_size > MAX_PICKLE:
        raise ValueError("more than a checkpoint needs")
    loaded = Interpreter(storage).load(io.BytesIO(read("data.pkl").tobytes()))
    return _Content(loaded, lambda key: read(f"data/{key}"), "<" if order == b"little" else ">")


def _read_stream(file: io.BufferedReader) -> _Content:
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    roots: dict[str, Storage] = {}

    def storage(identifier: tuple[Any, ...]) -> Storage:
        kind, key, count, (view,) = _storage_fields(identifier, 1)
        root = roots.setdefault(key, Storage(key, kind, 0, count * kind.itemsize))
        if root.size != count * kind.itemsize or (root.size and root.kind != kind):
            raise ValueError("a storage is of two types")
        if view is None:
            return root
        _view_key, offset, count = view
        start, size = as_size(offset) * kind.itemsize, as_size(count) * kind.itemsize
        if start + size > root.size:
            raise ValueError("a view is larger than its storage")
        return Storage(key, kind, start, size)

    interpreter = Interpreter(storage)
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
        root = roots[as_key(key)]
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


def _state_dict(loaded: Any, wrappers: tuple[str, ...]) -> dict[str, Tensor]:
    """The dict of tensors in what a file held, at most two wrappers deep."""
    for _ in range(3):
        if not isinstance(loaded, dict):
            return {}
        tensors = {k: v for k, v in loaded.items() if type(k) is str and type(v) is Tensor}
        if tensors:
            # Training on several GPUs puts "module." in front of every name.
            if all(name.startswith("module.") for name in tensors):
                tensors = {name.removeprefix("module."): v for name, v in tensors.items()}
            return tensors
        loaded = next((loaded[key] for key in wrappers if key in loaded), None)
    return {}


def _arrays(state: dict[str, Tensor], content: _Content) -> dict[str, np.ndarray]:
    """Tensors as arrays; those that share a storage share its memory where they can."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in state.items():
        key = tensor.storage.key
        if 0 not in tensor.shape and key not in storages:
            storages[key] = content.read(key)
        arrays[name] = _array(tensor, storages.get(key), content.byte_order)
    return arrays


def _array(tensor: Tensor, data: np.ndarray | None, byte_order: str) -> np.ndarray:
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
