"""Read members of a `.npz` file from strangers: plain arrays, no larger than the file holds."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ..errors import InputError

MAX_BYTES = 8 << 30


def read_member(path: Path, name: str) -> np.ndarray:
    """One array of a `.npz` file.

    Raises:
        InputError: the file or the member is missing or damaged, or not an array of numbers.
    """
    with _Member(path, name) as (file, shape, fortran, dtype):
        data = file.read()
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise InputError(f"{path}: its array {name!r} is cut off; get it again")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def member_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of one array of a `.npz` file, without reading its numbers."""
    with _Member(path, name) as (_, shape, _, _):
        return shape


class _Member:
    """An open member, its header read and checked against the archive's sizes."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name

    def __enter__(self) -> tuple[IO[bytes], tuple[int, ...], bool, np.dtype]:
        try:
            self.archive = zipfile.ZipFile(self.path)
            size = self.archive.getinfo(f"{self.name}.npy").file_size
            file = self.archive.open(f"{self.name}.npy")
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file; check the folder and the list") from None
        except KeyError:
            raise InputError(
                f"{self.path}: holds no array {self.name!r}; is it another kind of file?"
            ) from None
        except Exception as error:  # zip, zlib and numpy raise many kinds on damaged files
            raise InputError(f"{self.path}: damaged .npz file ({error}); get it again") from None
        if dtype.kind not in "fiu":
            raise InputError(
                f"{self.path}: its array {self.name!r} holds no numbers; refused, for unpickling "
                "could run code"
            )
        claimed = math.prod(shape) * dtype.itemsize
        if not 0 <= claimed <= min(size, MAX_BYTES):
            raise InputError(f"{self.path}: its array {self.name!r} is damaged; get it again")
        return file, shape, fortran, dtype

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self.archive.close()
        if isinstance(error, zipfile.BadZipFile | OSError | EOFError | ValueError) and not (
            isinstance(error, InputError)
        ):
            raise InputError(f"{self.path}: damaged .npz file ({error}); get it again") from None
