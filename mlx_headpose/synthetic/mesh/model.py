"""The head model: a person's surfaces as functions of weights of the file's targets.

Lengths are millimetres and axes those of a picture (x right, y down, z out of the face), turned so
that the average face looks at the viewer as AFLW2000's faces at pose 0 do. Places are named by
where they are on the unchanged base mesh, in the file's decimetres ("rest"): so every vertex
keeps its meaning on every head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse

from ...errors import InputError
from ...pose import pose_to_matrix
from ...readers.head_model import Asset, MeshFile, read_head_model
from .places import BOTTOM, LANDMARKS_68, REACH, RIGID, TILT


@dataclass(frozen=True)
class Surface:
    """One part of a person, with a fixed topology.

    Attributes:
        triangles: (3, T) numbers of corners.
        corners: (C,) vertex of each corner.
        rest: (C, 3) float32 place on the unchanged base mesh, dm.
        uv: (C, 2) float32 place on the texture.
        normals: (V, T) sparse, sums the triangles' normals around each vertex.
        place: (V, B) sparse; times the base vertices (B, 3), the part's own. None: they are the
            base's first ones.
        offsets: (V, 3) float32 to be scaled and added.
        scales: (3, 3) see `Asset.scales`, in numbers of base vertices.
    """

    triangles: np.ndarray
    corners: np.ndarray
    rest: np.ndarray
    uv: np.ndarray
    normals: sparse.csr_matrix
    place: sparse.csr_matrix | None = None
    offsets: np.ndarray | None = None
    scales: np.ndarray | None = None

    def vertices(self, base: np.ndarray) -> np.ndarray:
        """(B, 3) float32 base vertices → (V, 3) float32."""
        if self.place is None or self.offsets is None or self.scales is None:
            return base[: self.normals.shape[0]]
        return self.place @ base + self.offsets * _scale(self.scales, base).astype(np.float32)

    def normals_of(self, vertices: np.ndarray) -> np.ndarray:
        """(V, 3) vertices → (V, 3) unit normals, out of the surface in picture axes."""
        first, second, third = (vertices[self.corners[k]] for k in self.triangles)
        one, two = second - first, third - first
        # In axes with y down the order of the corners gives the normal its other sign.
        faces = np.empty_like(one)
        faces[:, 0] = one[:, 2] * two[:, 1] - one[:, 1] * two[:, 2]
        faces[:, 1] = one[:, 0] * two[:, 2] - one[:, 2] * two[:, 0]
        faces[:, 2] = one[:, 1] * two[:, 0] - one[:, 0] * two[:, 1]
        normals = self.normals @ faces
        length = np.sqrt(np.einsum("vk,vk->v", normals, normals))
        return normals / np.maximum(length, 1e-12)[:, None]


def _triangles(quads: np.ndarray) -> np.ndarray:
    return np.concatenate((quads[:, [0, 1, 2]], quads[:, [0, 2, 3]])).T


def _around(triangles: np.ndarray, count: int) -> sparse.csr_matrix:
    """(V, T) sparse incidence of vertices and triangles (3, T)."""
    faces = np.tile(np.arange(triangles.shape[1]), 3)
    ones = np.ones(faces.size, np.float32)
    return sparse.csr_matrix((ones, (triangles.ravel(), faces)), (count, triangles.shape[1]))


def _scale(scales: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """(3,) factors of an asset's offsets, see `Asset.scales`."""
    first, second = scales[:, :2].astype(np.intp).T
    axes = np.arange(3)
    return np.abs(vertices[first, axes] - vertices[second, axes]) / scales[:, 2]


def _fitted(asset: Asset, vertices: np.ndarray) -> np.ndarray:
    """(V, 3) the asset on the unchanged base mesh, dm."""
    places = np.einsum("vk,vkd->vd", asset.weights, vertices[asset.anchors])
    return places + asset.offsets * _scale(asset.scales, vertices)


