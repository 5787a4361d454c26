"""The pyramid network against PyTorch with the same weights, and where its time goes.

    python -m bench.speed.pyramid

Both networks hold the same numbers and are timed in turns in one run. PyTorch runs in its default
layout and with channels last. Also: each part's share of the time, and the convolutions that MLX
does slowly on the CPU against the layers of `mlx_headpose.nn` that stand in for them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import mlx_headpose.nn as fast  # first: it loads the fast BLAS before MLX
from mlx_headpose.core.crop import AROUND_LANDMARKS

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
import mlx.optimizers as optim  # isort: skip
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_map

from bench.reference.beside_torch import CLOCK, Runs, add_clock_option, planes, seconds, table
from bench.reference.torch_pyramid import TorchPyramid
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.methods import Estimator
from mlx_headpose.methods.pyramid.checkpoint import to_torch
from mlx_headpose.methods.pyramid.network import Config, build


def twins(size: int, form: str) -> tuple[Estimator, TorchPyramid]:
    """The network in MLX and in PyTorch, with the same weights."""
    mx.random.seed(0)
    ours = build(
        Config(form=form, preprocessing=Preprocessing(size, "squash", crop=AROUND_LANDMARKS))
    )
    state = to_torch(ours.config.to_dict(), dict(tree_flatten(ours.parameters())))["model"]
    theirs = TorchPyramid(form=form)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return ours, theirs


def inference(ours: Estimator, theirs: TorchPyramid, images: np.ndarray) -> Runs:
    ours.eval()
    theirs.eval()
    batch, torch_batch = mx.array(images), planes(images)
    last = torch_batch.contiguous(memory_format=torch.channels_last)

    def torch_run(x: torch.Tensor) -> None:
        with torch.inference_mode():
            theirs(x)

    return {
        "MLX": lambda: mx.eval(ours(batch)),
        "PyTorch": lambda: torch_run(torch_batch),
        "PyTorch, channels last": lambda: torch_run(last),
    }


def torch_loss(outputs: tuple[torch.Tensor, ...], pose: torch.Tensor) -> torch.Tensor:
    """The published loss with the symmetric wrap."""
    total = torch.zeros(())
    for i in range(3):
        coarse, shift = outputs[2 * i : 2 * i + 2]
        bins = ((pose[:, i] + 100) / 20).floor().clamp(0, 9)
        steps = (pose[:, i] + 100 - 20 * bins).floor().clamp(0, 19)
        total = total + torch.nn.functional.cross_entropy(coarse, bins.long())
        total = total + torch.nn.functional.cross_entropy(shift, steps.long())
        angle = coarse.softmax(1) @ torch.arange(10.0) * 20 - 100
        distance = (angle + shift.softmax(1) @ torch.arange(20.0) - pose[:, i]).abs()
        total = total + torch.minimum(distance, 360 - distance).square().mean()
    return total


def training(ours: Estimator, theirs: TorchPyramid, images: np.ndarray, pose: np.ndarray) -> Runs:
    ours.train()
    theirs.train()
    batch, target = mx.array(images), mx.array(pose)
    torch_batch, torch_target = planes(images), torch.tensor(pose)
    last = torch_batch.contiguous(memory_format=torch.channels_last)
    optimizer, torch_optimizer = optim.AdamW(1e-5), torch.optim.AdamW(theirs.parameters(), 1e-5)
    gradient = nn.value_and_grad(ours, lambda model: model.loss(model(batch), target)[0])

    def mlx_step() -> None:
        loss, gradients = gradient(ours)
        optimizer.update(ours, gradients)
        mx.eval(ours.state, optimizer.state, loss)

    def torch_step(x: torch.Tensor) -> None:
        torch_optimizer.zero_grad()
        torch_loss(theirs(x), torch_target).backward()
        torch_optimizer.step()

    return {
        "MLX": mlx_step,
        "PyTorch": lambda: torch_step(torch_batch),
        "PyTorch, channels last": lambda: torch_step(last),
    }


def parts(model: Estimator, images: np.ndarray, repeats: int) -> None:
    """Milliseconds of each part, forwards, and forwards with all gradients."""
    model.train()
    stages: list[tuple[str, list[nn.Module]]] = [("stem", [model.backbone.stem])]
    first = 0
    ends = (-1, *model.backbone.level_ends)
    for number, end in enumerate(ends[1:], 2):
        name = "stages 1 and 2" if number == 2 else f"stage {number}"
        stages.append((name, model.backbone.blocks[first : end + 1]))
        first = end + 1
    x = mx.array(images)
    levels = []
    rows = []
    for name, modules in stages:
        rows.append((name, time_part(chain(modules), modules, x, repeats)))
        x = chain(modules)(x)
        mx.eval(x)
        if name != "stem":
            levels.append(x)
    aggregation, aspp = model.head.aggregation, model.head.aspp
    rows.append(("feature pyramid", time_part(aggregation, [aggregation], levels, repeats)))
    x = aggregation(levels)
    rows.append(("ASPP", time_part(aspp, [aspp], x, repeats)))
    forward, both = (sum(values[i] for _, values in rows) for i in (0, 1))
    print("where the time goes (ms and share, forwards; forwards and gradients)")
    for name, (a, b) in rows:
        print(f"  {name:16} {1e3 * a:8.1f} {a / forward:5.0%}   {1e3 * b:8.1f} {b / both:5.0%}")


def chain(modules: list[nn.Module]) -> Callable[[mx.array], mx.array]:
    def run(x: mx.array) -> mx.array:
        for module in modules:
            x = module(x)
        return x

    return run


def time_part(run: Callable, modules: list[nn.Module], x, repeats: int) -> tuple[float, float]:
    def total(weights, x):
        for module, values in zip(modules, weights, strict=True):
            module.update(values)
        return run(x).sum()

    gradient = mx.grad(total, argnums=(0, 1))
    weights = [module.trainable_parameters() for module in modules]
    mx.eval(weights, x)

    def both() -> None:
        mx.eval(gradient(weights, x))
        for module, values in zip(modules, weights, strict=True):
            module.update(values)

    taken = seconds({"forward": lambda: mx.eval(run(x)), "both": both}, repeats)
    return taken["forward"], taken["both"]


def slow_operations(batch: int, repeats: int) -> None:
    """MLX's own layers against those of `mlx_headpose.nn`, in the network's shapes at 224."""
    print("operations (ms forwards and with gradients: MLX's own, ours; ratio; largest difference)")
    for name, kind, arguments, keywords, shape in (
        ("depthwise 3×3", "Conv2d", (960, 960, 3, 1, 1), {"groups": 960}, (14, 14, 960)),
        ("depthwise, stride 2", "Conv2d", (256, 256, 3, 2, 1), {"groups": 256}, (28, 28, 256)),
        ("strided 3×3", "Conv2d", (48, 192, 3, 2, 1), {}, (56, 56, 48)),
        ("dilated 3×3", "Conv2d", (160, 256, 3, 1, 2), {"dilation": 2}, (4, 4, 160)),
        ("transposed 2×2", "ConvTranspose2d", (48, 48, 2, 2), {}, (28, 28, 48)),
    ):
        theirs = getattr(nn, kind)(*arguments, **keywords)
        ours = getattr(fast, kind)(*arguments, **keywords)
        ours.update(tree_map(lambda value: value, theirs.parameters()))
        x = mx.random.normal((batch, *shape))
        reference, result = theirs(x), ours(x)
        difference = (mx.abs(reference - result).max() / mx.abs(reference).max()).item()
        taken = [time_part(layer, [layer], x, repeats) for layer in (theirs, ours)]
        (a, b), (c, d) = taken
        print(
            f"  {name:20} {1e3 * a:7.1f} {1e3 * c:7.1f} {a / c:5.1f}×   "
            f"{1e3 * b:7.1f} {1e3 * d:7.1f} {b / d:5.1f}×   {difference:.0e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--form", default="pyramid")
    add_clock_option(parser)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((args.batch_size, args.size, args.size, 3)).astype(np.float32)
    pose = rng.uniform(-60, 60, (args.batch_size, 3)).astype(np.float32)
    ours, theirs = twins(args.size, args.form)
    count = sum(value.size for _, value in tree_flatten(ours.trainable_parameters()))
    print(
        f"{count:,} parameters, {args.size} pixels, batch {args.batch_size}, "
        f"{os.cpu_count()} cores, {mx.default_device()}, {CLOCK}"
    )
    for title, runs in (
        ("inference", inference(ours, theirs, images)),
        ("one image at a time", inference(ours, theirs, images[:1])),
    ):
        table(title, 1 if "one" in title else len(images), seconds(runs, args.repeats))
    table("training", len(images), seconds(training(ours, theirs, images, pose), args.repeats))
    parts(ours, images, args.repeats)
    slow_operations(args.batch_size, args.repeats)


if __name__ == "__main__":
    main()
