"""Reading checkpoint files from strangers without running anything that they hold.

The kind of file is told by its first bytes, never by its name.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.checkpoint import Tensors
from ..errors import InputError
from ..readers.onnx_file import read_initializers
from .isolated import read_h5_isolated
from .pickled_npy import read_npy

# No published checkpoint comes near; a header that asks for more lies.
MAX_BYTES = 2 << 30
# Weights hardly compress. Tensors that share their numbers, and half precision, may take more in
# memory than in the file; whatever goes beyond this is a bomb.
MAX_RATIO = 16
# Allowed by torch's `weights_only`, needed by no checkpoint, and able to fill the memory.
BOMBS = (b"bytearray", b"_codecs")

INSTALL_TORCH = (
    "PyTorch checkpoints need torch, only to be converted: run `pip install torch` and try again"
)


def read_tensors(path: Path) -> Tensors:
    """Every tensor of a checkpoint file, under the names that it gives them.

    Of a folder, every file's tensors, with the file's name (without suffix) and a dot in front.

    Raises:
        InputError: a file is missing, damaged, of an unknown kind, or holds more than tensors.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        return {f"{file.stem}.{n}": v for file in files for n, v in read_tensors(file).items()}
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if start[:2] == b"PK":
        return _read_npz(path) if _is_npz(path) else read_torch(path)
    if start[:1] == b"\x80" or b"ustar" in start:
        return read_torch(path)
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


def read_torch(path: Path) -> Tensors:
    """The tensors of a `torch.save` file, through torch's `weights_only` loading.

    Accepts a state dict, or a dict that holds one (`model`, `state_dict`, ...).
    """
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: {INSTALL_TORCH}") from None
    import pickle
    import warnings

    try:
        _defuse(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on old formats
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        state = _state_dict(loaded)
        _require_plausible(sum(v.numel() * v.element_size() for v in state.values()), path)
        tensors = {name: _numpy(value) for name, value in state.items()}
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error)
        if "GLOBAL" in reason or "not an allowed" in reason or "Unsupported" in reason:
            raise InputError(
                f"{path}: refused, it holds Python objects that could run code; "
                "ask its publisher for a plain state dict"
            ) from None
        raise InputError(f"{path}: damaged PyTorch file; get it again") from None
    # A damaged archive can raise nearly anything inside torch's reader.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: damaged PyTorch file ({first}); get it again") from None
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name; give a state dict")
    return tensors


def _defuse(path: Path) -> None:
    """Refuse what could fill the memory before torch gives the tensors out."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch does not compress, so that what lies there cannot be more than the file.
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise InputError(f"{path}: its parts claim more bytes than it has; get it again")
            contents = [archive.read(e) for e in entries if e.filename.endswith(".pkl")]
    else:
        contents = [path.read_bytes()]
    if any(word in content for content in contents for word in BOMBS):
        raise InputError(f"{path}: refused, it holds more than tensors; ask for a plain state dict")


def _require_plausible(size: int, path: Path) -> None:
    if size > min(MAX_BYTES, MAX_RATIO * path.stat().st_size + (1 << 20)):
        raise InputError(f"{path}: claims to hold {size >> 20} MB; not a checkpoint")


def _state_dict(loaded: Any) -> dict[str, Any]:
    """The dict of tensors in what a file held, at most two wrappers deep."""
    for _ in range(3):
        if not isinstance(loaded, dict):
            return {}
        tensors = {k: v for k, v in loaded.items() if isinstance(k, str) and hasattr(v, "numpy")}
        if tensors:
            # Training on several GPUs puts "module." in front of every name.
            if all(name.startswith("module.") for name in tensors):
                tensors = {name.removeprefix("module."): v for name, v in tensors.items()}
            return tensors
        wrappers = ("model_state_dict", "state_dict", "model", "net", "weights")
        loaded = next((loaded[key] for key in wrappers if key in loaded), None)
    return {}


def _numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach()
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    return tensor.contiguous().numpy()


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
            _require_plausible(sum(entry.file_size for entry in archive.infolist()), path)
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
