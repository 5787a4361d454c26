"""The readers of datasets and pictures, each with files to begin from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bench.robustness.fuzz_base import Escaped, Reader, made, saved

# MATLAB.


def _mat_seeds(shared: Path, folder: Path) -> list[Path]:
    from scipy.io import savemat

    names = ["image00002", "image00004", "image00006"]
    real = [shared / "data/AFLW2000" / f"{name}.mat" for name in names]
    points = {"Pose_Para": np.zeros((1, 7)), "pt2d": np.ones((2, 21)), "pt3d_68": np.ones((3, 68))}
    nested = points | {"roi": {"a": [1, "b", {"c": np.ones(3)}]}, "x": np.array([1, "a"], object)}
    return [
        *real,
        saved(folder, "plain.mat", lambda p: savemat(p, points)),
        saved(folder, "packed.mat", lambda p: savemat(p, nested, do_compression=True)),
    ]


def _read_mat(path: Path) -> None:
    from mlx_headpose.data.annotated import read_annotation

    read_annotation(path, "Pose_Para", "pt2d", "pt3d_68")


# Pictures.


def _pictures(shared: Path, folder: Path, form: str, **options: Any) -> list[Path]:
    from PIL import Image

    with Image.open(shared / "data/AFLW2000/image00002.jpg") as picture:
        small = picture.convert("RGB").resize((96, 96))
    paths = []
    for mode in ("RGB", "L", "P", "RGBA", "I;16", "CMYK", "1"):
        path = folder / f"{mode.replace(';', '')}.{form.lower()}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            image = Image.new(mode, (40, 30)) if mode == "I;16" else small.convert(mode)
            image.save(path, form, **options)
        except (OSError, ValueError, KeyError):
            continue  # the format has no such mode
        paths.append(path)
    return paths


def _jpeg_seeds(shared: Path, folder: Path) -> list[Path]:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        shared / "data/AFLW2000/image00004.jpg",
        *_pictures(shared, folder, "JPEG", exif=exif),
        *_pictures(shared, folder / "progressive", "JPEG", progressive=True, icc_profile=b"x" * 99),
    ]


def _png_seeds(shared: Path, folder: Path) -> list[Path]:
    return _pictures(shared, folder, "PNG")


def _other_seeds(shared: Path, folder: Path) -> list[Path]:
    forms = ("TIFF", "WEBP", "BMP", "GIF", "PPM", "TGA", "AVIF")
    tiff = _pictures(shared, folder / "lzw", "TIFF", compression="tiff_lzw")
    return tiff + [path for form in forms for path in _pictures(shared, folder / form, form)]


def _heif_seeds(shared: Path, folder: Path) -> list[Path]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return _pictures(shared, folder, "HEIF")


def _read_heif(path: Path) -> None:
    from mlx_headpose.inference.pictures import open_picture

    open_picture(path)


def _read_picture(path: Path) -> None:
    from mlx_headpose.errors import InputError
    from mlx_headpose.inference.pictures import open_picture
    from mlx_headpose.readers.pictures import open_reduced

    refused = None
    try:
        open_reduced(path, 2.0)
    except InputError as error:
        refused = error
    image = open_picture(path)
    assert (image.ndim, image.dtype) == (3, np.uint8), image.shape
    if refused is not None:
        raise refused


# Lists and tables.


def _require_inside(path: Path, folder: Path) -> None:
    """No name in a list may lead out of its folder."""
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except ValueError:  # a name that no file can have
        return
    if not inside:
        raise Escaped(f"the list leads to {path}")


def _list_seeds(shared: Path, folder: Path) -> list[Path]:
    lines = b"./AFW/a_1\nIBUG\\b 2.jpg\n\xc3\xa4.png\nc.mat\n"
    return [shared / "data/300W_LP/300wlp_list.txt", *made(folder, {"own.txt": lines})]


def _read_list(path: Path) -> None:
    from mlx_headpose.data.listing import read_list

    for name in read_list(path):
        _require_inside(path.parent / f"{name}.jpg", path.parent)


def _csv_seeds(shared: Path, folder: Path) -> list[Path]:
    boxes = b"frame,x,y,width,height\n01/frame_00003,1,2,30,40\n01/frame_00004_rgb,1,2,3,4\n"
    return [shared / "data/panoptic/annotations.csv", *made(folder, {"boxes.csv": boxes})]


def _read_csv(path: Path) -> None:
    from mlx_headpose.data.biwi import read_boxes
    from mlx_headpose.data.panoptic import read_list

    if path.read_bytes()[:5] == b"frame":
        read_boxes(path)
        return
    for name, _ in read_list(path):
        _require_inside(path.parent / name, path.parent)


def _pose_seeds(_: Path, folder: Path) -> list[Path]:
    return made(folder, {"pose.txt": b"1 0 0\n0 1 0\n0 0 1\n\n10.5 20 900\n"})


def _read_pose(path: Path) -> None:
    from mlx_headpose.data.biwi import read_pose
    from mlx_headpose.inference.landmark_files import read_landmarks

    read_landmarks(path) if path.read_bytes()[:1] == b"2" else read_pose(path)


# JSON.


def _json_seeds(_: Path, folder: Path) -> list[Path]:
    eye = np.eye(3).tolist()
    front = np.diag([1.0, -1.0, -1.0]).tolist()  # a frontal head in the set's axes
    heads = [
        {"img_path": f"images/{i}.png", "bbox": [1, 2, 30.5, 40], "R": front} for i in range(3)
    ]
    camera = {
        "panel": 0, "node": 3, "type": "hd", "resolution": [1920, 1080], "K": eye, "R": eye,
        "distCoef": [0, 0, 0, 0, 0], "t": [[0], [0], [300]],
    }  # fmt: skip
    face = np.random.default_rng(0).normal(0, 10, (70, 3))
    person = {
        "id": 1,
        "face70": {"landmarks": face.ravel().tolist(), "averageScore": [0.9] * 70},
    }
    files = {"train": heads, "calibration": {"cameras": [camera]}, "face": {"people": [person]}}
    return made(folder, {f"{n}.json": json.dumps(v).encode() for n, v in files.items()})


def _read_json(path: Path) -> None:
    from mlx_headpose.data.dad3dheads import DAD3DHeads
    from mlx_headpose.data.panoptic_labels import read_cameras, read_heads

    start = path.read_bytes()[:4096]
    if b"cameras" in start:
        read_cameras(path)
    elif b"people" in start:
        read_heads(path)
    else:
        dataset = DAD3DHeads(path.parent, path, False, False)
        for index in range(len(dataset)):
            _require_inside(dataset.path(index), path.parent)


# Arrays.


def _npz_seeds(_: Path, folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    images, poses = rng.integers(0, 255, (4, 8, 8, 3), np.uint8), rng.normal(0, 9, (4, 3))
    return [
        saved(folder, "packed.npz", lambda p: np.savez(p, image=images, pose=poses)),
        saved(folder, "small.npz", lambda p: np.savez_compressed(p, image=images, pose=poses)),
        saved(folder, "crop.npz", lambda p: np.savez(p, image=images[0], pose=poses[0])),
    ]


def _read_npz(path: Path) -> None:
    from mlx_headpose.data.biwi import PackedBiwi, PreparedBiwi
    from mlx_headpose.readers.npy import member_shape

    if len(member_shape(path, "image")) == 4:
        dataset: Any = PackedBiwi(path, None)
    else:
        folder = path.parent / "prepared"
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / ".mlx_headpose", ignore_errors=True)
        shutil.copyfile(path, folder / "1.npz")
        dataset = PreparedBiwi(folder, None, "all", False, False)
    for index in range(min(2, len(dataset))):
        dataset.image(index)


def _npy_seeds(_: Path, folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    tensors = {
        "a/kernel": rng.normal(size=(3, 3)).astype("f"),
        "b": np.arange(4.0),
        "c": np.ones(()),
    }
    paths = []
    for protocol in (2, 4):
        import pickle

        head = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"
        data = head.ljust(127) + b"\n" + pickle.dumps(np.array(tensors, object), protocol)
        paths += made(folder, {f"dict{protocol}.npy": data})
    points = rng.normal(size=(68, 3))
    return [*paths, saved(folder, "points.npy", lambda p: np.save(p, points))]


def _read_npy(path: Path) -> None:
    from mlx_headpose.inference.landmark_files import read_landmarks
    from mlx_headpose.readers.checkpoint_file import read_tensors

    if b"|O" in path.read_bytes()[:80]:
        read_tensors(path)
    else:
        read_landmarks(path)


def _mesh_seeds(shared: Path, folder: Path) -> list[Path]:
    """The real head model with one asset and a few targets, to be quick."""
    with np.load(shared / "meshes/makehuman_head.npz") as archive:
        arrays = dict(archive)
    kept = next(name for name in arrays if name.startswith("asset/")).rsplit("/", 1)[0]
    small = {n: v for n, v in arrays.items() if not n.startswith("asset/") or n.startswith(kept)}
    end = small["target_offsets"][3]
    small |= {
        "target_names": small["target_names"][:3],
        "target_offsets": small["target_offsets"][:4],
    }
    small |= {name: small[name][:end] for name in ("target_vertex", "target_delta")}
    return [saved(folder, "mesh.npz", lambda p: np.savez_compressed(p, **small))]


def _read_head_model(path: Path) -> None:
    from mlx_headpose.readers.head_model import read_head_model

    read_head_model(path)


READERS = {
    "mat": Reader(".mat", ("matlab",), _mat_seeds, _read_mat),
    "jpeg": Reader(".jpg", ("jpeg",), _jpeg_seeds, _read_picture),
    "png": Reader(".png", ("png",), _png_seeds, _read_picture),
    "other_pictures": Reader(".tif", ("havoc",), _other_seeds, _read_picture),
    "heif": Reader(".heic", ("havoc",), _heif_seeds, _read_heif),
    "list": Reader(".txt", ("text",), _list_seeds, _read_list),
    "csv": Reader(".csv", ("text",), _csv_seeds, _read_csv),
    "pose": Reader(".txt", ("text",), _pose_seeds, _read_pose),
    "json": Reader(".json", ("json",), _json_seeds, _read_json),
    "npz": Reader(".npz", ("zip",), _npz_seeds, _read_npz),
    "npy": Reader(".npy", ("npy",), _npy_seeds, _read_npy),
    "mesh": Reader(".npz", ("zip",), _mesh_seeds, _read_head_model),
}
