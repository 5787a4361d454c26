"""MLX's trace of any function, computed by PyTorch in float64.

MLX hands over the operations of a function; each has an equivalent in PyTorch, which computes it in
double precision and differentiates it. So values and gradients come from PyTorch's arithmetic and
PyTorch's derivatives, and only the list of operations is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np
import torch
from torch.nn import functional

from mlx_headpose.nn import plain_operations

Tensor = torch.Tensor
UNARY = {
    "Abs": torch.abs,
    "ArcCos": torch.arccos,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "LogicalNot": torch.logical_not,
    "Negative": torch.neg,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Square": torch.square,
    "Tanh": torch.tanh,
    "Copy": lambda x: x,
    "Contiguous": lambda x: x,
    # What `trace` writes for stop_gradient, which MLX leaves out of its traces.
    "ErfInv": torch.detach,
}
BINARY = {
    "Add": torch.add,
    "ArcTan2": torch.arctan2,
    "Divide": torch.div,
    "Equal": torch.eq,
    "FloorDivide": torch.floor_divide,
    "Greater": torch.gt,
    "GreaterEqual": torch.ge,
    "Less": torch.lt,
    "LessEqual": torch.le,
    "LogAddExp": torch.logaddexp,
    "LogicalAnd": torch.logical_and,
    "LogicalOr": torch.logical_or,
    "Matmul": torch.matmul,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
    "Multiply": torch.mul,
    "NotEqual": torch.ne,
    "Power": torch.pow,
    "Remainder": torch.remainder,
    "Subtract": torch.sub,
}
BITWISE = (torch.bitwise_and, torch.bitwise_or, torch.bitwise_xor)
REDUCTIONS = (torch.all, torch.any, torch.sum, torch.prod, torch.amin, torch.amax)


class Graph:
    """The operations of a function of arrays.

    Args:
        function: arrays → list of arrays.
        examples: arrays of the shapes that it takes.
    """

    def __init__(self, function: Callable[..., list[mx.array]], *examples: mx.array):
        self.operations: list[dict[str, Any]] = []
        self.constants: dict[str, Tensor] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        with (
            plain_operations(),
            mx.stream(mx.cpu),
            mock.patch.object(mx, "stop_gradient", mx.erfinv),
        ):
            mx.export_function(self._receive, function, *examples)

    def _receive(self, part: dict[str, Any]) -> None:
        kind = part["type"]
        if kind == "inputs":
            self.inputs = [entry[0] for entry in part["inputs"]]
        elif kind == "outputs":
            self.outputs = [entry[0] for entry in part["outputs"]]
        elif kind == "constants":
            self.constants = {name: in_float64(np.array(v)) for name, v in part["constants"]}
        elif kind == "primitive":
            self.operations.append(part)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs for inputs in float64."""
        known = {**self.constants, **dict(zip(self.inputs, inputs, strict=True))}
        for part in self.operations:
            arguments = [known[entry[0]] for entry in part["inputs"]]
            results = _result(part, arguments)
            for entry, result in zip(part["outputs"], results, strict=True):
                if tuple(result.shape) != tuple(entry[1]):
                    raise AssertionError(f"{part['name']}: {tuple(result.shape)}, MLX {entry[1]}")
                known[entry[0]] = result
        return [known[name] for name in self.outputs]


def in_float64(array: np.ndarray) -> Tensor:
    """An array for PyTorch, floats in double precision."""
    if array.dtype.kind == "f":
        return torch.from_numpy(np.array(array, np.float64))
    return torch.from_numpy(np.array(array, bool if array.dtype.kind == "b" else np.int64))


def _result(part: dict[str, Any], inputs: list[Tensor]) -> list[Tensor]:
    name, arguments, outputs = part["name"], part["arguments"], part["outputs"]
    if name in ("Split",):
        return list(torch.tensor_split(inputs[0], [int(i) for i in arguments[0]], arguments[1]))
    shape = tuple(outputs[0][1])
    if name in UNARY:
        return [UNARY[name](inputs[0])]
    if name in BINARY:
        return [BINARY[name](*inputs)]
    return [_special(name, arguments, inputs, shape, outputs[0][2])]


