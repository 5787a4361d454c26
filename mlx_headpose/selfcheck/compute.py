"""A case computed by MLX: forward, gradients, and one training step, on a chosen device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..data.augment import UNCHANGED
from ..methods import Estimator
from ..nn import is_statistic
from ..training.optimizer import Optimizer
from ..training.options import TrainingOptions
from ..training.step import StepResult, make_step
from ..weights import tensors_of
from .cases import Case
from .values import Values, as_numpy

# A step that moves every weight by far more than float32 rounds it: clipped to this length.
RATE, CLIP = 10.0, 1.0


def on_gpu() -> bool:
    """Whether the default device is a GPU."""
    return mx.default_device() == mx.Device(mx.gpu)


@contextmanager
def computing_on(device: mx.Device) -> Iterator[None]:
    """Inside, everything is computed on a device."""
    usual = mx.default_device()
    mx.set_default_device(device)
    try:
        yield
    finally:
        mx.set_default_device(usual)


def compute(case: Case) -> Values:
    """What a case computes on the default device. Its weights are left as they were."""
    inputs, targets = mx.array(case.inputs), mx.array(case.targets)
    outputs = [as_numpy(output) for output in case.outputs(inputs)]
    before = tensors_of(case.module)
    case.train()
    loss, gradients = mx.value_and_grad(case.loss)(
        case.module.trainable_parameters(), inputs, targets
    )
    values = Values(
        outputs,
        float(loss),
        {name: as_numpy(value) for name, value in dict(tree_flatten(gradients)).items()},
    )
    case.module.load_weights(list(before.items()))
    if case.network is not None:
        step(case.network, inputs, targets)
        after = {name: as_numpy(value) for name, value in tensors_of(case.module).items()}
        values.moved = {name: after[name] - as_numpy(before[name]) for name in values.gradients}
        values.statistics = {name: after[name] for name in after if is_statistic(name)}
        case.module.load_weights(list(before.items()))
    return values


def step(
    network: Estimator, inputs: mx.array, targets: mx.array, bfloat16: bool = False
) -> StepResult:
    """One training step as `train` takes it, by clipped gradient descent."""
    options = TrainingOptions(
        optimizer="sgd", momentum=0.0, lr=RATE, clip_norm=CLIP, augment=0.0, bfloat16=bfloat16
    )
    optimizer = Optimizer(network, options)
    take = make_step(network, optimizer, options, None)
    result = take(inputs, targets, mx.array(np.tile(UNCHANGED, (len(inputs), 1))))
    mx.eval(result.loss, network.state)
    return result
