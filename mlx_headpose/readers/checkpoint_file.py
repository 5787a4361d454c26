"""Reading untrusted checkpoint files without running anything that they hold.

The kind of file is told by its first bytes, never by its name.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.checkpoint import Tensors
from ..errors import InputError
from .isolated import read_h5_isolated
from .onnx_file import read_initializers
from .pickled_npy import read_npy
from .torch_file import WRAPPERS, read_torch, require_plausible

# Endings of files that may hold a published checkpoint.
SUFFIXES = (
    *(".safetensors", ".pkl", ".pth", ".pt", ".bin"),
    *(".h5", ".hdf5", ".npz", ".npy", ".onnx"),
)


def read_tensors(path: Path, state: str | None = None) -> Tensors:
    """Every tensor of a checkpoint file, under the names that it gives them.

    Of a folder, the tensors of every file whose name ends as a checkpoint's, with the file's name
    (without suffix) and a dot in front.

    Args:
        path: file or folder.
        state: name of the state dict to take of a PyTorch file that holds several; None takes the
            first of `WRAPPERS`.

    Raises:
        InputError: a file is missing, damaged, of an unknown kind, or holds more than tensors.
    """
    if path.is_dir():
        files = sorted(
            file
            for file in path.iterdir()
            if file.is_file() and file.suffix in SUFFIXES and not file.name.startswith(".")
        )
        if not files:
            raise InputError(f"{path}: holds no checkpoint; check the path")
        return {f"{file.stem}.{n}": v for file in files for n, v in read_tensors(file).items()}
    wrappers = WRAPPERS if state is None else (state,)
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if start[:2] == b"PK":
        return _read_npz(path) if _is_npz(path) else read_torch(path, wrappers)
    if start[:1] == b"\x80" or start[257:262] == b"ustar":
        return read_torch(path, wrappers)
    if start[:4] == b"\x89HDF":
        return read_h5_isolated(path)
    if start[:6] == b"\x93NUMPY":
        return read_npy(path)
    if start[:1] == b"\x08" and path.suffix == ".onnx":
        return read_initializers(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    raise InputError(
        f"{path}: not a checkpoint of a known kind; give a PyTorch, Keras .h5, .npy, "
        ".npz, .onnx or .safetensors file"
    )


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises many kinds on damaged archives
        raise InputError(f"{path}: damaged archive ({error}); get it again") from None
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_npz(path: Path) -> Tensors:
    try:
        with zipfile.ZipFile(path) as archive:
            require_plausible(sum(entry.file_size for entry in archive.infolist()), path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except InputError:
        raise
    except Exception as error:  # zip, zlib and numpy raise many kinds on damaged files
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise InputError(
                f"{path}: refused, it holds pickled Python objects that could run code"
            ) from None
        raise InputError(f"{path}: damaged .npz file ({error}); get it again") from None


def _read_safetensors(path: Path) -> Tensors:
    from ..readers.safetensors_file import load_tensors

    return {name: _array(value) for name, value in load_tensors(path).items()}


def _array(value: mx.array) -> np.ndarray:
    """NumPy has no bfloat16."""
    return np.array(value.astype(mx.float32) if value.dtype == mx.bfloat16 else value)
