"""Batch and group normalisation with their own gradients.

Left to automatic differentiation, a norm keeps and writes many arrays of the activation's size.
Here it is one function: statistics, then one multiply-add with a scale and a shift per channel.
Its gradient is again two sums and one multiply-add (Ioffe and Szegedy, Batch Normalization, 2015,
section 3; Wu and He, Group Normalization, 2018). Statistics are float32 for every input dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..cpu.shards import Shards, each_shard, in_each_shard
from ..errors import InputError
from .plain import with_gradient

STATISTICS = ("running_mean", "running_var")


def is_statistic(name: str) -> bool:
    """Whether a parameter is one of a batch norm's running statistics."""
    return name.endswith(STATISTICS)


def _group_mean(per_channel: mx.array, groups: int, interleaved: bool) -> mx.array:
    """(B, 1, ..., C) → the same shape, every channel replaced by the mean over its group's."""
    channels = per_channel.shape[-1]
    if groups == channels:
        return per_channel
    size = channels // groups
    shape = (-1, size, groups) if interleaved else (-1, groups, size)
    split = per_channel.reshape(shape)
    mean = mx.mean(split, axis=1 if interleaved else 2, keepdims=True)
    return mx.broadcast_to(mean, split.shape).reshape(per_channel.shape)


def _float32(x: mx.array) -> mx.array:
    return x.astype(mx.float32)


@lru_cache
def _normalization(
    axes: tuple[int, ...], groups: int, interleaved: bool, eps: float
) -> Callable[..., Any]:
    """The function (parts, weight, bias) → [parts of y, mean, var] and its gradient.

    The parts are (B, ..., C), one in each shard. The statistics run over the given axes of all
    parts and the channels of a group, and come back with 1 for these axes and repeated within a
    group. No gradient flows through them.
    """

    def positions(parts: list[mx.array]) -> int:
        """How many values of a channel a statistic runs over."""
        return sum(math.prod(x.shape[axis] for axis in axes) for x in parts)

    def total(values: mx.array) -> mx.array:
        return values.sum(axes, keepdims=True)

    def mean_over_all(sums: list[mx.array], parts: list[mx.array]) -> mx.array:
        """The sums over each part's positions → the mean over all parts'."""
        return reduce(mx.add, sums) * (1 / positions(parts))

    def forward(parts: list[mx.array], weight: mx.array, bias: mx.array) -> list[Any]:
        wide = in_each_shard(_float32, parts)
        sums = in_each_shard(total, wide)
        mean = _group_mean(mean_over_all(sums, parts), groups, interleaved)
        centred = in_each_shard(lambda x: x - mean, wide)
        # Not E[x²] − E[x]², which loses every digit where the mean is far from zero.
        squares = in_each_shard(lambda c: total(mx.square(c)), centred)
        var = _group_mean(mean_over_all(squares, parts), groups, interleaved)
        scale = mx.rsqrt(var + eps) * weight
        y = in_each_shard(lambda c, x: (c * scale + bias).astype(x.dtype), centred, parts)
        return [y, mean, var]

    def gradient(
        primals: list[Any], cotangents: list[Any], outputs: list[Any]
    ) -> tuple[list[mx.array], mx.array, mx.array]:
        parts, weight, bias = primals
        _, mean, var = outputs
        dy = in_each_shard(_float32, cotangents[0])
        centred = in_each_shard(lambda x: _float32(x) - mean, parts)
        # Sums of dy and of dy·(x − mean), per channel, and for group norm per sample.
        dy_sum = reduce(mx.add, in_each_shard(total, dy))
        product_sum = reduce(mx.add, in_each_shard(lambda d, c: total(d * c), dy, centred))
        # dx = rstd · (w·dy − ⟨w·dy⟩ − x̂·⟨w·dy·x̂⟩), ⟨⟩ the mean over positions and the group.
        rstd = mx.rsqrt(var + eps)
        scale, share = rstd * weight, rstd * (1 / positions(parts))
        shift = share * _group_mean(weight * dy_sum, groups, interleaved)
        slope = share * mx.square(rstd) * _group_mean(weight * product_sum, groups, interleaved)
        dx = in_each_shard(
            lambda d, c, x: (d * scale - (c * slope + shift)).astype(x.dtype), dy, centred, parts
        )
        others = tuple(range(parts[0].ndim - 1))
        return (
            dx,
            (product_sum * rstd).sum(others).astype(weight.dtype),
            dy_sum.sum(others).astype(bias.dtype),
        )

    return with_gradient(forward, gradient)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's semantics.

    A drop-in for `mlx.nn.BatchNorm`: parameters `weight` and `bias`, and `running_mean` and
    `running_var`, which are saved and loaded but never trainable. As in PyTorch and MLX, a batch is
    normalised by its biased variance, and the running variance is fed the unbiased one. The
    result has the input's dtype, where MLX would widen float16 to the weights' float32.

    Args:
        num_features: channels, the size of the last axis.
        eps: added to the variance.
        momentum: share of the new batch in the running statistics.
        affine: learn a scale and a shift per channel.
        track_running_stats: keep running statistics and use them in eval mode.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__()
        if eps <= 0.0:
            raise ValueError(f"BatchNorm: eps must be positive, not {eps}")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.track_running_stats = track_running_stats
        if affine:
            self.weight = mx.ones((num_features,))
            self.bias = mx.zeros((num_features,))
        if track_running_stats:
            self.running_mean = mx.zeros((num_features,))
            self.running_var = mx.ones((num_features,))
            self.freeze(keys=list(STATISTICS), recurse=False)

    def unfreeze(self, *args, **kwargs):
        """As `nn.Module.unfreeze`; the running statistics stay frozen."""
        super().unfreeze(*args, **kwargs)
        self.freeze(keys=list(STATISTICS), recurse=False)
        return self

    def _extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={'weight' in self}, track_running_stats={self.track_running_stats}"
        )

    def scale_and_shift(self) -> tuple[mx.array, mx.array]:
        """(C,) and (C,): in eval mode the layer is x·scale + shift, by the running statistics."""
        scale = mx.rsqrt(self.running_var + self.eps)
        if "weight" in self:
            scale = scale * self.weight
            return scale, self.bias - self.running_mean * scale
        return scale, -self.running_mean * scale

    def __call__(self, x: mx.array) -> mx.array:
        """(N, ..., C) → the same shape and dtype."""
        if not self.training and self.track_running_stats:
            scale, shift = self.scale_and_shift()
            return (x * scale + shift).astype(x.dtype)
        channels = x.shape[-1]
        count = math.prod(x.shape[:-1])
        if self.training and count < 2:
            raise InputError(
                "a batch norm learns from more than one value per channel; give a larger "
                "--batch_size or --input_size"
            )
        weight = self.weight if "weight" in self else mx.ones((channels,))
        bias = self.bias if "weight" in self else mx.zeros((channels,))
        parts = x.parts if isinstance(x, Shards) else [x]
        normalize = _normalization(tuple(range(len(x.shape) - 1)), channels, False, self.eps)
        y, mean, var = normalize(parts, weight, bias)
        if self.training and self.track_running_stats:
            share = self.momentum
            unbiased = share * count / (count - 1)
            mean, var = mean.reshape(channels), var.reshape(channels)
            self.running_mean = (1 - share) * self.running_mean + share * mean
            self.running_var = (1 - share) * self.running_var + unbiased * var
        return Shards(y) if isinstance(x, Shards) else y[0]


