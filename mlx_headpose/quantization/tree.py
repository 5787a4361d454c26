"""Finding and replacing layers by their dotted names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..methods import Estimator, build
from ..nn import Conv2d

CONVOLUTIONS = (Conv2d, nn.Conv2d)


def copy_of(model: Estimator) -> Estimator:
    """An estimator with the same tensors, in evaluation mode, whose layers can be replaced."""
    copy = build(model.config)
    copy.update(tree_unflatten(tree_flatten(model.parameters())))
    copy.eval()
    return copy


def sharing_copy_of(module: Any) -> Any:
    """A module with the same tensors, and modules of its own all the way down.

    Unlike `copy_of` it builds no network, whose random weights take longer than loading.
    """
    if isinstance(module, nn.Module):
        copy = type(module).__new__(type(module))
        copy.__dict__.update(module.__dict__, _no_grad=set(module._no_grad))
        for name, value in module.items():
            dict.__setitem__(copy, name, sharing_copy_of(value))
        return copy
    if type(module) in (list, tuple):
        return type(module)(sharing_copy_of(value) for value in module)
    if type(module) is dict:
        return {name: sharing_copy_of(value) for name, value in module.items()}
    return module


def in_dtype(model: Estimator, dtype: mx.Dtype) -> Estimator:
    """A copy of a network whose floating point tensors have another type."""
    copy: Estimator = sharing_copy_of(model)
    copy.set_dtype(dtype)
    return copy


def layers(model: nn.Module, kinds: tuple[type, ...]) -> dict[str, Any]:
    """The modules of these types by name, in alphabetical order."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    return dict(sorted(found.items()))


def replace(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Put other modules in the places of these names."""
    model.update_modules(tree_unflatten(list(modules.items())))


class Watched(nn.Module):
    """A layer that shows its input and output to someone, and otherwise behaves as before."""

    def __init__(self, layer: nn.Module, watch: Callable[[mx.array, mx.array], None]):
        super().__init__()
        self.layer = layer
        self._watch = watch

    def __call__(self, x: mx.array) -> mx.array:
        y = self.layer(x)
        self._watch(x, y)
        return y