def _special(
    name: str, arguments: list[Any], inputs: list[Tensor], shape: tuple[int, ...], dtype: Any
) -> Tensor:
    x = inputs[0] if inputs else torch.zeros(())
    if name in ("Reshape", "Squeeze", "ExpandDims", "Flatten", "Unflatten"):
        return x.reshape(shape)
    if name == "Broadcast":
        return x.broadcast_to(shape)
    if name == "Full":
        return x.broadcast_to(shape)
    if name == "Transpose":
        return x.permute(*arguments[0])
    if name == "Concatenate":
        return torch.cat(inputs, arguments[0])
    if name == "Slice":
        starts, ends, steps = arguments
        for axis, (start, end, step) in enumerate(zip(starts, ends, steps, strict=True)):
            picked = torch.arange(start, end if end >= 0 else -1, step)
            x = x.index_select(axis, picked)
        return x
    if name == "Pad":
        axes, low, high = arguments
        sides = [0] * (2 * x.ndim)
        for axis, before, after in zip(axes, low, high, strict=True):
            sides[2 * (x.ndim - 1 - axis) : 2 * (x.ndim - axis)] = [before, after]
        return functional.pad(x, sides, value=float(inputs[1]))
    if name == "AsType":
        if mx.issubdtype(dtype, mx.floating):
            return x.to(torch.float64)
        return x.to(torch.bool if dtype == mx.bool_ else torch.int64)
    if name == "Arange":
        kind = torch.float64 if mx.issubdtype(dtype, mx.floating) else torch.int64
        return torch.arange(*arguments).to(kind)
    if name == "Sqrt":
        return torch.rsqrt(x) if arguments[0] else torch.sqrt(x)
    if name == "Select":
        return torch.where(*inputs)
    if name == "BitwiseBinary":
        return BITWISE[arguments[0]](*inputs)
    if name == "Reduce":
        return _reduce(x, *arguments)
    if name == "ArgReduce":
        return (torch.argmin, torch.argmax)[arguments[0]](x, arguments[1], keepdim=True)
    if name == "GatherAxis":
        return torch.gather(x, arguments[0], inputs[1].to(torch.int64))
    if name == "LogSumExp":
        return torch.logsumexp(x, -1, keepdim=True)
    if name == "Softmax":
        return torch.softmax(x, -1)
    if name == "AddMM":
        alpha, beta = arguments
        return alpha * (inputs[0] @ inputs[1]) + beta * inputs[2]
    if name == "Convolution":
        return _convolution(inputs[0], inputs[1], arguments)
    raise NotImplementedError(f"{name} {arguments}")


def _reduce(x: Tensor, kind: int, axes: list[int]) -> Tensor:
    reduction = REDUCTIONS[kind]
    if reduction in (torch.sum, torch.amin, torch.amax):
        return reduction(x, dim=tuple(axes), keepdim=True)
    for axis in axes:
        x = reduction(x, dim=axis, keepdim=True)
    return x


def _convolution(x: Tensor, weight: Tensor, arguments: list[Any]) -> Tensor:
    stride, low, high, dilation, input_dilation, groups, flip = arguments
    if x.ndim == 3:  # of sequences: images one pixel high
        sides = ([1, *stride], [0, *low], [0, *high], [1, *dilation], [1, *input_dilation])
        wide = [x[:, None], weight[:, None], [*sides, groups, flip]]
        return _convolution(*wide)[:, 0]
    x, weight = x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2)
    if flip:
        weight = weight.flip(2, 3)
    if any(step != 1 for step in input_dilation):
        rows, columns = input_dilation
        height, width = (x.shape[2] - 1) * rows + 1, (x.shape[3] - 1) * columns + 1
        wide = x.new_zeros(*x.shape[:2], height, width)
        wide[:, :, ::rows, ::columns] = x
        x = wide
    x = functional.pad(x, (low[1], high[1], low[0], high[0]))
    if groups > 1 and weight.shape[1] == 1 and tuple(dilation) == (1, 1):
        # PyTorch's own takes minutes in float64, one channel after the other.
        (kh, kw), (sh, sw) = weight.shape[2:], stride
        windows = x.unfold(2, kh, sh).unfold(3, kw, sw)
        y = torch.einsum("nchwij,cij->nchw", windows, weight[:, 0])
    else:
        y = functional.conv2d(x, weight, None, tuple(stride), 0, tuple(dilation), groups)
    return y.permute(0, 2, 3, 1)