class GroupNorm(nn.Module):
    """Group normalisation over each sample's positions and the channels of a group.

    A drop-in for `mlx.nn.GroupNorm`, with its parameters `weight` and `bias`, and its own grouping:
    channel c belongs to group c mod `num_groups`. With `pytorch_compatible` the groups are blocks
    of neighbouring channels, as in PyTorch and the paper. The result has the input's dtype.

    Args:
        num_groups: number of groups; must divide `dims`.
        dims: channels, the size of the last axis.
        eps: added to the variance.
        affine: learn a scale and a shift per channel.
        pytorch_compatible: group neighbouring channels.
    """

    def __init__(
        self,
        num_groups: int,
        dims: int,
        eps: float = 1e-5,
        affine: bool = True,
        pytorch_compatible: bool = False,
    ):
        super().__init__()
        if eps <= 0.0:
            raise ValueError(f"GroupNorm: eps must be positive, not {eps}")
        if num_groups <= 0 or dims <= 0 or dims % num_groups:
            raise ValueError(f"GroupNorm: {num_groups} groups do not divide {dims} channels")
        if affine:
            self.weight = mx.ones((dims,))
            self.bias = mx.zeros((dims,))
        self.num_groups = num_groups
        self.dims = dims
        self.eps = eps
        self.pytorch_compatible = pytorch_compatible

    def _extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.dims}, eps={self.eps}, affine={'weight' in self}, "
            f"pytorch_compatible={self.pytorch_compatible}"
        )

    @each_shard
    def __call__(self, x: mx.array) -> mx.array:
        """(N, ..., C) → the same shape and dtype."""
        channels = x.shape[-1]
        weight = self.weight if "weight" in self else mx.ones((channels,))
        bias = self.bias if "weight" in self else mx.zeros((channels,))
        axes = tuple(range(1, x.ndim - 1))
        normalize = _normalization(axes, self.num_groups, not self.pytorch_compatible, self.eps)
        (y,), *_ = normalize([x], weight, bias)
        return y
