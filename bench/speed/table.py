"""Every network beside what one would take instead: the table of docs/performance.md.

    python -m bench.speed.table --quick          # three minutes: some networks, inference only
    python -m bench.speed.table                  # everything, an hour or more
    python -m bench.speed.table --threads 1 --networks bundled pyramid

PyTorch has the same layers (bench/reference/) in both layouts of memory, ONNX Runtime our own
exported file, OpenCV the same detector. Each library is a process of its own, so that neither's
threads nor BLAS are the other's, and they take turns within one run. Images are there already and
normalised for PyTorch; decoding of outputs counts for ours and for ONNX Runtime. Printed are
images/s of the median turn, and ours as a share of each other's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.memory import peak_bytes

OURS, TORCH, LAST, ONNX, OPENCV = (
    "mlx-headpose",
    "PyTorch",
    "PyTorch channels-last",
    "ONNX Runtime",
    "OpenCV",
)
# name → method, its options, the function of torch_backbones that stands beside it
NETWORKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bundled": ("rotation9d", {"mirrored": True}, "bundled"),
    "squeezenet1_1": ("hopenet", {"arch": "squeezenet1_1"}, "squeezenet1_1"),
    "mobilenetv2": ("hopenet", {"arch": "mobilenetv2"}, "mobilenetv2"),
    "resnet18": ("hopenet", {"arch": "resnet18"}, "resnet18"),
    "resnet50": ("hopenet", {"arch": "resnet50"}, "resnet50"),
    "whenet": ("whenet", {}, "efficientnet_b0"),
    "pyramid": ("pyramid", {}, "pyramid"),
    "tokenhpe": ("tokenhpe", {}, "tokenhpe"),
    "headdetector": ("headdetector", {}, ""),
    "yunet": ("yunet", {}, ""),
}
QUICK = ("bundled", "squeezenet1_1", "whenet", "pyramid", "headdetector")
DETECTORS = ("headdetector", "yunet")
YUNET = "YUNET_ONNX"  # environment variable by which the file reaches the processes
SIDE = 640  # of the image that detectors search


def contestants(network: str, mode: str) -> list[str]:
    """What a network is compared with."""
    if network in DETECTORS:
        return [OURS, OPENCV]
    return [OURS, TORCH, LAST] + ([ONNX] if mode == "inference" else [])


def ours(network: str, mode: str, batch: int) -> Callable[[], object]:
    """One turn of our network."""
    import mlx_headpose  # noqa: F401  loads the fast BLAS before MLX

    import mlx.core as mx  # isort: skip
    import numpy as np

    from mlx_headpose.cpu.shards import shards_on_cores
    from mlx_headpose.methods import build, config_class
    from mlx_headpose.predictor import Predictor

    if network in DETECTORS:
        from mlx_headpose.detection.heads.detector import SurroundHeadDetector
        from mlx_headpose.detection.yunet import FaceDetector

        images = [picture()] * batch
        if network == "headdetector":
            heads = SurroundHeadDetector.from_pretrained()
            return lambda: heads(images)
        faces = FaceDetector.from_pretrained(os.environ[YUNET])
        return lambda: faces(images)
    method, fields, _ = NETWORKS[network]
    model = build(config_class(method)(**fields))
    inputs = model.config.inputs.example(batch)
    if mode == "inference":
        predictor, images = Predictor(model), np.array(inputs)

        def infer() -> None:
            with shards_on_cores(batch):
                predictor(images)

        return infer
    from mlx_headpose.data.augment import UNCHANGED
    from mlx_headpose.training.optimizer import Optimizer
    from mlx_headpose.training.options import TrainingOptions
    from mlx_headpose.training.step import make_step

    options = TrainingOptions(optimizer="adam", lr=1e-5, head_lr_scale=1, augment=0)
    optimizer = Optimizer(model, options)
    step = make_step(model, optimizer, options, None)
    poses = mx.random.uniform(-60, 60, (batch, 3))
    changes = mx.array(np.stack([UNCHANGED] * batch))

    def train() -> None:
        with shards_on_cores(batch):
            result = step(inputs, poses, changes)
            mx.eval(result.loss, model.state, optimizer.state)

    return train


def torch_s(network: str, mode: str, batch: int, last: bool) -> Callable[[], object]:
    """One turn of the network in PyTorch; its loss in training is the outputs' mean square."""
    import torch

    from bench.reference import torch_backbones
    from bench.reference.torch_pyramid import TorchPyramid
    from bench.reference.torch_resnet import HopeNet
    from bench.reference.torch_tokenhpe import TorchTokenHPE
    from mlx_headpose.methods import config_class

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    method, fields, name = NETWORKS[network]
    config = config_class(method)(**fields)
    made = {
        "resnet50": HopeNet,
        "pyramid": TorchPyramid,
        "tokenhpe": lambda: TorchTokenHPE(config),
    }
    model = (made.get(name) or getattr(torch_backbones, name))()
    size = config.preprocessing.size
    order = torch.channels_last if last else torch.contiguous_format
    model = model.to(memory_format=order).train(mode == "training")
    images = torch.randn(batch, 3, size, size).to(memory_format=order)
    if mode == "inference":

        def infer() -> None:
            with torch.inference_mode():
                model(images)

        return infer
    optimizer = torch.optim.Adam(model.parameters(), 1e-5)

    def train() -> None:
        optimizer.zero_grad()
        outputs = model(images)
        tensors = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        torch.stack([tensor.square().mean() for tensor in tensors]).sum().backward()
        optimizer.step()

    return train


