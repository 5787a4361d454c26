"""Convolutions that are fast on the CPU as well, forwards and backwards.

On a GPU these are MLX's own. MLX's CPU kernels are fast for one case only, so there every
convolution is written as what the CPU does fast: a matrix product of the windows with the weights
(where it pays, of fewer numbers that are made of both: `winograd`), or, depthwise, one multiply-add
per tap, and on maps of few pixels a matrix per channel. The gradient of a strided convolution's
input is the sum of shifted products for each of the stride's phases, so no work is spent on stuffed
zeros.

Images are (N, H, W, C), weights (O, kh, kw, C / groups). There are first derivatives only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..cpu.shards import each_shard
from . import winograd
from .grid import Pair, interleave, pad_or_crop, pair, phases, window_span
from .plain import is_plain, use_mlx_kernels, with_gradient

Padding = int | Pair | tuple[Pair, Pair] | str


@dataclass(frozen=True)
class _Geometry:
    """A convolution between pictures of two fixed sizes.

    Output pixel o of an axis sees the input pixels stride·o + dilation·i − before.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    inputs: Pair
    outputs: Pair
    groups: int
    exact: bool = False

    def after(self, axis: int) -> int:
        """Zeros to add behind the input (negative: pixels that no window reaches)."""
        last = (self.outputs[axis] - 1) * self.stride[axis]
        span = window_span(self.kernel[axis], self.dilation[axis])
        return last + span - self.inputs[axis] - self.before[axis]

    def pad(self, x: mx.array) -> mx.array:
        """The input as the windows see it: they fill it exactly."""
        rows, columns = ((self.before[axis], self.after(axis)) for axis in (0, 1))
        return pad_or_crop(x, rows, columns)

    @property
    def allows_winograd(self) -> bool:
        """Whether all windows of 3×3 pixels see all channels, and rounding is allowed."""
        geometry = (self.kernel, self.stride, self.dilation, self.groups)
        return geometry == ((3, 3), (1, 1), (1, 1), 1) and not self.exact

    def depthwise(self, weight: mx.array) -> bool:
        return self.groups > 1 and weight.shape[0] == self.groups and weight.shape[3] == 1

    def small(self, batch: int) -> bool:
        """Whether `_depthwise_of_few_pixels` beats one multiply-add per tap, by measurement."""
        return batch >= 8 and math.prod(self.inputs) <= math.sqrt(batch) * math.prod(self.kernel)


