"""The optimizers of a training, one for each group of parameters with its own learning rate."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.optimizers as optim

from ..models import Estimator
from ..nn.lanes import lane, lane_count
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
            self.scales = [options.head_lr_scale, 1.0]
            filters = [lambda name, _: name.startswith(prefixes)]
        super().__init__([single_optimizer(options) for _ in self.scales], filters)
        self.init(model.trainable_parameters())

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; the head's is scaled."""
        for optimizer, scale in zip(self.optimizers, self.scales, strict=True):
            optimizer.learning_rate = rate * scale


class _InLanes(optim.Optimizer):
    """Updates each parameter in the lane that has least to do."""

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        self._loads = [0] * lane_count()
        return super().apply_gradients(gradients, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        number = self._loads.index(min(self._loads))
        self._loads[number] += parameter.size
        with lane(number):
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
        state["m"] = keep_m * state["m"] + (1 - keep_m) * gradient
        state["v"] = keep_v * state["v"] + (1 - keep_v) * mx.square(gradient)
        return parameter - self._rate * state["m"] / (mx.sqrt(state["v"]) + self._epsilon)


class _SGD(_InLanes, optim.SGD):
    pass


class _Adam(_InLanes, _BiasCorrection):
    pass


class _AdamW(_InLanes, optim.AdamW, _BiasCorrection):
    pass


def single_optimizer(options: TrainingOptions) -> optim.Optimizer:
    """MLX's optimizer of the given kind, with PyTorch's arithmetic."""
    if options.optimizer == "sgd":
        return _SGD(options.lr, options.momentum, weight_decay=options.weight_decay)
    if options.optimizer == "adamw":
        return _AdamW(options.lr, weight_decay=options.weight_decay)
    return _Adam(options.lr)