def onnx_s(network: str, batch: int) -> Callable[[], object]:
    """One turn of our exported file in ONNX Runtime."""
    import numpy as np
    import onnxruntime

    from mlx_headpose.export.onnx import export_onnx
    from mlx_headpose.methods import build, config_class

    method, fields, _ = NETWORKS[network]
    model = build(config_class(method)(**fields))
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(model, path, batch_size=batch)
        written = path.read_bytes()
    inputs = np.array(model.config.inputs.example(batch))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: inputs}
    return lambda: session.run(None, feed)


def opencv_s(batch: int) -> Callable[[], object]:
    """One turn of YuNet in OpenCV."""
    import cv2

    cv2.setNumThreads(int(os.environ["OMP_NUM_THREADS"]))
    image = picture()[..., ::-1].copy()
    detector = cv2.FaceDetectorYN.create(os.environ[YUNET], "", image.shape[1::-1])
    return lambda: [detector.detect(image) for _ in range(batch)]


def picture() -> Any:
    """(640, 640, 3) uint8, the documentation's photo."""
    import numpy as np
    from PIL import Image

    photo = Path(__file__).parents[2] / "docs" / "images" / "astronaut.jpg"
    return np.asarray(Image.open(photo).convert("RGB").resize((SIDE, SIDE)))


def make_turn(library: str, network: str, mode: str, batch: int) -> Callable[[], object]:
    """What a library's process does in a turn."""
    if library == OURS:
        return ours(network, mode, batch)
    if library == OPENCV:
        return opencv_s(batch)
    if library == ONNX:
        return onnx_s(network, batch)
    return torch_s(network, mode, batch, library == LAST)


def serve(make: Callable[[str, str, int], Callable[[], object]]) -> None:
    """A contestant's process: a line of JSON chooses what runs, an empty one is a turn."""
    turn: Callable[[], object] | None = None
    for line in sys.stdin:
        if line.strip():
            turn = make(*json.loads(line))
            turn()
            turn()
        assert turn is not None
        start = time.perf_counter()
        turn()
        seconds = time.perf_counter() - start
        print("turn", seconds, peak_bytes(), flush=True)


class Library:
    """A process that takes turns when asked to.

    Args:
        name: what the program's `--worker` takes.
        threads: of BLAS and OpenMP.
        program: module that `serve`s.
    """

    def __init__(self, name: str, threads: int, program: str = "bench.speed.table"):
        self.name = name
        environment = dict(os.environ)
        for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            environment[variable] = str(threads)
        environment.pop("OPENBLAS_CORETYPE", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", program, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, line: str = "") -> tuple[float, float]:
        """Seconds of a turn, and the most bytes that the process has held."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        for answer in self.process.stdout:
            if answer.startswith("turn "):
                _, seconds, most = answer.split()
                return float(seconds), float(most)
        raise SystemExit(f"{self.name} ended early")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(network: str, mode: str, batch: int, threads: int, rounds: int) -> dict[str, float]:
    """Images/s of every library; prints a row of the table."""
    libraries = [Library(name, threads) for name in contestants(network, mode)]
    taken: dict[str, list[float]] = {library.name: [] for library in libraries}
    memory = {}
    try:
        for library in libraries:
            library.ask(json.dumps([network, mode, batch]))
        for _ in range(rounds):
            for library in libraries:
                time.sleep(0.05)  # threads of the one before may wait without resting
                seconds, memory[library.name] = library.ask()
                taken[library.name].append(seconds)
    finally:
        for library in libraries:
            library.close()
    rates = {name: batch / statistics.median(values) for name, values in taken.items()}
    cells = []
    for name, rate in rates.items():
        share = "" if name == OURS else f" ({rates[OURS] / rate:.2f})"
        cells.append(f"{name} {rate:.1f}{share}, {memory[name] / 1e9:.2f} GB")
    best = max(rate for name, rate in rates.items() if name != OURS)
    print(
        f"| {network} | {mode} | {batch} | {threads} | {rates[OURS] / best:.2f} | "
        f"{'; '.join(cells)} |",
        flush=True,
    )
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a choice that takes three minutes")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), metavar="NAME")
    parser.add_argument("--modes", nargs="+", choices=("inference", "training"))
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--rounds", type=int, help="turns of each library")
    parser.add_argument("--yunet", help="OpenCV's face_detection_yunet_2023mar.onnx, for detectors")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(partial(make_turn, options.worker))
        return
    if options.yunet:
        os.environ[YUNET] = options.yunet
    modes = options.modes or (["inference"] if options.quick else ["inference", "training"])
    batches = options.batches or ([1, 8] if options.quick else [1, 8, 32])
    rounds = options.rounds or (5 if options.quick else 7)
    print("| network | mode | batch | threads | ours to the best | images/s (ours to it), memory |")
    print("|---|---|---|---|---|---|")
    for network in options.networks or (QUICK if options.quick else NETWORKS):
        detects = network in DETECTORS
        if detects and YUNET not in os.environ:
            print(f"{network}: give --yunet FILE", file=sys.stderr)
            continue
        for mode in ["inference"] if detects else modes:
            for batch in [1] if detects else batches:
                for threads in options.threads:
                    compare(network, mode, batch, threads, rounds)


if __name__ == "__main__":
    main()
