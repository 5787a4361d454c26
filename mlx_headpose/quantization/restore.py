"""From a config's quantisation back to the network that it describes."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..errors import InputError
from ..methods import Estimator
from .fold import NORMS
from .layers import int8_layer
from .spec import Quantization
from .tree import CONVOLUTIONS, layers, replace
from .weight_only import is_product, quantized_product


def restructure(model: Estimator, spec: Quantization) -> None:
    """Give a network that its config built the quantised layers into which a checkpoint fits.

    Raises:
        InputError: the network has no such layers.
    """
    norms = layers(model, NORMS)
    floats = layers(model, (*CONVOLUTIONS, nn.Linear))
    for norm, conv in spec.folded:
        if norm not in norms or not isinstance(floats.get(conv), CONVOLUTIONS):
            raise InputError(f"its quantization folds {norm} into {conv}, which are not there")
        floats[conv].bias = mx.zeros(floats[conv].weight.shape[0])
    for name in spec.layers:
        if name not in floats or (spec.scheme != "int8" and not is_product(floats[name])):
            raise InputError(f"its quantization names {name}, which cannot be quantised")
    replace(model, {norm: nn.Identity() for norm, _conv in spec.folded})
    replace(model, {name: _quantized(floats[name], spec.scheme) for name in spec.layers})
    model.quantization = spec


def _quantized(layer: nn.Module, scheme: str) -> nn.Module:
    return int8_layer(layer) if scheme == "int8" else quantized_product(layer, int(scheme[-1]))
