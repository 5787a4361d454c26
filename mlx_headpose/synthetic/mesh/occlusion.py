"""How much of the sky each place of a person sees: crevices, and skin under hair, are darker."""

from __future__ import annotations

import numpy as np

from ..rasterize import rasterize

_DIRECTIONS, _CELLS, _HALF = 48, 112, 260.0  # cells across; half the width seen, mm
_BIAS = 3.0  # mm that something must lie before a place to hide it


def _directions() -> np.ndarray:
    """(D, 3) unit vectors spread evenly over the sphere."""
    k = np.arange(_DIRECTIONS) + 0.5
    height = 1 - 2 * k / _DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * k
    across = np.sqrt(1 - height**2)
    return np.stack((across * np.cos(angle), height, across * np.sin(angle)), -1)


def facing(triangles: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """(3, T) the triangles, those that show their back turned round."""
    x, y = projected[:, 0], projected[:, 1]
    first, second, third = triangles
    area = (x[third] - x[first]) * (y[second] - y[first])
    area -= (x[second] - x[first]) * (y[third] - y[first])
    back = area < 0
    turned = triangles.copy()
    turned[1, back], turned[2, back] = third[back], second[back]
    return turned


def depth_map(
    vertices: np.ndarray, triangles: np.ndarray, axes: np.ndarray, cells: int, half: float
) -> tuple[np.ndarray, np.ndarray]:
    """What is nearest along a direction.

    Args:
        vertices: (V, 3) mm.
        triangles: (3, T); both of their sides hide.
        axes: (3, 3) columns across, down and towards where it is seen from.
        cells: of the square map, a side.
        half: of the map's width, mm.

    Returns:
        (cells, cells) height of the nearest surface in mm, −1e6 where there is none, and (V, 3)
        the vertices in the map's cells and mm.
    """
    seen = (vertices @ axes).astype(np.float32)
    projected = np.empty_like(seen)
    projected[:, :2] = (seen[:, :2] + half) * (cells / (2 * half))
    projected[:, 2] = 1 + seen[:, 2] / 4096
    found = rasterize(projected, facing(triangles, projected), cells, cells)
    nearest = np.full(cells * cells, -1e6, np.float32)
    heights = seen[:, 2][found.corners]
    nearest[found.pixel] = np.einsum("kp,kp->p", heights, found.weights)
    projected[:, 2] = seen[:, 2]
    return nearest.reshape(cells, cells), projected


def towards(direction: np.ndarray) -> np.ndarray:
    """(3, 3) axes of a view from a direction, for `depth_map`."""
    helper = np.array((0.0, 1.0, 0.1)) if abs(direction[1]) < 0.9 else np.array((1.0, 0.0, 0.1))
    across = np.cross(helper, direction)
    across /= np.linalg.norm(across)
    # x, y and z as the rasteriser has them: its y runs down.
    return np.stack((across, np.cross(direction, across), direction), -1)


def sky(vertices: np.ndarray, normals: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V,) float32 share of the sky above each vertex that it sees, 0..1."""
    light = np.zeros(len(vertices))
    whole = np.zeros(len(vertices))
    for direction in _directions():
        cosine = np.maximum(normals @ direction, 0)
        nearest, placed = depth_map(vertices, triangles, towards(direction), _CELLS, _HALF)
        column, row = (np.clip(placed[:, k], 0, _CELLS - 1).astype(np.intp) for k in (0, 1))
        # Steep surfaces change height within a cell.
        slack = _BIAS + 5 * (1 - cosine)
        light += cosine * (nearest[row, column] < placed[:, 2] + slack)
        whole += cosine
    return (light / np.maximum(whole, 1e-6)).astype(np.float32)
