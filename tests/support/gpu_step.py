"""How far three steps with a GPU's operations lie from three with the CPU's.

A GPU uses MLX's own convolutions. Both run on the CPU here, as a command:
`python gpu_step.py CONFIG`. Printed are, for the weights that train and for the norms' statistics,
the distance between both results as a share of the way they went; and, where the first is large,
the share that a relative change of the first weights by 1e-6 makes: random deep networks with batch
norms magnify rounding that much.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from unittest import mock

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mlx_headpose.data.augment import UNCHANGED
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.nn import is_statistic
from mlx_headpose.training.optimizer import Optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import make_step

SAMPLES = 4
CLOSE = 1e-2
RATES = (0.01, 0.02, 0.03)  # each step has another one, which must not be compiled in
Weights = dict[str, np.ndarray]


def steps(config: dict, device: mx.Device, noise: float = 0) -> tuple[Weights, Weights]:
    """The weights before and after three steps, dropout and augmentation included."""
    with mock.patch.object(mx, "default_device", return_value=device):
        mx.random.seed(0)
        model = build(config_from_dict(config))
        model.train()
        inputs = model.config.inputs.example(SAMPLES)
        poses = mx.random.uniform(-60, 60, (SAMPLES, 3))
        changes = mx.array(np.tile(UNCHANGED, (SAMPLES, 1)))
        options = TrainingOptions(optimizer="sgd", clip_norm=1.0, augment=1.0)
        optimizer = Optimizer(model, options)
        step = make_step(model, optimizer, options, None)
        if noise:
            rng = np.random.default_rng(0)
            shaken = {
                name: mx.array(value * (1 + noise * rng.standard_normal(value.shape, np.float32)))
                for name, value in weights(model.trainable_parameters()).items()
            }
            model.load_weights(list(shaken.items()), strict=False)
        before = weights(model.parameters())
        for rate in RATES:
            optimizer.set_learning_rate(rate)
            mx.eval(step(inputs, poses, changes).loss, model.state, optimizer.state)
        return before, weights(model.parameters())


def weights(tree: dict) -> Weights:
    """By name, and out of MLX's hands."""
    return {name: np.array(value) for name, value in tree_flatten(tree)}


def share(before: Weights, one: Weights, other: Weights, chosen: Callable[[str], bool]) -> float:
    """|one − other| / |one − before| over the arrays whose names are chosen; 0 for none."""
    names = [name for name in before if chosen(name)]
    moved = sum(float(np.square(one[name] - before[name]).sum()) for name in names)
    apart = sum(float(np.square(one[name] - other[name]).sum()) for name in names)
    return (apart / moved) ** 0.5 if names else 0.0


def main() -> None:
    config = json.loads(sys.argv[1])
    mx.set_default_device(mx.cpu)
    before, plain = steps(config, mx.Device(mx.cpu))
    _, on_gpu = steps(config, mx.Device(mx.gpu))
    trained, _ = shares = [
        share(before, plain, on_gpu, chosen)
        for chosen in (lambda name: not is_statistic(name), is_statistic)
    ]
    magnified = 0.0
    if trained > CLOSE:
        start, shaken = steps(config, mx.Device(mx.cpu), noise=1e-6)
        moved = {name: before[name] + shaken[name] - start[name] for name in before}
        magnified = share(before, plain, moved, lambda name: not is_statistic(name))
    print(*shares, magnified)


if __name__ == "__main__":
    main()
