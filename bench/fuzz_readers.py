"""The readers of strangers' files, each with files to begin from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class Escaped(BaseException):
    """A reader did what it must never do; nobody may catch this by accident."""


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        suffix: of its files.
        kinds: how they may be damaged; see `fuzz_mutations.MUTATORS`.
        seeds: (folder of shared files, folder to write to) → whole files.
        read: reads one file.
        prepare: imports what the first call would.
    """

    suffix: str
    kinds: tuple[str, ...]
    seeds: Callable[[Path, Path], list[Path]]
    read: Callable[[Path], Any]
    prepare: Callable[[], None] = lambda: None


def _made(folder: Path, files: dict[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def _saved(folder: Path, name: str, save: Callable[[Path], Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / name)
    return folder / name


# MATLAB.


def _mat_seeds(shared: Path, folder: Path) -> list[Path]:
    from scipy.io import savemat

    names = ["image00002", "image00004", "image00006"]
    real = [shared / "data/AFLW2000" / f"{name}.mat" for name in names]
    points = {"Pose_Para": np.zeros((1, 7)), "pt2d": np.ones((2, 21)), "pt3d_68": np.ones((3, 68))}
    nested = points | {"roi": {"a": [1, "b", {"c": np.ones(3)}]}, "x": np.array([1, "a"], object)}
    return [
        *real,
        _saved(folder, "plain.mat", lambda p: savemat(p, points)),
        _saved(folder, "packed.mat", lambda p: savemat(p, nested, do_compression=True)),
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


def _read_picture(path: Path) -> None:
    from mlx_headpose.data.base import open_reduced
    from mlx_headpose.errors import InputError
    from mlx_headpose.inference.pictures import open_picture

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


def _list_seeds(shared: Path, folder: Path) -> list[Path]:
    lines = b"./AFW/a_1\nIBUG\\b 2.jpg\n\xc3\xa4.png\nc.mat\n"
    return [shared / "data/300W_LP/300wlp_list.txt", *_made(folder, {"own.txt": lines})]


def _read_list(path: Path) -> None:
    from mlx_headpose.data.listing import read_list

    folder = path.parent.resolve()
    for name in read_list(path):
        if "\0" in name or not (folder / f"{name}.jpg").resolve().is_relative_to(folder):
            raise Escaped(f"the list leads to {name!r}")


def _csv_seeds(shared: Path, folder: Path) -> list[Path]:
    boxes = b"frame,x,y,width,height\n01/frame_00003,1,2,30,40\n01/frame_00004_rgb,1,2,3,4\n"
    return [shared / "data/panoptic/annotations.csv", *_made(folder, {"boxes.csv": boxes})]


def _read_csv(path: Path) -> None:
    from mlx_headpose.data.biwi import read_boxes
    from mlx_headpose.data.panoptic import read_list

    if path.read_bytes()[:5] == b"frame":
        read_boxes(path)
        return
    for name, _ in read_list(path):
        if "\0" in name or not (path.parent / name).resolve().is_relative_to(path.parent.resolve()):
            raise Escaped(f"the list leads to {name!r}")


def _pose_seeds(_: Path, folder: Path) -> list[Path]:
    return _made(folder, {"pose.txt": b"1 0 0\n0 1 0\n0 0 1\n\n10.5 20 900\n"})


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
    return _made(folder, {f"{n}.json": json.dumps(v).encode() for n, v in files.items()})


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
            if not dataset.path(index).resolve().is_relative_to(path.parent.resolve()):
                raise Escaped(f"the list leads to {dataset.path(index)}")


def _config_seeds(_: Path, folder: Path) -> list[Path]:
    from mlx_headpose.models import METHODS, config_class

    files = {f"{m}.json": json.dumps(config_class(m)().to_dict()).encode() for m in METHODS}
    quantized = config_class("hopenet")(arch="squeezenet1_1").to_dict()
    quantized["quantization"] = {
        "scheme": "int8", "layers": ["backbone.layers.0"], "folded": [["a", "b"]],
    }  # fmt: skip
    return _made(folder, files | {"quantized.json": json.dumps(quantized).encode()})


def _read_config(path: Path) -> None:
    from mlx_headpose.weights import from_pretrained

    folder = path.parent / "model"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    shutil.copyfile(path, folder / "config.json")
    from mlx_headpose.errors import InputError

    try:
        from_pretrained(folder)
    except InputError as error:
        if "is missing" not in str(error):  # the network was built; it has no weights here
            raise


# Arrays.


def _npz_seeds(_: Path, folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    images, poses = rng.integers(0, 255, (4, 8, 8, 3), np.uint8), rng.normal(0, 9, (4, 3))
    return [
        _saved(folder, "packed.npz", lambda p: np.savez(p, image=images, pose=poses)),
        _saved(folder, "small.npz", lambda p: np.savez_compressed(p, image=images, pose=poses)),
        _saved(folder, "crop.npz", lambda p: np.savez(p, image=images[0], pose=poses[0])),
    ]


def _read_npz(path: Path) -> None:
    from mlx_headpose.data.biwi import PackedBiwi, PreparedBiwi
    from mlx_headpose.data.npz import member_shape

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
        paths += _made(folder, {f"dict{protocol}.npy": data})
    points = rng.normal(size=(68, 3))
    return [*paths, _saved(folder, "points.npy", lambda p: np.save(p, points))]


def _read_npy(path: Path) -> None:
    from mlx_headpose.convert.readers import read_tensors
    from mlx_headpose.inference.landmark_files import read_landmarks

    if b"|O" in path.read_bytes()[:80]:
        read_tensors(path)
    else:
        read_landmarks(path)


# Checkpoints.


def _read_tensors(path: Path) -> None:
    from mlx_headpose.convert.readers import read_tensors

    for name, value in read_tensors(path).items():
        assert (type(name), type(value)) == (str, np.ndarray), name


def _read_convert(path: Path) -> None:
    from mlx_headpose.convert import convert_tensors
    from mlx_headpose.convert.readers import read_tensors

    try:
        convert_tensors(read_tensors(path), path)
    except Exception as error:
        if "of no known checkpoint" not in str(error):
            raise


def _h5_seeds(_: Path, folder: Path) -> list[Path]:
    import h5py

    def write(path: Path, wrapped: bool, **options: Any) -> None:
        with h5py.File(path, "w", **options) as file:
            root = file.create_group("model_weights") if wrapped else file
            root.attrs["layer_names"] = [b"dense_1", b"lambda_1", b"conv"]
            for layer, names in (("dense_1", ["kernel:0", "bias:0"]), ("lambda_1", []),
                                 ("conv", ["kernel:0"])):  # fmt: skip
                group = root.create_group(layer)
                inner = [f"{layer}/{name}".encode() for name in names]
                group.attrs["weight_names"] = inner or np.zeros(0)
                for name in inner:
                    chunks = (2, 2) if layer == "conv" else None
                    group.create_dataset(name.decode(), data=np.ones((4, 4), "f"), chunks=chunks)
            file.attrs["model_config"] = '{"class_name": "Lambda"}'

    return [
        _saved(folder, "weights.h5", lambda p: write(p, False)),
        _saved(folder, "model.h5", lambda p: write(p, True)),
        _saved(folder, "new.h5", lambda p: write(p, False, libver="latest")),
    ]


def _read_h5(path: Path) -> None:
    """In this process: `read_tensors` starts one of its own, against what is found here."""
    from mlx_headpose.convert.h5 import read_h5

    read_h5(path)


def _torch_seeds(shared: Path, folder: Path) -> list[Path]:
    import torch

    state = {"module.a.weight": torch.ones(4, 3), "module.b": torch.arange(5), "module.c": None}
    whole = {"epoch": 3, "state_dict": {"w": torch.ones(2, 2).half(), "b": torch.tensor(1.0)}}
    return [
        shared / "weights/nlml/yaw_network.pth",
        _saved(folder, "zip.pth", lambda p: torch.save(state, p)),
        _saved(folder, "wrapped.tar", lambda p: torch.save(whole, p)),
        _saved(
            folder,
            "legacy.pkl",
            lambda p: torch.save(state, p, _use_new_zipfile_serialization=False),
        ),
    ]


def _weights_npz_seeds(shared: Path, folder: Path) -> list[Path]:
    return [
        shared / "weights/nlml/Factor_Matrices.npz",
        _saved(
            folder, "own.npz", lambda p: np.savez_compressed(p, a=np.ones((3, 3)), b=np.ones(2))
        ),
    ]


def _safetensors_seeds(shared: Path, folder: Path) -> list[Path]:
    import mlx.core as mx

    from mlx_headpose.convert import convert_file
    from mlx_headpose.weights import save_tensors

    yunet = shared / "weights/face_detection_yunet_2023mar.onnx"
    progress = {"epoch": 1, "step": 0, "best_epoch": 1, "best_mae": 3.0, "sums": {}}
    state = {"model_type": "training_state", "model": {}, "progress": progress, "run": {"a": 1}}
    tensors = {"model.a": mx.ones((2, 2)), "optimizer.b": mx.ones(3, mx.bfloat16)}
    return [
        _saved(folder, "yunet.safetensors", lambda p: convert_file(yunet, p)),
        _saved(folder, "state.safetensors", lambda p: save_tensors(p, tensors, state)),
    ]


def _read_safetensors(path: Path) -> None:
    from mlx_headpose.inference.face_detector import FaceDetector
    from mlx_headpose.training.checkpoint import is_state, read_run
    from mlx_headpose.weights import load_tensors

    if is_state(path):
        read_run(path)
        load_tensors(path)
    else:
        FaceDetector.from_pretrained(path)


def _onnx_seeds(shared: Path, _: Path) -> list[Path]:
    return [shared / "weights/face_detection_yunet_2023mar.onnx"]


def _read_yunet(path: Path) -> None:
    from mlx_headpose.inference.face_detector import FaceDetector

    FaceDetector.from_pretrained(path)


def _head_seeds(_: Path, folder: Path) -> list[Path]:
    from onnx import TensorProto, helper

    weight = np.full(84 * 3, 0.01, np.float32).reshape(6, 3, 14, 1)[:6, :, :8, :]
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], strides=[8, 8], kernel_shape=[8, 1]),
        helper.make_node("Reshape", ["c", "s"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "heads",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 6, 64])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.tobytes(), raw=True),
            helper.make_tensor("s", TensorProto.INT64, [3], [1, 6, 64]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.metadata_props.add(key="names", value="{0: 'head', 1: 'body'}")
    return _made(folder, {"heads.onnx": model.SerializeToString()})


def _read_head_detector(path: Path) -> None:
    from mlx_headpose.inference.head_detector import HeadDetector

    HeadDetector(path)([np.zeros((48, 64, 3), np.uint8)], 0.3)


# What libraries' native code reads.


def _mlxfn_seeds(_: Path, folder: Path) -> list[Path]:
    import mlx.core as mx

    weight = mx.random.normal((12, 6))

    def function(x: mx.array) -> list[mx.array]:
        return [mx.softmax(x @ weight, axis=-1), x.sum(-1)]

    def save(path: Path) -> None:
        with mx.exporter(str(path), function, metadata='{"format": "x"}') as exporter:
            exporter(mx.zeros((2, 12)))

    return [_saved(folder, "function.mlxfn", save)]


def _read_mlxfn(path: Path) -> None:
    import mlx.core as mx

    from mlx_headpose.errors import InputError

    try:
        mx.eval(mx.import_function(str(path))(mx.zeros((2, 12))))
    except (RuntimeError, ValueError) as error:  # what MLX documents
        raise InputError(str(error).replace("\n", " ")) from None


def _video_seeds(_: Path, folder: Path) -> list[Path]:
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, codec in (("a.mp4", "mp4v"), ("b.avi", "MJPG")):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter_fourcc(*codec), 25.0, (64, 48))
        for step in range(12):
            writer.write(np.full((48, 64, 3), 20 * step, np.uint8))
        writer.release()
        paths.append(folder / name)
    return paths


def _read_video(path: Path) -> None:
    from mlx_headpose.errors import InputError
    from mlx_headpose.inference.video import VideoReader

    with VideoReader(path) as reader:
        for number, frame in enumerate(reader):
            assert frame.image.ndim == 3
            if number > 100:
                break
    if not reader.decoded:
        raise InputError(f"{path}: not one frame")


READERS = {
    "mat": Reader(".mat", ("matlab",), _mat_seeds, _read_mat),
    "jpeg": Reader(".jpg", ("jpeg",), _jpeg_seeds, _read_picture),
    "png": Reader(".png", ("png",), _png_seeds, _read_picture),
    "other_pictures": Reader(".tif", ("havoc",), _other_seeds, _read_picture),
    "list": Reader(".txt", ("text",), _list_seeds, _read_list),
    "csv": Reader(".csv", ("text",), _csv_seeds, _read_csv),
    "pose": Reader(".txt", ("text",), _pose_seeds, _read_pose),
    "json": Reader(".json", ("json",), _json_seeds, _read_json),
    "config": Reader(".json", ("json",), _config_seeds, _read_config),
    "npz": Reader(".npz", ("zip",), _npz_seeds, _read_npz),
    "npy": Reader(".npy", ("npy",), _npy_seeds, _read_npy),
    "h5": Reader(".h5", ("havoc",), _h5_seeds, _read_h5),
    "torch": Reader(".pth", ("torch",), _torch_seeds, _read_tensors),
    "weights_npz": Reader(".npz", ("zip",), _weights_npz_seeds, _read_convert),
    "safetensors": Reader(".safetensors", ("safetensors",), _safetensors_seeds, _read_safetensors),
    "yunet_onnx": Reader(".onnx", ("protobuf",), _onnx_seeds, _read_yunet),
    "head_onnx": Reader(".onnx", ("protobuf",), _head_seeds, _read_head_detector),
    "mlxfn": Reader(".mlxfn", ("havoc",), _mlxfn_seeds, _read_mlxfn),
    "video": Reader(".mp4", ("boxes",), _video_seeds, _read_video),
}
