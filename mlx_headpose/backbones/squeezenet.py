"""SqueezeNet 1.0 and 1.1 (Iandola et al., "AlexNet-level accuracy with 50x fewer...", 2016).

The list `features` numbers its entries as torchvision does, activations and poolings included.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..cpu.shards import each_shard
from ..nn import Conv2d, MaxPool2d, relu


class Fire(nn.Module):
    """Squeeze by a 1×1 convolution, expand by a 1×1 and a 3×3 beside each other."""

    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = Conv2d(inputs, squeeze, 1)
        self.expand1x1 = Conv2d(squeeze, expand, 1)
        self.expand3x3 = Conv2d(squeeze, expand, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        x = relu(self.squeeze(x))
        return relu(mx.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=-1))


class SqueezeNet(nn.Module):
    """Images → feature map of 512 channels.

    Args:
        version: "1_0" or "1_1"; 1.1 pools earlier and costs 2.4 times less.
    """

    channels = 512
    takes_shards = True

    def __init__(self, version: str = "1_1"):
        super().__init__()
        if version == "1_0":
            self.features = [
                Conv2d(3, 96, 7, stride=2),
                nn.ReLU(),
                _pool(),
                Fire(96, 16, 64),
                Fire(128, 16, 64),
                Fire(128, 32, 128),
                _pool(),
                Fire(256, 32, 128),
                Fire(256, 48, 192),
                Fire(384, 48, 192),
                Fire(384, 64, 256),
                _pool(),
                Fire(512, 64, 256),
            ]
        else:
            self.features = [
                Conv2d(3, 64, 3, stride=2),
                nn.ReLU(),
                _pool(),
                Fire(64, 16, 64),
                Fire(128, 16, 64),
                _pool(),
                Fire(128, 32, 128),
                Fire(256, 32, 128),
                _pool(),
                Fire(256, 48, 192),
                Fire(384, 48, 192),
                Fire(384, 64, 256),
                Fire(512, 64, 256),
            ]

    @each_shard
    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, 3) → (N, about H/16, about W/16, 512)."""
        for layer in self.features:
            x = layer(x)
        return x


def _pool() -> MaxPool2d:
    # Caffe's rounding: a window that hangs over the edge still counts.
    return MaxPool2d(3, stride=2, ceil_mode=True)
