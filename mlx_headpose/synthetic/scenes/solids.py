"""Surfaces of which things are put together: grids of vertices, turned, scaled and placed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from ..grid import grid_normals, grid_triangles


@dataclass(frozen=True)
class Solid:
    """One surface.

    Attributes:
        vertices, normals: (V, 3).
        uv: (V, 2) in 0..1.
        triangles: (3, T).
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray

    def moved(self, by: tuple[float, float, float] | np.ndarray) -> Solid:
        """The solid elsewhere."""
        return replace(self, vertices=self.vertices + np.asarray(by, np.float32))

    def scaled(self, x: float, y: float, z: float) -> Solid:
        """The solid, stretched along its axes."""
        by = np.array((x, y, z), np.float32)
        normals = self.normals / by
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        return replace(self, vertices=self.vertices * by, normals=normals)

    def turned(self, x: float = 0, y: float = 0, z: float = 0) -> Solid:
        """The solid, turned about the axes by degrees."""
        turn = Rotation.from_euler("xyz", (x, y, z), degrees=True).as_matrix().astype(np.float32)
        return replace(self, vertices=self.vertices @ turn.T, normals=self.normals @ turn.T)


def from_grid(vertices: np.ndarray, closed: bool = True) -> Solid:
    """A (rows, columns, 3) grid as a solid."""
    rows, columns = vertices.shape[:2]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return Solid(
        vertices.reshape(-1, 3).astype(np.float32),
        grid_normals(vertices, closed).reshape(-1, 3).astype(np.float32),
        np.stack((u, v), -1).reshape(-1, 2).astype(np.float32),
        grid_triangles(rows, columns),
    )


def lathe(radius: np.ndarray, height: np.ndarray, columns: int = 33) -> Solid:
    """What a potter's wheel makes: radii (R,) at heights (R,), from the top down, y down."""
    angle = np.linspace(0, 2 * np.pi, columns)
    x, z = radius[:, None] * np.sin(angle), radius[:, None] * np.cos(angle)
    y = np.broadcast_to(height[:, None], x.shape)
    return from_grid(np.stack((x, y, z), -1))


def sphere(rows: int = 20, columns: int = 33) -> Solid:
    """Of radius 1."""
    polar = np.linspace(1e-3, np.pi - 1e-3, rows)
    return lathe(np.sin(polar), -np.cos(polar), columns)


def rounded_box(roundness: float) -> Solid:
    """From a cube (0) to a sphere (1), with half sides of 1."""
    ball = sphere(28, 49)
    power = max(0.12, roundness)
    direction = ball.vertices
    most = (np.abs(direction) ** (2 / power)).sum(1, keepdims=True) ** (power / 2)
    grid = (direction / np.maximum(most, 1e-6)).reshape(28, 49, 3)
    return from_grid(grid)


def cylinder(taper: float = 1.0) -> Solid:
    """Radius 1 below and `taper` above, heights from −1 to 1, closed by discs."""
    radius = np.array((1e-3, taper, taper, 1.0, 1.0, 1e-3))
    height = np.array((-1, -1, -0.999, 0.999, 1, 1.0))
    return lathe(radius, height)


def disc() -> Solid:
    """Radius 1, facing the viewer; its texture is flat on it."""
    flat = lathe(np.array((1e-3, 0.5, 1.0)), np.zeros(3)).turned(x=90)
    return replace(
        flat,
        normals=np.broadcast_to(np.array((0, 0, 1), np.float32), flat.vertices.shape).copy(),
        uv=(flat.vertices[:, :2] + 1) / 2,
    )


def tube(points: np.ndarray, radius: np.ndarray, columns: int = 13) -> Solid:
    """Around a curve of (P, 3) points, with (P,) radii."""
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.cross(along, np.array((0.31, 0.17, 0.93)))
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    other = np.cross(along, side)
    angle = np.linspace(0, 2 * np.pi, columns)
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    return from_grid(points[:, None] + radius[:, None, None] * ring)


def torus(thickness: float, part: float = 1.0) -> Solid:
    """A ring of radius 1, facing the viewer, or the `part` of one that begins at the right."""
    angle = np.linspace(0, 2 * np.pi * part, 33)
    points = np.stack((np.cos(angle), np.sin(angle), 0 * angle), -1)
    return tube(points, np.full(len(points), thickness))


def rough(solid: Solid, rng: np.random.Generator, strength: float, waves: float) -> Solid:
    """The solid with bumps along its normals."""
    directions = rng.normal(0, waves, (6, 3))
    phases = rng.uniform(0, 2 * np.pi, 6)
    bumps = np.sin(solid.vertices @ directions.T + phases).sum(1, keepdims=True) / 6
    return replace(
        solid, vertices=(solid.vertices + strength * bumps * solid.normals).astype(np.float32)
    )
