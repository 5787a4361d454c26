"""Read a head model's file: MakeHuman's base mesh, targets and assets in one `.npz`.

`docs/synthetic.md` lists the arrays. The file is untrusted, so every size and every index is
checked before anything uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .npy import member_names, read_member

MAX_VERTICES = 200_000
# Lengths are a few decimetres, and `fit_scale` holds vertex numbers.
MAX_LENGTH = np.float64(1e6)
BODY = "body"


@dataclass(frozen=True)
class Asset:
    """Something that is fitted to the body: hair, clothes, eyes.

    Vertex i lies at Σ_k weights[i, k] · base[anchors[i, k]] + offsets[i] · scale, where scale on
    axis j is |base[a] − base[b]|_j / d with (a, b, d) = scales[j].

    Attributes:
        quads: (Q, 4) corner numbers. A corner is a vertex with a place on the texture; where the
            texture has a seam, a vertex has several.
        corners: (C,) vertex number of each corner.
        uv: (C, 2) float32 place on the texture of each corner.
        anchors: (V, 3) numbers of the base's vertices.
        weights, offsets: (V, 3) float32.
        scales: (3, 3).
    """

    quads: np.ndarray
    corners: np.ndarray
    uv: np.ndarray
    anchors: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    scales: np.ndarray


@dataclass(frozen=True)
class MeshFile:
    """The arrays of the file; lengths in decimetres, y up, z out of the face.

    Attributes:
        vertices: (V, 3) float32 of the base.
        quads: (Q, 4) of the skin.
        targets: name → (vertex numbers (M,), displacements (M, 3) float32).
        assets: kind → name → asset.
    """

    vertices: np.ndarray
    quads: np.ndarray
    targets: dict[str, tuple[np.ndarray, np.ndarray]]
    assets: dict[str, dict[str, Asset]]


class _Reader:
    """Arrays of one file, each checked as it is read."""

    def __init__(self, path: Path):
        self.path = path
        self.names = set(member_names(path))

    def refuse(self, what: str) -> InputError:
        return InputError(f"{self.path}: {what}; make the file again with `mlx-headpose makehuman`")

    def numbers(self, name: str, width: int | None) -> np.ndarray:
        """(N, width) or (N,) numbers, none of them beyond `MAX_LENGTH`."""
        values = read_member(self.path, name)
        if values.ndim != (1 if width is None else 2) or (width and values.shape[1] != width):
            raise self.refuse(f"its array {name!r} has shape {values.shape}")
        if values.dtype.kind == "f" and not (np.abs(values) <= MAX_LENGTH).all():
            raise self.refuse(f"its array {name!r} holds impossible numbers")
        return values

    def indices(self, name: str, width: int | None, count: int) -> np.ndarray:
        """Whole numbers from 0 to count − 1."""
        values = self.numbers(name, width)
        if values.dtype.kind not in "iu":
            raise self.refuse(f"its array {name!r} holds no whole numbers")
        if values.size and not (values.min() >= 0 and values.max() < count):
            raise self.refuse(f"its array {name!r} points outside of its {count} elements")
        return values.astype(np.intp)

    def strings(self, name: str) -> list[str]:
        values = read_member(self.path, name, kinds="U")
        if values.ndim != 1:
            raise self.refuse(f"its array {name!r} is no list of names")
        return [str(value) for value in values]


def read_head_model(path: Path) -> MeshFile:
    """Read and check a head model.

    Raises:
        InputError: the file is missing, damaged, or no head model.
    """
    reader = _Reader(path)
    vertices = reader.numbers("vertices", 3).astype(np.float32)
    if not 0 < len(vertices) <= MAX_VERTICES:
        raise reader.refuse(f"it has {len(vertices)} vertices")
    groups = reader.strings("group_names")
    if BODY not in groups:
        raise reader.refuse(f"it has no group {BODY!r}")
    quads = reader.indices("quads", 4, len(vertices))
    group = reader.indices("quad_group", None, len(groups))
    if len(group) != len(quads):
        raise reader.refuse("its quads and their groups differ in number")
    assets: dict[str, dict[str, Asset]] = {}
    for member in sorted(reader.names):
        parts = member.split("/")
        if len(parts) == 4 and parts[0] == "asset" and parts[3] == "quads":
            asset = _read_asset(reader, member.removesuffix("quads"), len(vertices))
            assets.setdefault(parts[1], {})[parts[2]] = asset
    return MeshFile(
        vertices,
        quads[group == groups.index(BODY)],
        _read_targets(reader, len(vertices)),
        assets,
    )


def _read_targets(reader: _Reader, count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = reader.strings("target_names")
    vertex = reader.indices("target_vertex", None, count)
    delta = reader.numbers("target_delta", 3).astype(np.float32)
    offsets = reader.indices("target_offsets", None, len(vertex) + 1)
    if (
        len(delta) != len(vertex)
        or len(offsets) != len(names) + 1
        or offsets[0] != 0
        or offsets[-1] != len(vertex)
        or (np.diff(offsets) < 0).any()
    ):
        raise reader.refuse("its targets do not fit together")
    spans = zip(names, offsets[:-1], offsets[1:], strict=True)
    return {name: (vertex[start:end], delta[start:end]) for name, start, end in spans}


def _read_asset(reader: _Reader, prefix: str, count: int) -> Asset:
    anchors = reader.indices(prefix + "fit_vertex", 3, count)
    weights = reader.numbers(prefix + "fit_weight", 3).astype(np.float32)
    offsets = reader.numbers(prefix + "fit_offset", 3).astype(np.float32)
    if not len(anchors) == len(weights) == len(offsets) <= MAX_VERTICES:
        raise reader.refuse(f"the arrays of {prefix} differ in length")
    quads = reader.indices(prefix + "quads", 4, len(anchors))
    places = reader.numbers(prefix + "uv", 2).astype(np.float32)
    quads_uv = reader.indices(prefix + "quads_uv", 4, len(places))
    if quads_uv.shape != quads.shape:
        raise reader.refuse(f"the quads of {prefix} differ in number from their texture's")
    pairs, cornered = np.unique(quads * len(places) + quads_uv, return_inverse=True)
    corners, place = np.divmod(pairs, max(len(places), 1))
    scales = reader.numbers(prefix + "fit_scale", 3).astype(np.float64)
    if scales.shape != (3, 3) or not (scales[:, 2] > 0).all():
        raise reader.refuse(f"the scale of {prefix} is damaged")
    if not ((scales[:, :2] >= 0) & (scales[:, :2] < count)).all():
        raise reader.refuse(f"the scale of {prefix} points outside of the {count} vertices")
    return Asset(
        cornered.reshape(quads.shape), corners, places[place], anchors, weights, offsets, scales
    )
