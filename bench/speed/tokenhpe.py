"""TokenHPE against PyTorch with the same weights: speed, memory, and what bfloat16 changes.

    python -m bench.speed.tokenhpe
    python -m bench.speed.tokenhpe --snapshot X.safetensors --data_dir datasets/AFLW2000 \
        --filename_list datasets/AFLW2000/files.txt

Both networks hold the same numbers and are timed in turns in one run. Memory is the most that a
fresh process with one of the networks held, its libraries included. The second command measures
bfloat16's change of the angles on real images with trained weights as well.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
import mlx.optimizers as optim  # isort: skip
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_map

from bench.memory import forget_peak, recent_peak_bytes
from bench.reference.beside_torch import CLOCK, Runs, add_clock_option, planes, seconds, table
from bench.reference.torch_tokenhpe import TorchTokenHPE, loss
from mlx_headpose.core.crop import cut
from mlx_headpose.data import open_dataset
from mlx_headpose.methods import Estimator, build
from mlx_headpose.methods.tokenhpe.checkpoint import to_torch
from mlx_headpose.methods.tokenhpe.network import Config, region_of
from mlx_headpose.pose import angle_errors, geodesic_errors, pose_to_r
from mlx_headpose.weights import from_pretrained, tensors_of


def twins(config: Config) -> tuple[Estimator, TorchTokenHPE]:
    """The network in MLX and in PyTorch, with the same weights."""
    mx.random.seed(0)
    ours = build(config)
    state = to_torch(config.to_dict(), tensors_of(ours))["model_state_dict"]
    theirs = TorchTokenHPE(config)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return ours, theirs


def difference(ours: Estimator, theirs: TorchTokenHPE, images: np.ndarray) -> float:
    """Largest difference of an entry of any rotation."""
    with torch.inference_mode():
        expected = theirs(planes(images))
    found = ours(mx.array(images))
    return max(np.abs(np.array(a) - b.numpy()).max() for a, b in zip(found, expected, strict=True))


def inference(ours: Estimator, theirs: TorchTokenHPE, images: np.ndarray) -> Runs:
    ours.eval()
    theirs.eval()
    batch, torch_batch = mx.array(images), planes(images)

    def torch_run() -> None:
        with torch.inference_mode():
            theirs(torch_batch)

    return {"MLX": lambda: mx.eval(ours(batch)), "PyTorch": torch_run}


def training(ours: Estimator, theirs: TorchTokenHPE, images: np.ndarray, pose: np.ndarray) -> Runs:
    ours.train()
    theirs.train()
    batch, target, torch_batch = mx.array(images), mx.array(pose), planes(images)
    true = torch.from_numpy(np.array(pose_to_r(target)))
    region = torch.from_numpy(np.array(region_of(target, ours.config.regions))).long()
    optimizer, torch_optimizer = optim.Adam(1e-5), torch.optim.Adam(theirs.parameters(), 1e-5)
    gradient = nn.value_and_grad(ours, lambda model: model.loss(model(batch), target)[0])

    def mlx_step() -> None:
        value, gradients = gradient(ours)
        optimizer.update(ours, gradients)
        mx.eval(ours.state, optimizer.state, value)

    def torch_step() -> None:
        torch_optimizer.zero_grad()
        loss(theirs(torch_batch), true, region, ours.config.alpha).backward()
        torch_optimizer.step()

    return {"MLX": mlx_step, "PyTorch": torch_step}


def peak_megabytes(what: str, name: str, arguments: list[str]) -> float:
    """The memory of a fresh process, at its highest during two passes."""
    command = [sys.executable, __file__, *arguments, "--only", what, name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def peak_of(run: Callable[[], object]) -> float:
    """MB of this process's memory at its highest during two runs, or on macOS ever."""
    gc.collect()
    mx.clear_cache()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)
    forget_peak()  # that of building the networks
    for _ in range(2):
        run()
    return recent_peak_bytes() / 1e6


def bfloat16_change(model: Estimator, images: np.ndarray, batch_size: int) -> str:
    """By how much the pose of (N, size, size, 3) uint8 images changes."""
    normalize = model.config.preprocessing.normalize

    def poses(dtype: mx.Dtype) -> np.ndarray:
        found = []
        for start in range(0, len(images), batch_size):
            x = normalize(mx.array(images[start : start + batch_size])).astype(dtype)
            found.append(np.array(model.decode(model(x))))
        return np.concatenate(found)

    before = poses(mx.float32)
    model.set_dtype(mx.bfloat16)
    after = poses(mx.bfloat16)
    model.set_dtype(mx.float32)
    angles, turned = angle_errors(after, before), geodesic_errors(after, before)
    yaw, pitch, roll = angles.mean(axis=0)
    return (
        f"mean change yaw {yaw:.3f}°, pitch {pitch:.3f}°, roll {roll:.3f}°; rotation "
        f"{turned.mean():.3f}° on average, {turned.max():.3f}° at most, {len(images)} images"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--snapshot", help="trained network, to see what bfloat16 does to it")
    parser.add_argument("--data_dir", help="AFLW2000")
    parser.add_argument("--filename_list")
    add_clock_option(parser)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.snapshot:
        model = from_pretrained(args.snapshot)
        preprocessing = model.config.preprocessing
        data = open_dataset("AFLW2000", args.data_dir, args.filename_list, crop=preprocessing.crop)
        images = [cut(data.image(i), data.crop_box(i), preprocessing) for i in range(len(data))]
        print("bfloat16, trained:", bfloat16_change(model, np.stack(images), args.batch_size))
        return
    config = Config()
    size = config.preprocessing.size
    rng = np.random.default_rng(0)
    images = rng.standard_normal((args.batch_size, size, size, 3)).astype(np.float32)
    pose = rng.uniform(-60, 60, (args.batch_size, 3)).astype(np.float32)
    ours, theirs = twins(config)
    works = {
        "inference": lambda: inference(ours, theirs, images),
        "one image at a time": lambda: inference(ours, theirs, images[:1]),
        "training": lambda: training(ours, theirs, images, pose),
    }
    if args.only:
        what, name = args.only
        run = works[what]()[name]
        if name == "MLX":
            theirs.to_empty(device="meta")
        else:
            ours.update(tree_map(lambda value: mx.zeros(0), ours.parameters()))
        print(peak_of(run))
        return
    count = sum(value.size for _, value in tree_flatten(ours.trainable_parameters()))
    print(
        f"{count:,} parameters, {size} pixels, batch {args.batch_size}, {os.cpu_count()} cores, "
        f"{mx.default_device()}, {CLOCK}; rotations differ by "
        f"{difference(ours, theirs, images):.1e} at most"
    )
    for title, work in works.items():
        table(title, 1 if "one" in title else len(images), seconds(work(), args.repeats))
    given = ["--batch_size", str(args.batch_size)]
    for what in ("inference", "training"):
        used = {name: peak_megabytes(what, name, given) for name in ("MLX", "PyTorch")}
        print(f"memory, {what}:", ", ".join(f"{name} {mb:,.0f} MB" for name, mb in used.items()))
    pixels = rng.integers(0, 255, images.shape).astype(np.uint8)
    print("bfloat16, random weights:", bfloat16_change(ours, pixels, args.batch_size))


if __name__ == "__main__":
    main()
