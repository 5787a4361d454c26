"""Read `.safetensors` files: their header, the config in it, and their tensors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from ..errors import InputError
from ..places import command
from ..process import keep_standard_descriptors, require_mlx

# A header larger than this is no checkpoint of ours; it bounds what a lying file can make us read.
MAX_HEADER = 16 << 20
# The types that NumPy has, as the header names them.
NUMPY = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}


def read_config(path: str | Path) -> dict[str, Any]:
    """The config in a `.safetensors` file's metadata, without reading its tensors.

    Raises:
        InputError: the file is missing, not safetensors, or not written by mlx-headpose.
    """
    path = Path(path)
    metadata = read_header(path).get("__metadata__", {})
    try:
        config = json.loads(metadata["config"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"{path}: holds no mlx-headpose config; run "
            f"`{command(f'convert --weight {path}')}` first"
        ) from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: its config is no JSON object")
    return config


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a `.safetensors` file, its sizes checked against the file's."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise InputError(
                    f"{path}: not a safetensors file; give a converted checkpoint, which "
                    f"`{command(f'convert --weight {path}')}` makes"
                )
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a .safetensors file") from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: not a safetensors file; its header is no JSON object")
    return header


def load_tensors(path: str | Path) -> dict[str, mx.array]:
    """The tensors of a `.safetensors` file; float64, which MLX does not read, as float32."""
    path = Path(path)
    header = read_header(path)
    require_mlx()
    keep_standard_descriptors()  # a daemon may have closed them since
    try:
        # MLX does not compare what the header says with the file.
        with safe_open(path, "np") as file:
            if any(header[name]["dtype"] == "F64" for name in file.keys()):  # noqa: SIM118
                return _with_double(file, header, path)
        tensors = mx.load(str(path), format="safetensors")
        assert isinstance(tensors, dict)
        mx.eval(tensors)
    except InputError:
        raise
    except Exception as error:  # neither library says what it raises on a damaged file
        raise InputError(f"{path}: damaged safetensors file ({error}); get it again") from None
    return tensors


def _with_double(file: Any, header: dict[str, Any], path: Path) -> dict[str, mx.array]:
    """The tensors of an open file that has float64 among them."""
    tensors = {}
    for name in file.keys():  # noqa: SIM118
        if header[name]["dtype"] not in NUMPY:
            raise InputError(
                f"{path}: mixes float64 and {header[name]['dtype']}; save its tensors as float32"
            )
        value = file.get_tensor(name)
        with np.errstate(over="ignore", invalid="ignore"):
            tensors[name] = mx.array(
                value.astype(np.float32) if value.dtype == np.float64 else value
            )
    mx.eval(tensors)
    return tensors
