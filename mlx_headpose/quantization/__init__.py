"""Smaller networks: 8-bit post-training quantisation, and MLX's own 8- and 4-bit weights.

Works on any estimator, whatever its method: it looks for convolutions, linear layers and batch
norms in the module tree and replaces them.
"""

from .fold import fold_batch_norms, fold_branches, folded
from .int8 import quantize_int8
from .layers import Int8Conv2d, Int8Linear
from .restore import restructure
from .spec import SCHEMES, Quantization
from .tree import in_dtype
from .weight_only import quantize_weights

__all__ = [
    "SCHEMES",
    "Int8Conv2d",
    "Int8Linear",
    "Quantization",
    "fold_batch_norms",
    "fold_branches",
    "folded",
    "in_dtype",
    "quantize_int8",
    "quantize_weights",
    "restructure",
]
