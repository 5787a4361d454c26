"""A head model file from MakeHuman's data folder: base mesh, targets and fitted assets, all CC0.

The formats are MakeHuman's own, and text: `base.obj`; `.target` files, which move vertices of it
(`vertex dx dy dz` a line); and `.mhclo` files, which say where each vertex of an asset's `.obj`
lies on the base (`v0 v1 v2 w0 w1 w2 dx dy dz` a line, or one vertex number).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError

# Folders of targets that shape a head or its expression.
TARGETS = (
    "head", "nose", "mouth", "ears", "eyes", "eyebrows", "cheek", "chin", "forehead", "neck",
    "asym", "expression/units/caucasian", "macrodetails",
)  # fmt: skip
# Babies, and measures that head and neck sliders already cover.
LEFT_OUT = ("-baby", "/measure-")
KINDS = ("hair", "eyebrows", "eyelashes", "eyes", "teeth", "clothes")
# The base mesh has 2 MB. Compression lets a small file claim anything.
MAX_BYTES = 64 << 20
MAX_NUMBER = 1e9


class Mesh(NamedTuple):
    """An `.obj` file: vertices (V, 3), texture places (U, 2), quads (Q, 4) of both, and groups."""

    vertices: np.ndarray
    uv: np.ndarray
    quads: np.ndarray
    quads_uv: np.ndarray
    groups: list[str]


def read_makehuman(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a head model (`docs/synthetic.md`) from MakeHuman's `data` folder.

    Args:
        folder: `data`, or the folder that holds it.

    Raises:
        InputError: the folder is not MakeHuman's, or a file in it is broken.
    """
    data = folder / "data" if (folder / "data").is_dir() else folder
    base = read_obj(data / "3dobjs" / "base.obj")
    kept = np.array([not name.startswith("joint") for name in base.groups], bool)
    names = sorted({name for name, keep in zip(base.groups, kept, strict=True) if keep})
    arrays: dict[str, np.ndarray] = {
        "vertices": base.vertices.astype(np.float32),
        "uv": base.uv.astype(np.float16),
        "quads": base.quads[kept].astype(np.int32),
        "quads_uv": base.quads_uv[kept].astype(np.int32),
        "quad_group": np.array(
            [names.index(g) for g, keep in zip(base.groups, kept, strict=True) if keep], np.int16
        ),
        "group_names": np.array(names),
    }
    arrays |= _targets(data / "targets", len(base.vertices))
    for kind in KINDS:
        for path in sorted((data / kind).rglob("*.mhclo")):
            prefix = f"asset/{kind}/{path.stem}/"
            if prefix + "quads" in arrays:
                continue
            for name, values in read_asset(path, base.vertices).items():
                arrays[prefix + name] = values
    return arrays


def _lines(path: Path) -> list[str]:
    """The text lines of a file, which may be gzipped."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this MakeHuman's data folder?") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: unpacks to over {MAX_BYTES >> 20} MB; get it again")
    return raw.decode("utf-8", errors="replace").splitlines()


def _numbers(path: Path, rows: Iterable[list[str]], width: int) -> np.ndarray:
    """Rows of words → (N, width) float64."""
    try:
        values = np.array([[float(word) for word in row[:width]] for row in rows], np.float64)
        values = values.reshape(-1, width)
    except ValueError:
        raise InputError(f"{path}: a line holds no {width} numbers; get the file again") from None
    if not (np.abs(values) < MAX_NUMBER).all():
        raise InputError(f"{path}: a line holds an impossible number; get the file again")
    return values


def read_obj(path: Path) -> Mesh:
    """Read an `.obj` file of triangles and quads; a triangle becomes a quad of no width.

    Raises:
        InputError: it is missing or broken.
    """
    vertices, places, faces, groups = [], [], [], []
    group = ""
    for line in _lines(path):
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append(words)
        elif kind == "vt":
            places.append(words)
        elif kind == "g":
            group = words[0] if words else ""
        elif kind == "f":
            if len(words) not in (3, 4):
                raise InputError(f"{path}: a face has {len(words)} corners, not 3 or 4")
            corners = [[*word.split("/"), "", ""][:2] for word in words]
            faces.append([*corners, corners[-1]][:4])
            groups.append(group)
    if not vertices or not faces:
        raise InputError(f"{path}: holds no mesh; get the file again")
    numbers = _numbers(path, ([c[0] for c in face] for face in faces), 4)
    textured = all(corner[1] for face in faces for corner in face)
    uv = _numbers(path, places, 2) if textured and places else np.zeros((1, 2))
    on_texture = np.ones_like(numbers)
    if textured and places:
        on_texture = _numbers(path, ([c[1] for c in face] for face in faces), 4)
    mesh = Mesh(
        _numbers(path, vertices, 3),
        uv,
        numbers.astype(np.int64) - 1,
        on_texture.astype(np.int64) - 1,
        groups,
    )
    for quads, count in ((mesh.quads, len(mesh.vertices)), (mesh.quads_uv, len(mesh.uv))):
        if quads.min() < 0 or quads.max() >= count:
            raise InputError(f"{path}: a face has a corner that is not there; get the file again")
    return mesh


def read_target(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertex numbers (M,) and displacements (M, 3) of a target of a base of `count` vertices.

    Raises:
        InputError: it is broken.
    """
    rows = [line.split() for line in _lines(path) if line.strip() and not line.startswith("#")]
    values = _numbers(path, rows, 4)
    vertex = values[:, 0].astype(np.int64)
    if vertex.size and (vertex.min() < 0 or vertex.max() >= count):
        raise InputError(f"{path}: moves a vertex that base.obj does not have")
    return vertex, values[:, 1:]


