"""Layers that networks share and that MLX lacks or does slowly.

Each is a drop-in for the layer of the same name in `mlx.nn`: same arguments, same parameter names.
"""

from .activation import relu, relu6, sigmoid, silu
from .conv import Conv2d, ConvTranspose2d, conv2d, conv_transpose2d
from .norm import BatchNorm, GroupNorm, is_statistic
from .plain import plain_operations
from .pool import MaxPool2d, max_pool2d, mean_pool2d

__all__ = [
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "GroupNorm",
    "MaxPool2d",
    "conv2d",
    "conv_transpose2d",
    "is_statistic",
    "max_pool2d",
    "mean_pool2d",
    "plain_operations",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
]
