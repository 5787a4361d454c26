"""The optimizers of a training, one for each group of parameters with its own learning rate."""

from __future__ import annotations

import mlx.optimizers as optim

from ..models import Estimator
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


def single_optimizer(options: TrainingOptions) -> optim.Optimizer:
    """MLX's optimizer of the given kind, with PyTorch's arithmetic."""
    if options.optimizer == "sgd":
        return optim.SGD(options.lr, options.momentum, weight_decay=options.weight_decay)
    if options.optimizer == "adamw":
        return optim.AdamW(options.lr, weight_decay=options.weight_decay, bias_correction=True)
    return optim.Adam(options.lr, bias_correction=True)
