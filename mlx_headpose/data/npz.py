"""Read members of a `.npz` file from strangers: plain arrays, no larger than the file holds."""

from __future__ import annotations

import math
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ..errors import InputError

MAX_BYTES = 8 << 30


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
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path}: not an .npz file ({error}); get it again") from None
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_member(path: Path, name: str, kinds: str = "fiu") -> np.ndarray:
    """One array of a `.npz` file.

    Args:
        path: the file.
        name: of the array.
        kinds: letters of the numpy types that it may have: f, i, u for numbers, U for strings.

    Raises:
        InputError: the file or the member is missing or damaged, or of another kind.
    """
    with _Member(path, name, kinds) as (file, shape, fortran, dtype):
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

    def __init__(self, path: Path, name: str, kinds: str = "fiu"):
        self.path, self.name, self.kinds = path, name, kinds

    def __enter__(self) -> tuple[IO[bytes], tuple[int, ...], bool, np.dtype]:
        with ExitStack() as opened:
            member = self._open(opened)
            self.opened = opened.pop_all()
        return member

    def _open(self, opened: ExitStack) -> tuple[IO[bytes], tuple[int, ...], bool, np.dtype]:
        try:
            archive = opened.enter_context(zipfile.ZipFile(self.path))
            size = archive.getinfo(f"{self.name}.npy").file_size
            file = opened.enter_context(archive.open(f"{self.name}.npy"))
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
        if dtype.kind not in self.kinds:
            wanted = "numbers" if "f" in self.kinds else "strings"
            raise InputError(
                f"{self.path}: its array {self.name!r} holds no {wanted}; refused, for unpickling "
                "could run code"
            )
        claimed = math.prod(shape) * dtype.itemsize
        if not 0 <= claimed <= min(size, MAX_BYTES):
            raise InputError(f"{self.path}: its array {self.name!r} is damaged; get it again")
        return file, shape, fortran, dtype

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self.opened.close()
        if isinstance(error, zipfile.BadZipFile | OSError | EOFError | ValueError) and not (
            isinstance(error, InputError)
        ):
            raise InputError(f"{self.path}: damaged .npz file ({error}); get it again") from None
