"""Computes a saved Core ML package with PyTorch, from its protobuf and its weights file alone.

It stands in for Apple's runtime, which is on Apple's systems only. Every operation is computed in
float32 and rounded to the type that the package declares for its result.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

SENTINEL = 0xDEADBEEF
# By the numbers of MIL.proto's DataType.
TYPES = {1: np.bool_, 10: np.float16, 11: np.float32, 22: np.int8, 23: np.int32, 32: np.uint8}
# By the numbers of the blob file's own types.
BLOB_TYPES = {1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8}
CASTS = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}


def blob(content: bytes, offset: int) -> np.ndarray:
    """One of the arrays in weight.bin, whose header lies at an offset.

    The header's 64 bytes begin with a mark, the type, the size in bytes and where the values lie.
    """
    mark, kind, size, start = struct.unpack_from("<IIQQ", content, offset)
    assert mark == SENTINEL
    return np.frombuffer(content[start : start + size], BLOB_TYPES[kind])


class Package:
    """A `.mlpackage`.

    Attributes:
        inputs: name → feature type, of Core ML's model description.
        metadata: its user-defined metadata.
    """

    def __init__(self, path: Path):
        from coremltools.models.utils import load_spec

        self.spec = load_spec(str(path))
        self.content = b""
        for file in path.rglob("weight.bin"):
            self.content = file.read_bytes()
        self.inputs = {f.name: f.type for f in self.spec.description.input}
        self.metadata = dict(self.spec.description.metadata.userDefined)
        function = self.spec.mlProgram.functions["main"]
        (self.block,) = function.block_specializations.values()

    def operations(self) -> list[str]:
        """Types of all operations but constants."""
        return [op.type for op in self.block.operations if op.type != "const"]

    def __call__(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Name → output, for one (H, W, 3) uint8 RGB image or (L, 3) landmarks."""
        ((name, kind),) = self.inputs.items()
        if kind.WhichOneof("Type") == "imageType":
            assert (kind.imageType.height, kind.imageType.width) == values.shape[:2]
            assert kind.imageType.colorSpace == kind.imageType.RGB
            values = values.transpose(2, 0, 1)
        known = {name: torch.from_numpy(values.astype(np.float32))[None]}
        for op in self.block.operations:
            self.compute(op, known)
        return {name: known[name].numpy() for name in self.block.outputs}

    def compute(self, op: Any, known: dict[str, Any]) -> None:
        """One operation; its results join what is known."""
        if op.type == "const":
            known[op.outputs[0].name] = self.constant(op.attributes["val"])
            return
        given: dict[str, Any] = {}
        for key, argument in op.inputs.items():
            found = [
                known[a.name] if a.WhichOneof("binding") == "name" else self.constant(a.value)
                for a in argument.arguments
            ]
            given[key] = found if key == "values" else found[0]
        wide = {key: widened(value) for key, value in given.items()}
        results = OPERATIONS[op.type](**wide)
        if not isinstance(results, list | tuple):
            results = [results]
        for output, result in zip(op.outputs, results, strict=True):
            declared = output.type.tensorType
            shape = [dim.constant.size for dim in declared.dimensions]
            assert list(result.shape) == shape, (op.type, list(result.shape), shape)
            dtype = torch.from_numpy(np.empty(0, TYPES[declared.dataType])).dtype
            known[output.name] = result.to(dtype)

    def constant(self, value: Any) -> Any:
        """A constant: text as it is, numbers as a tensor."""
        declared = value.type.tensorType
        shape = [dim.constant.size for dim in declared.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            flat = blob(self.content, value.blobFileValue.offset)
        else:
            tensor = value.immediateValue.tensor
            kind = tensor.WhichOneof("value")
            held = getattr(tensor, kind).values
            if kind == "strings":
                return held[0]
            dtype = TYPES[declared.dataType]
            flat = np.frombuffer(held, dtype) if kind == "bytes" else np.array(held, dtype)
        return torch.from_numpy(flat.reshape(shape).copy())


def widened(value: Any) -> Any:
    """Numbers in half precision as float32."""
    if isinstance(value, list):
        return [widened(one) for one in value]
    half = isinstance(value, torch.Tensor) and value.dtype == torch.float16
    return value.float() if half else value


def slice_by_index(
    x: Any,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Any:
    """NumPy's slices, with masks for "from the first" and "to the last"."""
    rank = x.ndim
    steps = [1] * rank if stride is None else stride.tolist()
    nothing = [False] * rank
    from_first = nothing if begin_mask is None else begin_mask.tolist()
    to_last = nothing if end_mask is None else end_mask.tolist()
    taken = nothing if squeeze_mask is None else squeeze_mask.tolist()
    parts: list[Any] = []
    for axis in range(rank):
        start, stop = int(begin[axis]), int(end[axis])
        if taken[axis]:
            parts.append(start)
            continue
        parts.append(
            slice(None if from_first[axis] else start, None if to_last[axis] else stop, steps[axis])
        )
    return torch.from_numpy(x.numpy()[tuple(parts)].copy())


def padded(x: Any, pad: Any, value: float) -> Any:
    """The last axes of an array with more elements around them, MIL's order of pads."""
    pairs = pad.reshape(-1, 2).tolist()
    return F.pad(x, [n for pair in pairs[::-1] for n in pair], value=value)


def conv(
    x: Any,
    weight: Any,
    strides: Any,
    pad_type: str,
    pad: Any,
    dilations: Any,
    groups: Any,
    bias: Any = None,
) -> Any:
    """A convolution of sequences or images, channels first."""
    if pad_type != "valid":
        assert pad_type == "custom"
        x = padded(x, pad, 0.0)
    function = F.conv1d if x.ndim == 3 else F.conv2d
    return function(x, weight, bias, strides.tolist(), 0, dilations.tolist(), int(groups))


def conv_transpose(
    x: Any,
    weight: Any,
    strides: Any,
    pad_type: str,
    pad: Any,
    dilations: Any,
    groups: Any,
    bias: Any = None,
    output_shape: Any = None,
) -> Any:
    """A transposed convolution, cropped by its pads."""
    y = F.conv_transpose2d(x, weight, bias, strides.tolist(), 0, 0, int(groups), dilations.tolist())
    if pad_type == "custom":
        top, bottom, left, right = pad.tolist()
        y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]
    return y


def max_pool(
    x: Any, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any = False
) -> Any:
    """Of images, channels first."""
    assert not bool(ceil_mode)
    x = padded(x, pad, -np.inf) if pad_type == "custom" else x
    return F.max_pool2d(x, kernel_sizes.tolist(), strides.tolist())


def reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over axes."""

    def reduce(x: Any, axes: Any, keep_dims: Any) -> Any:
        return function(x, tuple(axes.tolist()), keepdim=bool(keep_dims))

    return reduce


def product(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def gelu(x: Any, mode: str) -> Any:
    assert mode == "EXACT"
    return F.gelu(x)


def layer_norm(x: Any, axes: Any, epsilon: Any, gamma: Any = None, beta: Any = None) -> Any:
    assert axes.tolist() in ([-1], [x.ndim - 1])
    return F.layer_norm(x, x.shape[-1:], gamma, beta, float(epsilon))


def batch_norm(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, float(epsilon))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "cast": lambda x, dtype: x.to(torch.from_numpy(np.empty(0, CASTS[dtype])).dtype),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y,
    "maximum": lambda x, y: torch.where((x > y) | x.isnan(), x, y),
    "minimum": lambda x, y: torch.where((x < y) | x.isnan(), x, y),
    "pow": lambda x, y: x**y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "equal": lambda x, y: x == y,
    "logical_and": lambda x, y: x & y,
    "logical_or": lambda x, y: x | y,
    "logical_not": lambda x: x.logical_not(),
    "select": lambda **given: torch.where(given["cond"], given["a"], given["b"]),
    "relu": lambda x: x.relu(),
    "relu6": lambda x: x.clip(0, 6),
    "clip": lambda x, alpha, beta: x.clip(float(alpha), float(beta)),
    "gelu": gelu,
    "silu": lambda x: x * x.sigmoid(),
    "sigmoid": lambda x: x.sigmoid(),
    "softmax": lambda x, axis: torch.softmax(x, int(axis)),
    "exp": lambda x: x.exp(),
    "log": lambda x, epsilon: torch.log(x + epsilon),
    "tanh": lambda x: x.tanh(),
    "erf": lambda x: x.erf(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "acos": lambda x: x.acos(),
    "asin": lambda x: x.asin(),
    "atan": lambda x: x.atan(),
    "abs": lambda x: x.abs(),
    "floor": lambda x: x.floor(),
    "ceil": lambda x: x.ceil(),
    "round": lambda x: x.round(),
    "sign": lambda x: x.sign(),
    "square": lambda x: x.square(),
    "sqrt": lambda x: x.sqrt(),
    "rsqrt": lambda x, epsilon: torch.rsqrt(x + epsilon),
    "reduce_sum": reduced(torch.sum),
    "reduce_mean": reduced(torch.mean),
    "reduce_max": reduced(torch.amax),
    "reduce_min": reduced(torch.amin),
    "reduce_prod": reduced(product),
    "reduce_argmax": lambda x, axis, keep_dims: torch.argmax(x, int(axis), bool(keep_dims)),
    "reduce_argmin": lambda x, axis, keep_dims: torch.argmin(x, int(axis), bool(keep_dims)),
    "reshape": lambda x, shape: x.reshape(shape.tolist()),
    "squeeze": lambda x, axes: x.squeeze(tuple(axes.tolist())),
    "expand_dims": lambda x, axes: torch.from_numpy(np.expand_dims(x.numpy(), axes.tolist())),
    "transpose": lambda x, perm: x.permute(perm.tolist()),
    "tile": lambda x, reps: x.tile(reps.tolist()),
    "reverse": lambda x, axes: x.flip(axes.tolist()),
    "concat": lambda values, axis, interleave: torch.cat(values, int(axis)),
    "split": lambda x, axis, split_sizes: x.split(split_sizes.tolist(), int(axis)),
    "slice_by_index": slice_by_index,
    "pad": lambda x, pad, mode, constant_val: padded(x, pad, float(constant_val)),
    "matmul": lambda x, y, transpose_x, transpose_y: (
        (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)
    ),
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "conv": conv,
    "conv_transpose": conv_transpose,
    "max_pool": max_pool,
    "layer_norm": layer_norm,
    "batch_norm": batch_norm,
}
