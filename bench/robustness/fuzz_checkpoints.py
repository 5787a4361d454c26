"""The readers of checkpoints, and of what libraries read by themselves, each with whole files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bench.robustness.fuzz_base import Reader, made, saved

# Checkpoints.


def _config_seeds(_: Path, folder: Path) -> list[Path]:
    from mlx_headpose.methods import METHODS, config_class

    files = {f"{m}.json": json.dumps(config_class(m)().to_dict()).encode() for m in METHODS}
    quantized = config_class("hopenet")(arch="squeezenet1_1").to_dict()
    quantized["quantization"] = {
        "scheme": "int8", "layers": [], "folded": [],
    }  # fmt: skip
    return made(folder, files | {"quantized.json": json.dumps(quantized).encode()})


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


def _read_tensors(path: Path) -> None:
    from mlx_headpose.readers.checkpoint_file import read_tensors

    for name, value in read_tensors(path).items():
        assert (type(name), type(value)) == (str, np.ndarray), name


def _read_convert(path: Path) -> None:
    from mlx_headpose.convert import convert_tensors
    from mlx_headpose.readers.checkpoint_file import read_tensors

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
        saved(folder, "weights.h5", lambda p: write(p, False)),
        saved(folder, "model.h5", lambda p: write(p, True)),
        saved(folder, "new.h5", lambda p: write(p, False, libver="latest")),
    ]


def _read_h5(path: Path) -> None:
    """In this process: `read_tensors` starts one of its own, against what is found here."""
    from mlx_headpose.readers.h5 import read_h5

    read_h5(path)


def _torch_seeds(shared: Path, folder: Path) -> list[Path]:
    import torch

    from mlx_headpose.readers.torch_writer import write_torch_file

    base = torch.arange(24.0).reshape(2, 3, 4)
    views = {
        "a": base,
        "b": base.permute(2, 0, 1)[1:],
        "c": base[0, 0].expand(3, 4).bfloat16(),
        "d": torch.nn.Parameter(base[0].half()),
        "e": torch.arange(5).to(torch.uint16),
        "f": torch.zeros(0, 3),
    }
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(network.parameters())
    whole = {
        "epoch": 3,
        "state_dict": {f"module.{n}": v for n, v in network.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "kinds": (torch.float32, torch.device("cpu"), torch.Size([2]), {1}, 1j, 0.5, None, True),
    }
    written = {"epoch": 1, "model": {"w": np.ones((2, 3), "f4"), "n": np.array(1)}}
    real = shared / "weights/nlml/yaw_network.pth"
    paths = [real, saved(folder, "own.pkl", lambda p: write_torch_file(p, written))]
    for name, value in (("views", views), ("module", network.state_dict()), ("whole", whole)):
        for zipped in (True, False):
            # A uint16 has no storage of its own, which the older form cannot write.
            kept = value if zipped else {k: v for k, v in value.items() if k != "e"}
            paths.append(
                saved(
                    folder,
                    f"{name}.{'pth' if zipped else 'pkl'}",
                    lambda p, k=kept, z=zipped: torch.save(k, p, _use_new_zipfile_serialization=z),
                )
            )
    return paths


def _weights_npz_seeds(shared: Path, folder: Path) -> list[Path]:
    return [
        shared / "weights/nlml/Factor_Matrices.npz",
        saved(folder, "own.npz", lambda p: np.savez_compressed(p, a=np.ones((3, 3)), b=np.ones(2))),
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
        saved(folder, "yunet.safetensors", lambda p: convert_file(yunet, p)),
        saved(folder, "state.safetensors", lambda p: save_tensors(p, tensors, state)),
    ]


def _read_safetensors(path: Path) -> None:
    from mlx_headpose.detection.yunet import FaceDetector
    from mlx_headpose.readers.safetensors_file import load_tensors
    from mlx_headpose.training.checkpoint import is_state, read_run

    if is_state(path):
        read_run(path)
        load_tensors(path)
    else:
        FaceDetector.from_pretrained(path)


def _onnx_seeds(shared: Path, _: Path) -> list[Path]:
    return [shared / "weights/face_detection_yunet_2023mar.onnx"]


def _read_yunet(path: Path) -> None:
    from mlx_headpose.detection.yunet import FaceDetector

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
    return made(folder, {"heads.onnx": model.SerializeToString()})


def _read_head_detector(path: Path) -> None:
    from mlx_headpose.detection.yolo import HeadDetector

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

    return [saved(folder, "function.mlxfn", save)]


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
    "config": Reader(".json", ("json",), _config_seeds, _read_config),
    "h5": Reader(".h5", ("havoc",), _h5_seeds, _read_h5),
    "torch": Reader(".pth", ("torch",), _torch_seeds, _read_tensors),
    "weights_npz": Reader(".npz", ("zip",), _weights_npz_seeds, _read_convert),
    "safetensors": Reader(".safetensors", ("safetensors",), _safetensors_seeds, _read_safetensors),
    "yunet_onnx": Reader(".onnx", ("protobuf",), _onnx_seeds, _read_yunet),
    "head_onnx": Reader(".onnx", ("protobuf",), _head_seeds, _read_head_detector),
    "mlxfn": Reader(".mlxfn", ("havoc",), _mlxfn_seeds, _read_mlxfn),
    "video": Reader(".mp4", ("boxes",), _video_seeds, _read_video),
}
