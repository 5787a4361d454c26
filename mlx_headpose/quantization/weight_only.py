"""MLX's own quantisation: groups of 32 weights share a scale and a bias; inputs stay as they are.

MLX has it for products with a matrix: linear layers, and convolutions of 1 × 1, which are the
same. Other convolutions, and layers whose inputs 32 does not divide, keep their floats.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..methods import Estimator
from .fold import fold_batch_norms
from .spec import Quantization
from .tree import CONVOLUTIONS, copy_of, layers, replace

GROUP_SIZE = 32


def quantize_weights(model: Estimator, bits: int, inputs: np.ndarray) -> Estimator:
    """A copy of a network with MLX's quantised weights where they apply.

    Args:
        model: any estimator.
        bits: 8 or 4.
        inputs: (N, ...) what it reads; a few, to find which batch norms can be folded.
    """
    copy = copy_of(model)
    folded = fold_batch_norms(copy, mx.array(inputs[:2]))
    floats = layers(copy, (*CONVOLUTIONS, nn.Linear))
    quantized = {
        n: quantized_product(layer, bits) for n, layer in floats.items() if is_product(layer)
    }
    replace(copy, quantized)
    copy.quantization = Quantization(f"mlx{bits}", tuple(quantized), folded)
    copy.eval()
    return copy


def is_product(layer: Any) -> bool:
    """Whether MLX can hold a layer's weights quantised."""
    if isinstance(layer, CONVOLUTIONS):
        pointwise = layer.weight.shape[1:3] == (1, 1) and layer.groups == 1
        if not pointwise or tuple(layer.stride) != (1, 1) or layer.padding not in ("same", (0, 0)):
            return False
    return layer.weight.shape[-1] % GROUP_SIZE == 0


def quantized_product(layer: Any, bits: int) -> nn.QuantizedLinear:
    """MLX's quantised layer of a linear layer or a 1 × 1 convolution."""
    outputs, inputs = layer.weight.shape[0], layer.weight.shape[-1]
    linear = nn.Linear(inputs, outputs, bias="bias" in layer)
    linear.weight = layer.weight.reshape(outputs, inputs)
    if "bias" in layer:
        linear.bias = layer.bias
    return nn.QuantizedLinear.from_linear(linear, GROUP_SIZE, bits)
