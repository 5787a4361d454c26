"""Read a Keras `.h5` file of weights with h5py alone: nothing stored in the file is run.

Only the weights are looked at. A saved model's configuration, with its Lambda layers, stays unread.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..core.checkpoint import Tensors
from ..errors import InputError

# What one file may make us hold besides the weights' own bytes.
MAX_LAYERS = 100_000
MAX_NAMES_BYTES = 16 << 20


def read_h5(path: str | Path) -> Tensors:
    """Tensors in layer order, which an HDF5 file's own order (by name) is not.

    Args:
        path: what Keras wrote with `save_weights` or `save`.

    Returns:
        "layer/weight:0" as the file names it → array.

    Raises:
        InputError: it is missing, damaged, no Keras file, or points outside itself.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise InputError(f"{path}: damaged or no HDF5 file ({error}); get it again") from None


def _read(file: Any, path: Path) -> Tensors:
    root = _child(file, "model_weights", path) if _has(file, "model_weights") else file
    layers = _names(root, "layer_names", path)
    if not layers:
        raise InputError(f"{path}: has no attribute layer_names; is it a Keras file of weights?")
    tensors: Tensors = {}
    size = 0
    for layer in layers:
        group = _child(root, layer, path)
        for name in _names(group, "weight_names", path):
            dataset = _child(group, name, path)
            if not hasattr(dataset, "shape") or dataset.dtype.kind not in "fiu":
                raise InputError(f"{path}: {name} is no array of numbers")
            if dataset.external or dataset.is_virtual:
                raise InputError(f"{path}: {name} lies in another file; give a file with all data")
            # Sizes in the header are a claim: a compressed or empty dataset can claim anything.
            size += dataset.size * dataset.dtype.itemsize
            if size > path.stat().st_size:
                raise InputError(f"{path}: claims more weights than it has bytes; get it again")
            if dataset.size * dataset.dtype.itemsize > dataset.id.get_storage_size():
                raise InputError(f"{path}: {name} is compressed or truncated; save it plainly")
            if name in tensors:
                raise InputError(f"{path}: {name} appears twice")
            tensors[name] = np.asarray(dataset[()])
    return tensors


def _has(group: Any, name: str) -> bool:
    """Whether there is a member of this name, without following links to find out."""
    return group.get(name, getlink=True) is not None


def _child(group: Any, name: str, path: Path) -> Any:
    """A member reached through the file's own links only."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(group, h5py.Group):
            raise InputError(f"{path}: {name} is no path inside the file")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise InputError(f"{path}: {name} is missing or lies in another file")
        group = group[part]
    return group


def _names(group: Any, attribute: str, path: Path) -> list[str]:
    """A list of names; Keras splits one over 64 KiB into attribute0, attribute1, ..."""
    keys = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(keys)}" in group.attrs:
        keys.append(f"{attribute}{len(keys)}")
    names: list[str] = []
    for key in keys:
        stored = group.attrs.get_id(key)
        size = math.prod(stored.shape) * stored.get_type().get_size()
        if stored.shape == () or size > MAX_NAMES_BYTES:
            raise InputError(f"{path}: {key} is no list of names")
        values = np.asarray(group.attrs[key]).ravel().tolist()
        # Strings of any length lie elsewhere in the file, where many may be the same one.
        if sum(map(len, values)) > MAX_NAMES_BYTES:
            raise InputError(f"{path}: the names in {key} are too long; get the file again")
        names += [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    if len(names) > MAX_LAYERS:
        raise InputError(f"{path}: lists {len(names)} names in {attribute}")
    return names
