"""Several processes that train one network on MLX's own distributed layer."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..methods import Estimator
from ..nn import is_statistic


class Processes:
    """The processes that `mlx.launch` started, or this one alone.

    Attributes:
        rank: this process's number; 0 is the one that writes and prints.
        size: how many there are.
    """

    def __init__(self) -> None:
        self.group = mx.distributed.init()
        self.rank = self.group.rank()
        self.size = self.group.size()

    def average(self, tree: Any) -> Any:
        """The mean over all processes of every array in a tree."""
        return nn.average_gradients(tree, self.group)

    def total(self, array: mx.array) -> mx.array:
        """The sum of an array over all processes."""
        return mx.distributed.all_sum(array, group=self.group) if self.size > 1 else array

    def share_weights(self, model: Estimator) -> None:
        """Give every process the weights of rank 0."""
        if self.size > 1:
            keep = 1.0 if self.rank == 0 else 0.0
            weights = dict(tree_flatten(model.parameters()))
            model.update(tree_unflatten([(n, self.total(w * keep)) for n, w in weights.items()]))
            mx.eval(model.parameters())

    def average_norm_statistics(self, model: Estimator) -> None:
        """Average the running means and variances, which each process gathers from its own part."""
        statistics = [
            (name, value)
            for name, value in dict(tree_flatten(model.parameters())).items()
            if is_statistic(name)
        ]
        if self.size > 1 and statistics:
            model.update(self.average(tree_unflatten(statistics)))
            mx.eval(model.parameters())

    def agree(self, *values: float) -> bool:
        """Whether every process has the same numbers."""
        mine = mx.array(values)
        return bool(mx.allclose(self.total(mine), self.size * mine).item())
