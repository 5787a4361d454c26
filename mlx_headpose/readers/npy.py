"""Read untrusted `.npy` and `.npz` files: plain arrays, no larger than the file holds."""

from __future__ import annotations

import math
import struct
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ..errors import InputError

# What is held in memory at once. Compression lets a small file claim anything.
MAX_BYTES = 512 << 20
# The fixed part of the header in front of a zip archive's member.
LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class Layout:
    """What an array's header states."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """What the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def read(cls, file: IO[bytes]) -> Layout:
        """The header where a `.npy` file begins; damaged ones raise many kinds of error."""
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return cls(*header(file))


def read_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file.

    Raises:
        FileNotFoundError: the file is missing.
        InputError: it is damaged, or no array of numbers.
    """
    with path.open("rb") as file:
        layout = _layout(file, path.stat().st_size, path, "array", "fiu")
        return _array(file.read(layout.nbytes), layout, path, "array")


def member_names(path: Path) -> list[str]:
    """The names of the arrays in a `.npz` file.

    Raises:
        InputError: the file is missing or no `.npz` file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check its name") from None
    except Exception as error:  # zip raises many kinds on damaged files
        raise InputError(f"{path}: not an .npz file ({error}); get it again") from None
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_member(path: Path, name: str, kinds: str = "fiu") -> np.ndarray:
    """One array of a `.npz` file.

    Args:
        path: the file.
        name: name of the array.
        kinds: letters of the numpy types that it may have: f, i, u for numbers, U for strings.

    Raises:
        InputError: the file or the member is missing, damaged, too large, or of another kind.
    """
    with _Member(path, name, kinds) as member:
        if member.entry.file_size > MAX_BYTES:
            raise InputError(
                f"{path}: its array {name!r} is too large to hold; save it again with numpy.savez, "
                "uncompressed and in C order"
            )
        return _array(member.file.read(), member.layout, path, name)


def member_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of one array of a `.npz` file, without reading its numbers."""
    with _Member(path, name) as member:
        return member.layout.shape


class StoredRows:
    """A large array that lies uncompressed in a `.npz` file; each row is read when it is asked for.

    The archive's checksum, which is over the whole array, is not compared.
    """

    def __init__(self, path: Path, start: int, layout: Layout):
        self.path, self.start, self.dtype = path, start, layout.dtype
        self.shape, self.ndim = layout.shape, len(layout.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Row `index`, of shape `shape[1:]`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        count = math.prod(self.shape[1:])
        start = self.start + index * count * self.dtype.itemsize
        try:
            return np.fromfile(self.path, self.dtype, count, offset=start).reshape(self.shape[1:])
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: row {index} cannot be read ({error})") from None


def read_rows(path: Path, name: str) -> np.ndarray | StoredRows:
    """The rows of an array: all of them, or, of a large one, each when it is asked for.

    Raises:
        InputError: see `read_member`.
    """
    with _Member(path, name) as member:
        layout = member.layout
        stored = member.entry.compress_type == zipfile.ZIP_STORED
        if member.entry.file_size > MAX_BYTES and stored and layout.shape and not layout.fortran:
            return StoredRows(path, member.start(), layout)
    return read_member(path, name)


class _Member:
    """An open member, its header read and checked against the archive's sizes.

    Attributes:
        entry: what the archive says of the member.
        file: the member, after its array's header.
        layout: what that header says.
    """

    def __init__(self, path: Path, name: str, kinds: str = "fiu"):
        self.path, self.name, self.kinds = path, name, kinds

    def __enter__(self) -> _Member:
        with ExitStack() as opened:
            self._open(opened)
            self.opened = opened.pop_all()
        return self

    def _open(self, opened: ExitStack) -> None:
        try:
            archive = opened.enter_context(zipfile.ZipFile(self.path))
            self.entry = archive.getinfo(f"{self.name}.npy")
            self.file: IO[bytes] = opened.enter_context(archive.open(self.entry))
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file; check the folder and the list") from None
        except KeyError:
            raise InputError(
                f"{self.path}: holds no array {self.name!r}; is it another kind of file?"
            ) from None
        except Exception as error:  # zip and zlib raise many kinds on damaged files
            raise InputError(f"{self.path}: damaged .npz file ({error}); get it again") from None
        self.layout = _layout(self.file, self.entry.file_size, self.path, self.name, self.kinds)

    def start(self) -> int:
        """Where in the archive's file the numbers of an uncompressed array begin."""
        with self.path.open("rb") as file:
            file.seek(self.entry.header_offset)
            _, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        start = self.entry.header_offset + LOCAL_HEADER.size + name + extra + self.file.tell()
        if start + self.layout.nbytes > self.path.stat().st_size:
            raise InputError(f"{self.path}: its array {self.name!r} is cut off; get it again")
        return start

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self.opened.close()
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise InputError(f"{self.path}: damaged .npz file ({error}); get it again") from None


def _layout(file: IO[bytes], size: int, path: Path, name: str, kinds: str) -> Layout:
    """What an array's header states, if `size` bytes can hold it."""
    try:
        layout = Layout.read(file)
    except Exception as error:  # numpy raises many kinds on damaged headers
        raise InputError(f"{path}: {name!r} is a damaged array ({error}); get it again") from None
    if layout.dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "strings"
        raise InputError(
            f"{path}: its array {name!r} holds no {wanted}; refused, for unpickling could run code"
        )
    if min(layout.shape, default=0) < 0 or layout.nbytes > size:
        raise InputError(f"{path}: its array {name!r} is damaged; get it again")
    return layout


def _array(data: bytes, layout: Layout, path: Path, name: str) -> np.ndarray:
    if len(data) != layout.nbytes:
        raise InputError(f"{path}: its array {name!r} is cut off; get it again")
    values = np.frombuffer(data, layout.dtype)
    return values.reshape(layout.shape, order="F" if layout.fortran else "C")
