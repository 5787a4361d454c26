"""Numbers that are the same on every machine, by name.

They come from the raw bits of NumPy's PCG64, whose stream NumPy promises to keep; the functions of
its generators, and MLX's, may change or round otherwise on another device.
"""

from __future__ import annotations

import math
import zlib

import mlx.nn as nn
import numpy as np

from ..weights import tensors_of

Shape = tuple[int, ...]


def _bits(name: str, count: int) -> np.ndarray:
    """(count,) random bytes."""
    generator = np.random.PCG64(zlib.crc32(name.encode()))
    return np.asarray(generator.random_raw(-(-count // 8)), "<u8").view(np.uint8)[:count]


def pixels(name: str, shape: Shape) -> np.ndarray:
    """uint8, all values equally likely."""
    return _bits(name, math.prod(shape)).reshape(shape)


def uniform(name: str, shape: Shape) -> np.ndarray:
    """float32 from −1 to 1, exact multiples of 2⁻¹⁵."""
    words = _bits(name, 2 * math.prod(shape)).view("<i2")
    return (words.astype(np.float32) / 32768).reshape(shape)


def signs(name: str, count: int) -> np.ndarray:
    """(count,) float32, each −1 or 1."""
    return 1 - 2 * np.unpackbits(_bits(name, -(-count // 8)))[:count].astype(np.float32)


def weights(module: nn.Module) -> list[tuple[str, np.ndarray]]:
    """A value for each of a module's parameters, which keeps activations at one scale.

    Kernels and matrices are uniform with a variance of 1.5 / fan-in. Norms differ from 1 and 0.
    """
    return [(name, _weight(name, value.shape)) for name, value in tensors_of(module).items()]


def _weight(name: str, shape: Shape) -> np.ndarray:
    values = uniform(name, shape)
    if len(shape) > 1:
        return values * np.float32(math.sqrt(4.5 / math.prod(shape[1:])))
    if name.endswith("running_var"):
        return 1 + values / 2
    return 1 + values / 4 if name.endswith("weight") else values / 8
