"""Surfaces as grids of vertices: every part of a built-in head is one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=32)
def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """(3, T) vertex numbers of a (rows, columns) grid.

    Rows run down and columns to the right as the viewer sees the front.
    """
    number = np.arange(rows * columns).reshape(rows, columns)
    top_left, top_right = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    bottom_left, bottom_right = number[1:, :-1].ravel(), number[1:, 1:].ravel()
    return np.concatenate(
        (
            np.stack((top_left, bottom_left, top_right)),
            np.stack((top_right, bottom_left, bottom_right)),
        ),
        axis=1,
    )


def grid_normals(vertices: np.ndarray, closed: bool) -> np.ndarray:
    """Unit normals (rows, columns, 3) of a grid, by differences between neighbours.

    Args:
        vertices: (rows, columns, 3).
        closed: the last column lies on the first.
    """
    down = np.empty_like(vertices)
    down[1:-1] = vertices[2:] - vertices[:-2]
    down[0], down[-1] = vertices[1] - vertices[0], vertices[-1] - vertices[-2]
    right = np.empty_like(vertices)
    right[:, 1:-1] = vertices[:, 2:] - vertices[:, :-2]
    if closed:
        right[:, 0] = right[:, -1] = vertices[:, 1] - vertices[:, -2]
    else:
        right[:, 0] = vertices[:, 1] - vertices[:, 0]
        right[:, -1] = vertices[:, -1] - vertices[:, -2]
    x, y, z = right[..., 0], right[..., 1], right[..., 2]
    u, v, w = down[..., 0], down[..., 1], down[..., 2]
    normals = np.empty_like(vertices)
    normals[..., 0] = y * w - z * v
    normals[..., 1] = z * u - x * w
    normals[..., 2] = x * v - y * u
    length = np.sqrt(np.einsum("rck,rck->rc", normals, normals))
    normals /= np.maximum(length, 1e-9)[..., None]
    return normals


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between (`low` may be the larger one)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """(256, 256) float32 of smooth noise that tiles, mean 0 and deviation 1."""
    rng = np.random.Generator(np.random.PCG64(7))
    noise = np.zeros((256, 256), np.float32)
    for size, weight in ((32, 0.6), (64, 0.6), (128, 0.5), (256, 0.4)):
        layer = rng.standard_normal((size, size), np.float32)
        noise += weight * np.kron(layer, np.ones((256 // size,) * 2, np.float32))
    for axis in (0, 1):
        noise += np.roll(noise, 1, axis)
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def smooth_noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The noise at texture places u, v (any float)."""
    index = (u.astype(np.int32) & 255) * 256 + (v.astype(np.int32) & 255)
    return _noise().ravel().take(index)
