"""What is computed: every method's small network, the bundled networks, and single layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..detection.heads.detector import BUNDLED_DETECTOR
from ..methods import DETECTORS, METHODS, Estimator, build, config_class, config_from_dict
from ..weights import BUNDLED, load_network
from . import numbers
from .layers import layers
from .picture import crops, scene

SAMPLES = 4
Parameters = dict[str, Any]


class WithInput(nn.Module):
    """A layer whose input is a parameter, so that it has a gradient as well."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.layer = layer
        self.input = mx.zeros(shape)

    def __call__(self, inputs: mx.array) -> tuple[mx.array, ...]:
        return (self.layer(self.input),)


@dataclass
class Case:
    """One network or layer, with what it reads and learns.

    Attributes:
        name: name in the report.
        module: network or layer, with its weights.
        inputs: batch that it reads.
        targets: what it learns; of a layer, the cotangents of its output.
    """

    name: str
    module: nn.Module
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def network(self) -> Estimator | None:
        """The network, if it is one."""
        return self.module if isinstance(self.module, Estimator) else None

    @property
    def finds_angles(self) -> bool:
        """Whether what it decodes are angles in degrees."""
        return self.network is not None and self.network.config.inputs.target == (3,)

    def outputs(self, inputs: mx.array) -> tuple[mx.array, ...]:
        """The outputs in evaluation mode, the decoded ones of a network last."""
        self.module.eval()
        outputs = self.module(inputs)
        return outputs if self.network is None else (*outputs, self.network.decode(outputs))

    def loss(self, parameters: Parameters, inputs: mx.array, targets: mx.array) -> mx.array:
        """The training loss for given parameters."""
        self.train()
        self.module.update(parameters)
        outputs = self.module(inputs)
        if self.network is None:
            return (outputs[0] * targets).sum()
        return self.network.loss(outputs, targets)[0]

    def train(self) -> None:
        """Switch to training, with nothing left to chance."""
        self.module.train()
        for module in self.module.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
            if "drop" in vars(module):  # stochastic depth
                module.drop = 0.0


def method_cases() -> dict[str, Callable[[], Case]]:
    """The small network of every method and of the head detector, seeded."""
    return {name: partial(_seeded, name) for name in (*METHODS, *DETECTORS)}


def bundled_cases() -> dict[str, Callable[[], Case]]:
    """The bundled networks on the bundled picture."""
    return {
        "bundled network": partial(_bundled, "bundled network", BUNDLED, crops),
        "bundled detector": partial(_bundled, "bundled detector", BUNDLED_DETECTOR, scene),
    }


def layer_cases() -> dict[str, Callable[[], Case]]:
    """Every layer in use."""
    return {name: partial(_layer, name, layer, shape) for name, (layer, shape) in layers().items()}


def all_cases() -> dict[str, Callable[[], Case]]:
    """Everything, each made when it is called for."""
    return {**layer_cases(), **method_cases(), **bundled_cases()}


def _filled(module: nn.Module) -> nn.Module:
    module.load_weights([(name, mx.array(value)) for name, value in numbers.weights(module)])
    return module


def _seeded(method: str) -> Case:
    config = config_from_dict({"model_type": method, **config_class(method).small})
    network = _filled(build(config))
    example = config.inputs.example(SAMPLES)
    make = numbers.pixels if example.dtype == mx.uint8 else numbers.uniform
    inputs = make("inputs", example.shape)
    return Case(method, network, inputs, config.inputs.example_targets(SAMPLES))


def _bundled(name: str, path: Path, read: Callable[[Estimator], np.ndarray]) -> Case:
    network = load_network(path)
    inputs = read(network)
    return Case(name, network, inputs, network.config.inputs.example_targets(len(inputs)))


def _layer(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Case:
    module = _filled(WithInput(layer, shape))
    module.input = mx.array(numbers.uniform("input", shape))
    module.eval()
    (output,) = module(mx.zeros(1))
    return Case(name, module, np.zeros(1, np.float32), numbers.uniform("targets", output.shape))
