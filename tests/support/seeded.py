"""Numbers for a checkpoint's tensors that follow from their names and shapes alone."""

from __future__ import annotations

import zlib

import numpy as np


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """(shape) float32, of a size that lets signals through a network of any depth."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = (rng.random(shape, np.float32) - np.float32(0.5)) * np.float32(3.4)  # about ±1.7
    leaf = name.removesuffix(":0").rsplit("/", 1)[-1].rsplit(".", 1)[-1]  # of Keras or PyTorch
    if leaf in ("running_var", "moving_variance"):
        return np.float32(1) + np.float32(0.1) * np.abs(noise)
    if leaf == "gamma" or (leaf == "weight" and len(shape) == 1):
        return np.float32(0.8) + np.float32(0.1) * noise
    if len(shape) <= 1:
        return np.float32(0.1) * noise
    if leaf == "depthwise_kernel":  # (height, width, channels, 1)
        inputs = shape[0] * shape[1]
    elif leaf == "kernel":  # Keras: (..., in, out)
        inputs = int(np.prod(shape[:-1]))
    else:
        inputs = int(np.prod(shape[1:]))
    return noise * np.float32(np.sqrt(1.5 / inputs))


def images(name: str, count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) float32 that look like normalised images."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal((count, size, size, 3), np.float32)
