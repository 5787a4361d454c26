"""The optimizers of a training, one for each group of parameters with its own learning rate."""

from __future__ import annotations

import math
from functools import partial

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from ..cpu.shards import shard, shard_count
from ..errors import InputError
from ..methods import Estimator
from .options import TrainingOptions


class Optimizer(optim.MultiOptimizer):
    """MLX's optimizers behind one interface: the head's parameters may learn faster.

    Args:
        model: whose trainable parameters it updates.
        options: which optimizer, and which parameters are the head's.
    """

    def __init__(self, model: Estimator, options: TrainingOptions):
        prefixes = options.head_parameters
        self.scales = [1.0]
        filters = []
        if options.head_lr_scale != 1:
            names = list(dict(tree_flatten(model.trainable_parameters())))
            if not any(name.startswith(prefixes) for name in names):
                raise InputError(
                    f"--head_parameters {' '.join(prefixes)}: no parameter that trains has a name "
                    f"that begins so; some that do: {', '.join(sorted(names)[-4:])}"
                )
            self.scales = [options.head_lr_scale, 1.0]
            filters = [lambda name, _: name.startswith(prefixes)]
        super().__init__([single_optimizer(options) for _ in self.scales], filters)
        self.init(model.trainable_parameters())

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; the head's is scaled."""
        for optimizer, scale in zip(self.optimizers, self.scales, strict=True):
            optimizer.learning_rate = rate * scale


class _InShards(optim.Optimizer):
    """Updates each parameter in the shard that has least to do."""

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        self._loads = [0] * shard_count()
        return super().apply_gradients(gradients, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        number = self._loads.index(min(self._loads))
        self._loads[number] += parameter.size
        with shard(number):
            return super().apply_single(gradient, parameter, state)


class _BiasCorrection(optim.Adam):
    """Adam with PyTorch's bias corrections, put once a step into the learning rate and ε.

    Kingma & Ba 2015, the more efficient order at the end of section 2.
    """

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        step = (self.step + 1).astype(mx.float32)
        first, second = (-mx.expm1(step * math.log(beta)) for beta in self.betas)
        self._rate = self.learning_rate * mx.sqrt(second) / first
        self._epsilon = self.eps * mx.sqrt(second)
        return super().apply_gradients(gradients, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        keep_m, keep_v = self.betas
        state["m"] = _mean(state["m"], gradient, keep_m)
        state["v"] = _mean_square(state["v"], gradient, keep_v)
        return _moved(parameter, state["m"], state["v"], self._rate, self._epsilon)


# Compiled even on the CPU: three passes over the weights in place of twelve. Not one, because MLX
# computes in place only what has a single result.
@partial(mx.compile, shapeless=True)
def _mean(m: mx.array, gradient: mx.array, keep: float) -> mx.array:
    return keep * m + (1 - keep) * gradient


@partial(mx.compile, shapeless=True)
def _mean_square(v: mx.array, gradient: mx.array, keep: float) -> mx.array:
    return keep * v + (1 - keep) * mx.square(gradient)


@partial(mx.compile, shapeless=True)
def _moved(
    parameter: mx.array, m: mx.array, v: mx.array, rate: mx.array, epsilon: mx.array
) -> mx.array:
    return parameter - rate * m / (mx.sqrt(v) + epsilon)


class _SGD(_InShards, optim.SGD):
    pass


class _Adam(_InShards, _BiasCorrection):
    pass


class _AdamW(_InShards, optim.AdamW, _BiasCorrection):
    pass


def single_optimizer(options: TrainingOptions) -> optim.Optimizer:
    """MLX's optimizer of the given kind, with PyTorch's arithmetic."""
    if options.optimizer == "sgd":
        return _SGD(options.lr, options.momentum, weight_decay=options.weight_decay)
    if options.optimizer == "adamw":
        return _AdamW(options.lr, weight_decay=options.weight_decay)
    return _Adam(options.lr)