class HeadMesh:
    """A head model file, cut to head and shoulders and ready to be deformed.

    Attributes:
        targets: names of the file's targets, in the order of weights.
        skin: the body's surface; its vertices are the first of the base's.
        assets: kind → name → surface.
        base: (B, 3) float32 unchanged base vertices in use, mm.
        shifts: (3B, T) sparse float32, displacement of every target at weight 1, mm.
        landmarks: (68,) numbers of base vertices, in 300W's order.
        neck: numbers of base vertices around the neck's middle, about which the head turns.
    """

    def __init__(self, file: MeshFile):
        scale = np.array((100, -100, 100), np.float32)
        quads = file.quads[_kept(file.quads, file.vertices)]
        body = np.unique(quads)
        cut = {
            kind: {name: _cut(asset, file.vertices) for name, asset in assets.items()}
            for kind, assets in file.assets.items()
        }
        used = [
            np.concatenate((a.anchors.ravel(), a.scales[:, :2].ravel().astype(np.intp)))
            for assets in cut.values()
            for a in assets.values()
        ]
        others = np.setdiff1d(np.concatenate((*used, [0])), body)
        kept = np.concatenate((body, others))
        number = np.full(len(file.vertices), -1)
        number[kept] = np.arange(len(kept))

        self.base = file.vertices[kept] * scale
        triangles = number[_triangles(quads)]
        self.skin = Surface(
            triangles,
            np.arange(len(body)),
            file.vertices[body],
            np.zeros((len(body), 2), np.float32),
            _around(triangles, len(body)),
        )
        self.assets = {
            kind: {name: _surface(a, file.vertices, number, scale) for name, a in assets.items()}
            for kind, assets in cut.items()
        }
        self.targets = tuple(file.targets)
        self.shifts = _shifts(file, number, scale)
        places = file.vertices[body]
        self.landmarks = np.array(
            [np.argmin(((places - place) ** 2).sum(axis=1)) for place in LANDMARKS_68]
        )
        rows = (3 * self.landmarks[:, None] + np.arange(3)).ravel()
        # (T, 68, 3)
        self.landmark_shifts = self.shifts[rows].toarray().T.reshape(-1, 68, 3)
        self.rigid = self.base[self.landmarks][RIGID]
        ring = (np.abs(places[:, 1] - 6.0) < 0.12) & (places[:, 2] < 0.95)
        ring &= np.abs(places[:, 0]) < 0.7
        self.neck = np.flatnonzero(ring) if ring.any() else np.arange(len(body))

    def deform(self, weights: np.ndarray) -> np.ndarray:
        """(T,) weights → (B, 3) float32 base vertices, mm, in the file's own position."""
        return self.base + (self.shifts @ weights.astype(np.float32)).reshape(-1, 3)

    def placement(self, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where heads of these identities have their pivot and what their frontal direction is.

        A head looks ahead where its own features, as a rigid whole, are turned as the average's:
        so pose means the same for a child and for somebody who stoops.

        Args:
            identity: (..., T) weights without expression.

        Returns:
            (..., 3) pivot and (..., 3, 3) rotation A: a base vertex p belongs at A (p − pivot).
        """
        points = self.base[self.landmarks] + np.tensordot(identity, self.landmark_shifts, 1)
        ears = (points[..., 0, :] + points[..., 16, :]) / 2
        moved = points[..., RIGID, :]
        moved = moved - moved.mean(axis=-2, keepdims=True)
        fixed = self.rigid - self.rigid.mean(axis=0)
        left, _, right = np.linalg.svd(np.swapaxes(moved, -1, -2) @ fixed)
        flip = np.linalg.det(left @ right)
        left[..., 2] *= flip[..., None]
        turn = np.swapaxes(left @ right, -1, -2)
        turn = pose_to_matrix(np.array((0, TILT, 0), np.float64)) @ turn
        # The pivot lies between the ears, a little before and below where they meet the temples.
        return ears + 15 * turn[..., 1, :] + 15 * turn[..., 2, :], turn

    def landmarks_of(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(..., T) weights → (..., 68, 3) float32 mm from the pivot, at pose 0."""
        pivot, turn = self.placement(identity)
        points = self.base[self.landmarks] + np.tensordot(
            identity + expression, self.landmark_shifts, 1
        )
        points = (points - pivot[..., None, :]) @ np.swapaxes(turn, -1, -2)
        return points.astype(np.float32)


def _kept(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """(Q,) whether quads (Q, 4) are of head, neck or shoulders."""
    corners = vertices[quads]
    inside = (corners[..., 1] > BOTTOM) & (np.abs(corners[..., 0]) < REACH)
    return inside.all(axis=1)


def _cut(asset: Asset, vertices: np.ndarray) -> Asset:
    """The asset's part in the image."""
    at = _fitted(asset, vertices)
    corner, quads = _renumber(asset.quads[_kept(asset.corners[asset.quads], at)])
    vertex, corners = _renumber(asset.corners[corner])
    return Asset(
        quads,
        corners,
        asset.uv[corner],
        asset.anchors[vertex],
        asset.weights[vertex],
        asset.offsets[vertex],
        asset.scales,
    )


def _renumber(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept, inverse = np.unique(numbers, return_inverse=True)
    return kept, inverse.reshape(numbers.shape)


def _surface(asset: Asset, vertices: np.ndarray, number: np.ndarray, scale: np.ndarray) -> Surface:
    count = len(asset.anchors)
    rows = np.repeat(np.arange(count), 3)
    place = sparse.csr_matrix(
        (asset.weights.ravel(), (rows, number[asset.anchors].ravel())),
        (count, int((number >= 0).sum())),
    )
    scales = asset.scales.copy()
    scales[:, :2] = number[scales[:, :2].astype(np.intp)]
    # The base is in mm here, and so is the scale's numerator.
    scales[:, 2] *= 100
    triangles = _triangles(asset.quads)
    return Surface(
        triangles,
        asset.corners,
        _fitted(asset, vertices)[asset.corners].astype(np.float32),
        asset.uv,
        _around(asset.corners[triangles], count),
        place,
        asset.offsets * scale,
        scales,
    )


def _shifts(file: MeshFile, number: np.ndarray, scale: np.ndarray) -> sparse.csr_matrix:
    """(3B, T) sparse displacements in mm."""
    rows, columns, values = [], [], []
    for column, (vertex, delta) in enumerate(file.targets.values()):
        at = number[vertex]
        used = at >= 0
        rows.append((3 * at[used][:, None] + np.arange(3)).ravel())
        values.append((delta[used] * scale).ravel())
        columns.append(np.full(len(values[-1]), column))
    shape = (3 * int((number >= 0).sum()), len(file.targets))
    places = (np.concatenate((*rows, [])), np.concatenate((*columns, [])))
    return sparse.csr_matrix((np.concatenate((*values, [])), places), shape, dtype=np.float32)


@lru_cache(maxsize=2)
def load_head(path: Path) -> HeadMesh:
    """The head model of a file, read once per process.

    Raises:
        InputError: see `read_head_model`; or nothing of the body is where a head is.
    """
    file = read_head_model(path)
    if not _kept(file.quads, file.vertices).any():
        raise InputError(f"{path}: its body has no head in MakeHuman's place; give another file")
    return HeadMesh(file)