def _targets(folder: Path, count: int) -> dict[str, np.ndarray]:
    names, vertices, deltas = [], [], []
    for part in TARGETS:
        files = [p for p in (folder / part).glob("*.target*") if p.suffix in (".target", ".gz")]
        for path in sorted(files):
            name = f"{part}/{path.name.split('.target')[0]}"
            vertex, delta = read_target(path, count)
            if not vertex.size or any(words in name for words in LEFT_OUT):
                continue
            names.append(name)
            vertices.append(vertex)
            deltas.append(delta)
    if not names:
        raise InputError(
            f"{folder}: holds no .target files; is this MakeHuman's data folder? (Some releases "
            "pack them in one file; take the source release.)"
        )
    return {
        "target_names": np.array(names),
        "target_offsets": np.cumsum([0, *(len(vertex) for vertex in vertices)]),
        "target_vertex": np.concatenate(vertices).astype(np.uint16 if count <= 65536 else np.int32),
        "target_delta": np.concatenate(deltas).astype(np.float16),
    }


def read_asset(path: Path, base: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of an asset from its `.mhclo` file and the `.obj` file that it names.

    Args:
        path: the `.mhclo` file.
        base: (V, 3) the base's vertices.

    Raises:
        InputError: it is broken.
    """
    count = len(base)
    obj, rows, fitting = None, [], False
    # Where an asset names no measure of the body that it grows with, it is the whole body's.
    scale = np.stack((base.argmin(axis=0), base.argmax(axis=0), np.ptp(base, axis=0)), axis=1)
    for line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "obj_file":
            obj = path.parent / Path(*words[1:]).name
        elif words[0] in ("x_scale", "y_scale", "z_scale"):
            scale["xyz".index(words[0][0])] = _numbers(path, [words[1:]], 3)[0]
        elif words[0] == "verts":
            fitting = True
        elif fitting and words[0].lstrip("-").isdigit():
            # One number: the vertex lies on that vertex of the base.
            rows.append(words if len(words) > 1 else [words[0]] * 3 + ["1", "0", "0"] + ["0"] * 3)
        else:
            fitting = False
    if obj is None:
        raise InputError(f"{path}: names no obj_file; get the asset again")
    mesh = read_obj(obj)
    fit = _numbers(path, rows, 9)
    if len(fit) != len(mesh.vertices):
        raise InputError(
            f"{path}: fits {len(fit)} vertices, but {obj.name} has {len(mesh.vertices)}"
        )
    anchors = fit[:, :3].astype(np.int64)
    for numbers in (anchors, scale[:, :2]):
        if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
            raise InputError(f"{path}: refers to a vertex that base.obj does not have")
    if not (scale[:, 2] > 0).all():
        raise InputError(f"{path}: a scale is not positive")
    return {
        "quads": mesh.quads.astype(np.int32),
        "quads_uv": mesh.quads_uv.astype(np.int32),
        "uv": mesh.uv.astype(np.float16),
        "fit_vertex": anchors.astype(np.uint16 if count <= 65536 else np.int32),
        "fit_weight": fit[:, 3:6].astype(np.float16),
        "fit_offset": fit[:, 6:].astype(np.float16),
        "fit_scale": scale,
    }
