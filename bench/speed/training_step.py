"""Training steps and inference of HopeNet with ResNet-50: ours against PyTorch eager.

    python -m bench.speed.training_step                       # two CPU cores, 128 px, batch 8
    python -m bench.speed.training_step --device gpu --size 224 --batch 64

Every contestant is a process of its own (so that neither library's threads nor BLAS are the
other's) and they take turns within one run, so that whatever else the machine does meets all of
them alike. Printed are images/s of the median and of the fastest turn, the ratio to PyTorch's
default layout, and peak memory. On a GPU the same network with `mlx.nn.BatchNorm` runs as well.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from bench.memory import peak_bytes  # noqa: E402

OURS, PLAIN, TORCH, TORCH_LAST = "mlx-headpose", "plain mlx.nn norms", "PyTorch", "PyTorch, NHWC"
Turn = Callable[[], None]


def mlx_turn(arguments: argparse.Namespace, norm: str, training: bool) -> tuple[Turn, Turn]:
    """One step, and a function that returns the peak memory in bytes."""
    importlib.import_module("mlx_headpose")  # loads the fast BLAS, so before MLX
    import mlx.core as mx
    import mlx.nn as nn
    import numpy as np

    from mlx_headpose.backbones import resnet
    from mlx_headpose.data.augment import UNCHANGED
    from mlx_headpose.methods.hopenet import network as hopenet
    from mlx_headpose.training.optimizer import Optimizer
    from mlx_headpose.training.options import TrainingOptions
    from mlx_headpose.training.step import make_step

    if arguments.device == "cpu":
        mx.set_default_device(mx.cpu)
    if norm == "plain":
        resnet.BatchNorm = nn.BatchNorm
    mx.random.seed(0)
    model = hopenet.build(hopenet.Config())
    images = mx.random.normal((arguments.batch, arguments.size, arguments.size, 3))
    pose = mx.random.uniform(-90, 90, (arguments.batch, 3))
    mx.eval(model.parameters(), images, pose)
    if not training:
        model.eval()
        forward = mx.compile(model) if arguments.device == "gpu" else model
        return (lambda: mx.eval(forward(images))), mx.get_peak_memory
    options = TrainingOptions(optimizer="adam", lr=1e-5, head_lr_scale=1, augment=0)
    optimizer = Optimizer(model, options)
    step = make_step(model, optimizer, options, None)
    changes = mx.array(np.stack([UNCHANGED] * arguments.batch))

    def turn() -> None:
        result = step(images, pose, changes)
        mx.eval(result.loss, model.state, optimizer.state)

    return turn, mx.get_peak_memory


def torch_turn(arguments: argparse.Namespace, layout: str, training: bool) -> tuple[Turn, Turn]:
    """As `mlx_turn`, in PyTorch."""
    import torch

    from bench.reference.torch_resnet import HopeNet, hopenet_loss

    torch.manual_seed(0)
    device = "cuda" if arguments.device == "gpu" else "cpu"
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    order = torch.channels_last if layout == "last" else torch.contiguous_format
    model = HopeNet().to(device).to(memory_format=order)
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=device)
    images = images.to(memory_format=order)
    pose = torch.rand(arguments.batch, 3, device=device) * 180 - 90
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    model.train(training)
    optimizer = torch.optim.Adam(model.parameters(), 1e-5)

    def step() -> None:
        if training:
            optimizer.zero_grad()
            hopenet_loss(model(images), pose).backward()
            optimizer.step()
        else:
            with torch.inference_mode():
                model(images)
        wait()

    return step, torch.cuda.max_memory_allocated if device == "cuda" else (lambda: 0)


def make_turn(arguments: argparse.Namespace, name: str, training: bool) -> tuple[Turn, Turn]:
    if name in (OURS, PLAIN):
        return mlx_turn(arguments, "plain" if name == PLAIN else "ours", training)
    return torch_turn(arguments, "last" if name == TORCH_LAST else "first", training)


def on_cores(name: str, batch: int) -> AbstractContextManager[None]:
    """As `train.py` and `test.py` run our networks."""
    if name != OURS:
        return nullcontext()
    from mlx_headpose.cpu.shards import shards_on_cores

    return shards_on_cores(batch)


def work(arguments: argparse.Namespace) -> None:
    """A contestant's process: for each line on stdin, take a turn and print its seconds."""
    name, mode = arguments.worker
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    turn, peak = make_turn(arguments, name, mode == "training")
    with on_cores(name, arguments.batch):
        for _ in range(arguments.warm_up):
            turn()
        print("ready", flush=True)
        for _ in sys.stdin:
            start = clock()
            for _ in range(arguments.steps):
                turn()
            seconds = (clock() - start) / arguments.steps
            used = peak() if arguments.device == "gpu" else peak_bytes()
            print(seconds, used / 1e9, flush=True)


class Contestant:
    """A process that takes turns when asked to."""

    def __init__(self, name: str, mode: str, arguments: argparse.Namespace):
        self.name, self.mode = name, mode
        self.seconds: list[float] = []
        self.gigabytes = 0.0
        environment = dict(os.environ)
        if arguments.threads:
            environment["OPENBLAS_NUM_THREADS"] = str(arguments.threads)
            environment["OMP_NUM_THREADS"] = str(arguments.threads)
        # OpenBLAS shall pick its kernels by the processor, whatever the shell has set.
        environment.pop("OPENBLAS_CORETYPE", None)
        self.process = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--worker", name, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.ask("")

    def ask(self, line: str) -> str:
        if line:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ({self.mode}) ended early")
        return answer

    def turn(self) -> None:
        seconds, gigabytes = map(float, self.ask("go\n").split())
        self.seconds.append(seconds)
        self.gigabytes = max(self.gigabytes, gigabytes)


def compare(mode: str, names: list[str], arguments: argparse.Namespace) -> None:
    contestants = [Contestant(name, mode, arguments) for name in names]
    for _ in range(arguments.rounds):
        for contestant in contestants:
            time.sleep(0.5)  # threads of the one before may wait for more work without resting
            contestant.turn()
    for contestant in contestants:
        contestant.process.stdin.close()
        contestant.process.wait()
    against = next((c for c in contestants if c.name == TORCH), contestants[0])
    print(f"\n{mode}: images/s of {arguments.rounds} turns")
    print(f"{'':20} {'median':>8} {'fastest':>8} {'ratio of medians':>18} {'peak GB':>8}")
    for c in contestants:
        median, fastest = (arguments.batch / f(c.seconds) for f in (statistics.median, min))
        ratio = statistics.median(against.seconds) / statistics.median(c.seconds)
        print(f"{c.name:20} {median:8.1f} {fastest:8.1f} {ratio:18.2f} {c.gigabytes:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and PyTorch, 0: theirs")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of all threads, for a machine that others use at the same time",
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--warm_up", type=int, default=3, help="steps before the first turn")
    parser.add_argument("--modes", nargs="+", default=["training", "inference"])
    parser.add_argument("--names", nargs="+", help="contestants; all by default")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    names = arguments.names or [OURS, PLAIN, TORCH, TORCH_LAST]
    if not arguments.names and arguments.device == "cpu":
        names.remove(PLAIN)
    print(
        f"ResNet-50, {arguments.size} px, batch {arguments.batch}, {arguments.device}, "
        f"{arguments.threads} threads, {arguments.clock} clock"
    )
    for mode in arguments.modes:
        compare(mode, names, arguments)


if __name__ == "__main__":
    main()