def _windows(x: mx.array, geometry: _Geometry) -> mx.array:
    """(N, H, W, C) → (groups, N·Ho·Wo, kh·kw·C/groups), each row one output pixel's window.

    One group has no axis of its own.
    """
    x = geometry.pad(x)
    n, height, width, channels = x.shape
    groups = geometry.groups
    (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
    each = channels // groups
    if kh == kw == 1:
        x = x[:, ::sh, ::sw]
        if groups == 1:
            return x.reshape(-1, channels)
        return x.reshape(-1, groups, each).transpose(1, 0, 2)
    x = mx.contiguous(x)  # a broadcast constant, such as the gradient of a sum, is not
    dtype = x.dtype
    together = 8 // dtype.size
    if each % together == 0:  # MLX copies element by element, so let 8 bytes be one
        x, channels, each = x.view(mx.uint64), channels // together, each // together
    row, image = width * channels, height * width * channels
    view = mx.as_strided(
        x,
        (groups, n, *geometry.outputs, kh, kw, each),
        (each, image, sh * row, sw * channels, dh * row, dw * channels, 1),
    )
    rows = (-1,) if groups == 1 else (groups, -1)
    return view.reshape(*rows, kh * kw * each).view(dtype)


def _taps(x: mx.array, geometry: _Geometry) -> list[mx.array]:
    """(N, H, W, C) → for each place in the window, the pixels there, (N, Ho, Wo, C) each."""
    x = geometry.pad(x)
    rows, columns = (
        [slice(d * i, d * i + s * (out - 1) + 1, s) for i in range(k)]
        for k, s, d, out in zip(
            geometry.kernel, geometry.stride, geometry.dilation, geometry.outputs, strict=True
        )
    )
    return [x[:, r, c] for r, c in product(rows, columns)]


def _correlate(x: mx.array, weight: mx.array, geometry: _Geometry) -> mx.array:
    """The convolution itself: (N, H, W, C) → (N, Ho, Wo, O)."""
    if geometry.depthwise(weight):
        # Side by side the weights of a tap are multiplied by many at once, else one by one.
        wide = mx.contiguous(weight.astype(mx.float32).reshape(weight.shape[0], -1).T)
        taps = _taps(x, geometry)
        total = taps[0] * wide[0]
        for k, tap in enumerate(taps[1:], 1):
            total = total + tap * wide[k]
        return total.astype(x.dtype)
    groups = geometry.groups
    if geometry.allows_winograd and winograd.pays(x, weight, geometry.outputs):
        return winograd.correlate(x, weight, geometry.before, geometry.outputs)
    windows = _windows(x, geometry)
    if groups == 1:
        # Of a weight that is a transposed view, the matrix is made along its contiguous axis.
        y = windows @ weight.transpose(1, 2, 3, 0).reshape(windows.shape[1], -1)
        return y.reshape(x.shape[0], *geometry.outputs, -1)
    matrices = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = windows @ matrices.transpose(0, 2, 1)
    return y.transpose(1, 0, 2).reshape(x.shape[0], *geometry.outputs, -1)


@lru_cache(maxsize=256)
def _tap_of_pixels(geometry: _Geometry) -> np.ndarray:
    """(kh·kw, H·W·Ho·Wo) 0 or 1: the tap by which an output pixel sees an input pixel."""
    axes = []
    for kernel, stride, dilation, before, inputs, outputs in zip(
        geometry.kernel, geometry.stride, geometry.dilation, geometry.before, geometry.inputs,
        geometry.outputs, strict=True,
    ):  # fmt: skip
        tap, pixel, output = np.ogrid[:kernel, :inputs, :outputs]
        axes.append(pixel == stride * output + dilation * tap - before)
    both = np.einsum("ipo,jqr->ijpqor", *axes)
    return both.reshape(math.prod(geometry.kernel), -1).astype(np.float32)


def _depthwise_of_few_pixels(x: mx.array, weight: mx.array, geometry: _Geometry) -> mx.array:
    """A depthwise convolution as one matrix per channel, from input to output pixels.

    On a map of a few pixels most taps meet only padding, and the matrix is small. Its gradients
    are matrix products as well.
    """
    batch, channels = len(x), geometry.groups
    pixels, outputs = math.prod(geometry.inputs), math.prod(geometry.outputs)
    taps = weight.astype(mx.float32).reshape(channels, -1)
    matrices = (taps @ mx.array(_tap_of_pixels(geometry))).reshape(channels, pixels, outputs)
    wide = x.astype(mx.float32).reshape(batch, pixels, channels).transpose(2, 0, 1)
    y = (wide @ matrices).transpose(1, 2, 0)
    return y.reshape(batch, *geometry.outputs, channels).astype(x.dtype)


def _weight_gradient(x: mx.array, dy: mx.array, geometry: _Geometry, shape) -> mx.array:
    """The gradient of `_correlate`'s weight, of the given shape."""
    groups = geometry.groups
    if groups > 1 and shape[0] == groups and shape[3] == 1:
        wide = dy.astype(mx.float32)
        sums = [(tap * wide).sum(axis=(0, 1, 2)) for tap in _taps(x, geometry)]
        return mx.stack(sums, axis=1).reshape(shape).astype(dy.dtype)
    if groups == 1:
        return (dy.reshape(-1, shape[0]).T @ _windows(x, geometry)).reshape(shape)
    dy = dy.reshape(-1, groups, dy.shape[3] // groups).transpose(1, 2, 0)
    return (dy @ _windows(x, geometry)).reshape(shape)


def _swap_channels(weight: mx.array, groups: int) -> mx.array:
    """(O, kh, kw, C / groups) ↔ (C, kh, kw, O / groups)."""
    if groups == 1:
        return weight.transpose(3, 1, 2, 0)
    out, kh, kw, each = weight.shape
    split = weight.reshape(groups, out // groups, kh, kw, each)
    return split.transpose(0, 4, 2, 3, 1).reshape(groups * each, kh, kw, out // groups)


def _input_gradient(dy: mx.array, swapped: mx.array, geometry: _Geometry) -> mx.array:
    """The gradient of `_correlate`'s input; also a transposed convolution.

    Input pixels s·q + a of one phase a meet only the taps i ≡ a + before (mod s), each at output
    pixel q + constant − t, where t counts those taps: a stride-1 correlation with the flipped taps.

    Args:
        dy: (N, Ho, Wo, O).
        swapped: (C, kh, kw, O / groups), see `_swap_channels`.
        geometry: geometry of the convolution.
    """
    stride, dilation = geometry.stride, geometry.dilation
    if stride != (1, 1) and dilation != (1, 1):
        return _dilated_strided_input_gradient(dy, swapped, geometry)
    grid = tuple(-(-size // s) for size, s in zip(geometry.inputs, stride, strict=True))
    parts: list[mx.array | None] = []
    for phase in phases(stride):
        first, before, taps = [], [], []
        for axis in (0, 1):
            quotient, remainder = divmod(phase[axis] + geometry.before[axis], stride[axis])
            count = len(range(remainder, geometry.kernel[axis], stride[axis]))
            first.append(remainder)
            taps.append(count)
            before.append(dilation[axis] * (count - 1) - quotient)
        if 0 in taps:
            parts.append(None)
            continue
        some = swapped
        if stride != (1, 1):
            some = some[:, first[0] :: stride[0], first[1] :: stride[1]]
        if math.prod(taps) > 1:  # flipped, which of one tap would be a copy
            some = some[:, ::-1, ::-1]
        parts.append(
            _correlate(
                dy,
                some,
                _Geometry(
                    kernel=(taps[0], taps[1]),
                    stride=(1, 1),
                    dilation=dilation,
                    before=(before[0], before[1]),
                    inputs=geometry.outputs,
                    outputs=(grid[0], grid[1]),
                    groups=geometry.groups,
                ),
            )
        )
    return interleave(parts, stride, *geometry.inputs)


def _dilated_strided_input_gradient(
    dy: mx.array, swapped: mx.array, geometry: _Geometry
) -> mx.array:
    """As `_input_gradient`, where stride and dilation share no simple phases: zeros between dy."""
    (sh, sw), (ho, wo) = geometry.stride, geometry.outputs
    size = (sh * (ho - 1) + 1, sw * (wo - 1) + 1)
    stuffed = interleave([dy, *[None] * (sh * sw - 1)], geometry.stride, *size)
    dense = _Geometry(
        geometry.kernel, (1, 1), geometry.dilation, geometry.before, geometry.inputs, size,
        geometry.groups,
    )  # fmt: skip
    return _input_gradient(stuffed, swapped, dense)


@lru_cache(maxsize=1024)
def _convolution(geometry: _Geometry) -> Callable[..., Any]:
    def convolve(x: mx.array, weight: mx.array) -> mx.array:
        return _correlate(x, weight, geometry)

    def gradient(primals: list[mx.array], dy: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        x, weight = primals
        return (
            _input_gradient(dy, _swap_channels(weight, geometry.groups), geometry),
            _weight_gradient(x, dy, geometry, weight.shape),
        )

    return with_gradient(convolve, gradient)


@lru_cache(maxsize=1024)
def _transposed_convolution(geometry: _Geometry) -> Callable[..., Any]:
    """The geometry is that of the convolution that this one transposes."""

    def convolve(x: mx.array, weight: mx.array) -> mx.array:
        return _input_gradient(x, weight, geometry)

    def gradient(primals: list[mx.array], dy: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        x, weight = primals
        swapped = _swap_channels(weight, geometry.groups)
        return (
            _correlate(dy, swapped, geometry),
            _swap_channels(_weight_gradient(dy, x, geometry, swapped.shape), geometry.groups),
        )

    return with_gradient(convolve, gradient)


def _paddings(padding: Padding, sizes: Pair, kernel: Pair, stride: Pair, dilation: Pair):
    """Zeros (before, after) for each axis."""
    if padding == "same":
        pads = []
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            total = max((-(-size // s) - 1) * s + window_span(k, d) - size, 0)
            pads.append((total // 2, total - total // 2))
        return pads
    if isinstance(padding, str):
        raise ValueError(f"conv2d: padding must be numbers or 'same', not {padding!r}")
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in (rows, columns)]


@each_shard
def conv2d(
    x: mx.array,
    weight: mx.array,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    exact: bool = False,
) -> mx.array:
    """Convolution of (N, H, W, C) with (O, kh, kw, C / groups) → (N, Ho, Wo, O); see `Conv2d`.

    With `exact`, whole numbers give whole numbers on the CPU, as quantised layers need. On Metal,
    MLX itself chooses Winograd's method for large 3×3 convolutions of many channels, which rounds.
    """
    stride, dilation = pair(stride), pair(dilation)
    kernel, sizes = pair(weight.shape[1:3]), pair(x.shape[1:3])
    pads = _paddings(padding, sizes, kernel, stride, dilation)
    if x.shape[3] != weight.shape[3] * groups:
        raise ValueError(
            f"conv2d: the weight {weight.shape} with {groups} groups needs "
            f"{weight.shape[3] * groups} input channels, not {x.shape[3]}"
        )
    outputs = [
        (size + sum(p) - window_span(k, d)) // s + 1
        for size, p, k, s, d in zip(sizes, pads, kernel, stride, dilation, strict=True)
    ]
    if min(outputs) < 1:
        raise ValueError(f"conv2d: a {kernel} window does not fit into a picture of {sizes}")
    if use_mlx_kernels():
        before, after = ([p[side] for p in pads] for side in (0, 1))
        return mx.conv_general(
            x, weight, stride, (before, after), kernel_dilation=dilation, groups=groups
        )
    geometry = _Geometry(
        kernel, stride, dilation, (pads[0][0], pads[1][0]), sizes, pair(outputs), groups, exact
    )
    if geometry.depthwise(weight) and geometry.small(len(x)):
        return _depthwise_of_few_pixels(x, weight, geometry)
    return _convolution(geometry)(x, weight)


@each_shard
def conv_transpose2d(
    x: mx.array,
    weight: mx.array,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    output_padding: int | Pair = 0,
) -> mx.array:
    """Transposed convolution of (N, H, W, C) with (O, kh, kw, C); see `ConvTranspose2d`."""
    stride, dilation, before, extra = map(pair, (stride, dilation, padding, output_padding))
    # On GPUs MLX's gradient has the wrong shape where the output is padded; the value is right.
    if use_mlx_kernels() and (not any(extra) or is_plain()):
        return mx.conv_transpose2d(x, weight, stride, before, dilation, extra)
    kernel, sizes = pair(weight.shape[1:3]), pair(x.shape[1:3])
    large = [
        (size - 1) * s - 2 * p + window_span(k, d) + e
        for size, s, p, k, d, e in zip(sizes, stride, before, kernel, dilation, extra, strict=True)
    ]
    geometry = _Geometry(kernel, stride, dilation, before, pair(large), sizes, groups=1)
    return _transposed_convolution(geometry)(x, weight)


class Conv2d(nn.Module):
    """Convolution of (N, H, W, C); a drop-in for `mlx.nn.Conv2d` with its `weight` and `bias`.

    It is no subclass of that one.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: window height and width.
        stride: step between windows.
        padding: zeros at each side: one number, one per axis, ((top, bottom), (left, right)), or
            "same" as TensorFlow has it: ceil(size / stride) outputs, an odd zero goes behind.
        dilation: step between the taps of a window.
        groups: blocks of channels that see only each other; C for a depthwise convolution.
        bias: add a learnable number per output channel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: {groups} groups do not divide {in_channels} and {out_channels} channels"
            )
        kernel = pair(kernel_size)
        fan_in = in_channels // groups * kernel[0] * kernel[1]
        scale = math.sqrt(1 / fan_in)
        shape = (out_channels, *kernel, in_channels // groups)
        self.weight = mx.random.uniform(-scale, scale, shape)
        if bias:
            self.bias = mx.zeros((out_channels,))
        self.stride = pair(stride)
        self.padding = (padding, padding) if isinstance(padding, int) else padding
        self.dilation = pair(dilation)
        self.groups = groups

    def _extra_repr(self) -> str:
        return (
            f"{self.weight.shape[3] * self.groups}, {self.weight.shape[0]}, "
            f"kernel_size={self.weight.shape[1:3]}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, groups={self.groups}, bias={'bias' in self}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, C) → (N, Ho, Wo, O)."""
        y = conv2d(x, self.weight, self.stride, self.padding, self.dilation, self.groups)
        return y + self.bias if "bias" in self else y


class ConvTranspose2d(nn.Module):
    """Transposed convolution of (N, H, W, C); a drop-in for `mlx.nn.ConvTranspose2d`.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: window height and width.
        stride: step between windows in the output.
        padding: rows and columns cut off at each side of the output.
        dilation: step between the taps of a window.
        output_padding: rows and columns added behind the output.
        bias: add a learnable number per output channel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        output_padding: int | Pair = 0,
        bias: bool = True,
    ):
        super().__init__()
        kernel = pair(kernel_size)
        scale = math.sqrt(1 / (in_channels * kernel[0] * kernel[1]))
        self.weight = mx.random.uniform(-scale, scale, (out_channels, *kernel, in_channels))
        if bias:
            self.bias = mx.zeros((out_channels,))
        self.stride = pair(stride)
        self.padding = pair(padding)
        self.dilation = pair(dilation)
        self.output_padding = pair(output_padding)

    def _extra_repr(self) -> str:
        return (
            f"{self.weight.shape[3]}, {self.weight.shape[0]}, "
            f"kernel_size={self.weight.shape[1:3]}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, output_padding={self.output_padding}, bias={'bias' in self}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(N, H, W, C) → (N, Ho, Wo, O)."""
        y = conv_transpose2d(
            x, self.weight, self.stride, self.padding, self.dilation, self.output_padding
        )
        return y + self.bias if "bias" in self else y
