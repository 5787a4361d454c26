"""Batch and group normalisation with their own gradients.

Left to automatic differentiation, a norm keeps and writes many arrays of the activation's size.
Here it is one function: statistics, then one multiply-add with a scale and a shift per channel.
Its gradient is again two sums and one multiply-add (Ioffe and Szegedy, Batch Normalization, 2015,
section 3; Wu and He, Group Normalization, 2018). Statistics are float32 for every input dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .plain import without_gradient_if_plain

STATISTICS = ("running_mean", "running_var")


def is_statistic(name: str) -> bool:
    """Whether a parameter is one of a batch norm's running statistics."""
    return name.endswith(STATISTICS)


def _group_mean(per_channel: mx.array, groups: int, interleaved: bool) -> mx.array:
    """(B, 1, C) → (B, 1, C), every channel replaced by the mean over the channels of its group."""
    batch, _, channels = per_channel.shape
    if groups == channels:
        return per_channel
    size = channels // groups
    shape = (batch, 1, size, groups) if interleaved else (batch, 1, groups, size)
    split = per_channel.reshape(shape)
    mean = mx.mean(split, axis=2 if interleaved else 3, keepdims=True)
    return mx.broadcast_to(mean, shape).reshape(batch, 1, channels)


@lru_cache
def _normalization(groups: int, interleaved: bool, eps: float) -> Callable[..., Any]:
    """The function (x, weight, bias) → [y, mean, var] and its gradient.

    x is (B, L, C); the statistics run over L and the channels of a group and come back as
    (B, 1, C), repeated within a group. No gradient flows through them.
    """

    def over_group(values: mx.array) -> mx.array:
        """(B, L, C) → (B, 1, C) mean over L and the group."""
        return _group_mean(mx.mean(values, axis=1, keepdims=True), groups, interleaved)

    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> list[mx.array]:
        wide = x.astype(mx.float32)
        mean = over_group(wide)
        centred = wide - mean
        # Not E[x²] − E[x]², which loses every digit where the mean is far from zero.
        var = over_group(mx.square(centred))
        scale = mx.rsqrt(var + eps) * weight
        return [(centred * scale + bias).astype(x.dtype), mean, var]

    normalize = mx.custom_function(forward)

    @normalize.vjp
    def gradient(
        primals: list[mx.array], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, mx.array, mx.array]:
        x, weight, bias = primals
        _, mean, var = outputs
        dy = cotangents[0].astype(mx.float32)
        centred = x.astype(mx.float32) - mean
        rstd = mx.rsqrt(var + eps)
        # Means over L of dy and of dy·x̂, per sample and channel.
        mean_dy = mx.mean(dy, axis=1, keepdims=True)
        mean_dy_xhat = mx.mean(dy * centred, axis=1, keepdims=True) * rstd
        # dx = rstd · (w·dy − ⟨w·dy⟩ − x̂·⟨w·dy·x̂⟩), ⟨⟩ the mean over L and the group.
        shift = rstd * _group_mean(weight * mean_dy, groups, interleaved)
        slope = rstd * rstd * _group_mean(weight * mean_dy_xhat, groups, interleaved)
        dx = dy * (rstd * weight) - (centred * slope + shift)
        count = x.shape[1]
        return (
            dx.astype(x.dtype),
            (count * mean_dy_xhat.sum(axis=(0, 1))).astype(weight.dtype),
            (count * mean_dy.sum(axis=(0, 1))).astype(bias.dtype),
        )

    return without_gradient_if_plain(normalize, forward)


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
        count = x.size // channels
        if self.training and count < 2:
            raise ValueError("BatchNorm: training needs more than one value per channel")
        weight = self.weight if "weight" in self else mx.ones((channels,))
        bias = self.bias if "weight" in self else mx.zeros((channels,))
        flat = x.reshape(1, count, channels)
        y, mean, var = _normalization(channels, False, self.eps)(flat, weight, bias)
        if self.training and self.track_running_stats:
            mean = mx.stop_gradient(mean).reshape(channels)
            var = mx.stop_gradient(var).reshape(channels) * (count / (count - 1))
            keep = 1 - self.momentum
            self.running_mean = keep * self.running_mean + self.momentum * mean
            self.running_var = keep * self.running_var + self.momentum * var
        return y.reshape(x.shape)


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

    def __call__(self, x: mx.array) -> mx.array:
        """(N, ..., C) → the same shape and dtype."""
        channels = x.shape[-1]
        weight = self.weight if "weight" in self else mx.ones((channels,))
        bias = self.bias if "weight" in self else mx.zeros((channels,))
        normalize = _normalization(self.num_groups, not self.pytorch_compatible, self.eps)
        y, _, _ = normalize(x.reshape(x.shape[0], -1, channels), weight, bias)
        return y.reshape(x.shape)
