"""One training step: augment, forward, loss, gradients, update."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from ..data.augment import apply as augment
from ..errors import InputError
from ..methods import Estimator
from ..nn import BatchNorm, GroupNorm, is_statistic
from .distributed import Processes
from .optimizer import Optimizer
from .options import TrainingOptions

Step = Callable[[mx.array, mx.array, mx.array], "StepResult"]


@dataclass
class StepResult:
    """What a step tells, not yet computed: reading a number waits for the device.

    Attributes:
        loss: scalar.
        parts: the loss's named parts, scalars.
        error: mean absolute errors on the batch, such as (3,) degrees of yaw, pitch and roll.
    """

    loss: mx.array
    parts: dict[str, mx.array]
    error: mx.array


def make_step(
    model: Estimator,
    optimizer: Optimizer,
    options: TrainingOptions,
    processes: Processes | None,
) -> Step:
    """The function that trains on one batch.

    It is compiled on a GPU, and plain on the CPU, where compiling rarely pays. It never waits for
    the device.

    Args:
        model: the network to train.
        optimizer: optimizer of its weights.
        options: options of the training.
        processes: those whose gradients are averaged; None means this one's alone.

    Returns:
        (inputs, poses, changes) → `StepResult`: inputs (N, H, W, 3) uint8 or (N, L, 3) float32,
        poses (N, 3) in degrees or what else the network learns, changes (N, 5) as
        `data.augment.apply` takes them.
    """
    reads = model.config.inputs
    augmented = reads.augments and options.augmentation is not None

    def loss_of(parameters: dict, inputs: mx.array, poses: mx.array) -> tuple:
        model.update(in_bfloat16(model, parameters) if options.bfloat16 else parameters)
        if options.bfloat16:
            inputs = reads.normalize(inputs)
            # Networks bring landmarks to size themselves; in pixels they would round to whole 4.
            if not reads.landmarks:
                inputs = inputs.astype(mx.bfloat16)
        outputs = tuple(output.astype(mx.float32) for output in model(inputs))
        loss, parts = model.loss(outputs, poses)
        return loss, parts, model.error(outputs, poses)

    def step(inputs: mx.array, poses: mx.array, changes: mx.array) -> tuple:
        if augmented:
            inputs, poses = augment(inputs, poses, changes)
        parameters = model.trainable_parameters()
        frozen = frozen_parameters(model)
        (loss, parts, error), gradients = mx.value_and_grad(loss_of)(parameters, inputs, poses)
        model.update(parameters)
        model.update(frozen)
        if processes is not None:
            gradients = processes.average(gradients)
        if options.clip_norm > 0:
            gradients, _ = optim.clip_grad_norm(gradients, options.clip_norm)
        optimizer.update(model, gradients)
        return loss, parts, error

    if mx.default_device() == mx.gpu:
        state = [model.state, optimizer.state, mx.random.state]
        step = partial(mx.compile, inputs=state, outputs=state)(step)

    def run(inputs: mx.array, poses: mx.array, changes: mx.array) -> StepResult:
        with _no_garbage_collection():
            result = StepResult(*step(inputs, poses, changes))
        mx.async_eval(result.loss, result.error, model.state, optimizer.state)
        return result

    return run


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Writing down a step makes thousands of objects and no cycles; looking for them takes 4 %."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def in_bfloat16(model: Estimator, parameters: dict) -> dict:
    """The model's weights in bfloat16, with gradients flowing to the float32 `parameters`.

    Batch and group norms keep float32; the layer norms of MLX sum in float32 whatever they hold.
    """
    norms = tuple(f"{n}." for n, m in model.named_modules() if isinstance(m, BatchNorm | GroupNorm))
    weights = dict(tree_flatten(model.parameters())) | dict(tree_flatten(parameters))
    cast = {
        name: value if name.startswith(norms) else value.astype(mx.bfloat16)
        for name, value in weights.items()
    }
    return tree_unflatten(list(cast.items()))


def frozen_parameters(model: Estimator) -> dict:
    """The weights that do not train, without the norms' running statistics."""
    trainable = dict(tree_flatten(model.trainable_parameters()))
    frozen = [
        (name, value)
        for name, value in dict(tree_flatten(model.parameters())).items()
        if name not in trainable and not is_statistic(name)
    ]
    return tree_unflatten(frozen) if frozen else {}


def freeze(model: Estimator, prefixes: tuple[str, ...]) -> None:
    """Stop the modules under the given names from training.

    Raises:
        InputError: no module has such a name.
    """
    for prefix in prefixes:
        modules = [m for name, m in model.named_modules() if name == prefix.rstrip(".")]
        if not modules:
            names = [name for name, _ in model.named_modules() if name.count(".") == 1]
            raise InputError(
                f"--freeze {prefix}: the network has no such module; some that it has: "
                f"{', '.join(sorted(names)[:12])}"
            )
        for module in modules:
            module.freeze()
    if not tree_flatten(model.trainable_parameters()):
        raise InputError(f"--freeze {' '.join(prefixes)}: leaves nothing to train")


def training_mode(model: Estimator, frozen: tuple[str, ...]) -> None:
    """Switch to training; the norms of frozen modules go on using their statistics."""
    model.train()
    for name, module in model.named_modules():
        if any(name == prefix.rstrip(".") for prefix in frozen):
            module.eval()
