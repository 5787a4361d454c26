"""What hides what on a person: from the sky, which makes crevices dark, and from a lamp."""

from __future__ import annotations

import numpy as np

from .rasterize import facing, rasterize

_DIRECTIONS, _CELLS, _HALF = 48, 112, 260.0  # cells across; half the width seen, mm
_LAMP_CELLS, _LAMP_HALF = 72, 240.0
_BIAS = 3.0  # mm that something must lie before a place to hide it


def _directions() -> np.ndarray:
    """(D, 3) unit vectors spread evenly over the sphere."""
    k = np.arange(_DIRECTIONS) + 0.5
    height = 1 - 2 * k / _DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * k
    across = np.sqrt(1 - height**2)
    return np.stack((across * np.cos(angle), height, across * np.sin(angle)), -1)


def depth_map(
    vertices: np.ndarray, triangles: np.ndarray, direction: np.ndarray, cells: int, half: float
) -> tuple[np.ndarray, np.ndarray]:
    """What is nearest along a direction.

    Args:
        vertices: (V, 3) mm.
        triangles: (3, T); both of their sides hide.
        direction: (3,) unit vector towards where it is seen from.
        cells: side of the square map.
        half: half of the map's width, mm.

    Returns:
        (cells, cells) height of the nearest surface in mm, −1e6 where there is none, and (V, 3)
        the vertices in the map's cells and mm.
    """
    helper = np.array((0.0, 1.0, 0.1)) if abs(direction[1]) < 0.9 else np.array((1.0, 0.0, 0.1))
    across = np.cross(helper, direction)
    across /= np.linalg.norm(across)
    # x, y and z as the rasteriser has them: its y runs down.
    seen = vertices @ np.stack((across, np.cross(direction, across), direction), -1)
    seen = seen.astype(np.float32)
    projected = np.empty_like(seen)
    projected[:, :2] = (seen[:, :2] + half) * (cells / (2 * half))
    projected[:, 2] = 1 + seen[:, 2] / 4096
    found = rasterize(projected, facing(triangles, projected), cells, cells)
    nearest = np.full(cells * cells, -1e6, np.float32)
    heights = seen[:, 2][found.corners]
    nearest[found.pixel] = np.einsum("kp,kp->p", heights, found.weights)
    projected[:, 2] = seen[:, 2]
    return nearest.reshape(cells, cells), projected


def shadows(vertices: np.ndarray, triangles: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(V,) share of a lamp in that direction that reaches each vertex, with soft edges."""
    nearest, placed = depth_map(vertices, triangles, direction, _LAMP_CELLS, _LAMP_HALF)
    reached = np.zeros(len(vertices), np.float32)
    for across in (-0.8, 0.8):
        for down in (-0.8, 0.8):
            column = np.clip(placed[:, 0] + across, 0, _LAMP_CELLS - 1).astype(np.intp)
            row = np.clip(placed[:, 1] + down, 0, _LAMP_CELLS - 1).astype(np.intp)
            reached += np.clip(2.5 - (nearest[row, column] - placed[:, 2]) / 6, 0, 1)
    return reached / 4


def sky(vertices: np.ndarray, normals: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V,) float32 share of the sky above each vertex that it sees, 0..1."""
    light = np.zeros(len(vertices))
    whole = np.zeros(len(vertices))
    for direction in _directions():
        cosine = np.maximum(normals @ direction, 0)
        nearest, placed = depth_map(vertices, triangles, direction, _CELLS, _HALF)
        column, row = (np.clip(placed[:, k], 0, _CELLS - 1).astype(np.intp) for k in (0, 1))
        # Steep surfaces change height within a cell.
        slack = _BIAS + 5 * (1 - cosine)
        light += cosine * (nearest[row, column] < placed[:, 2] + slack)
        whole += cosine
    return (light / np.maximum(whole, 1e-6)).astype(np.float32)
