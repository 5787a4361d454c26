"""Layers that networks share and that MLX lacks or does slowly.

A layer that `mlx.nn` has too is a drop-in for it: same arguments, same parameter names.
"""

from .activation import hard_sigmoid, hard_swish, relu, relu6, sigmoid, silu
from .conv import Conv2d, ConvTranspose2d, conv2d, conv_transpose2d
from .drop import drop_branch
from .norm import BatchNorm, GroupNorm, is_statistic
from .plain import plain_operations
from .pool import MaxPool2d, double, max_pool2d, mean_pool2d

__all__ = [
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "GroupNorm",
    "MaxPool2d",
    "conv2d",
    "conv_transpose2d",
    "double",
    "drop_branch",
    "hard_sigmoid",
    "hard_swish",
    "is_statistic",
    "max_pool2d",
    "mean_pool2d",
    "plain_operations",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
]
