"""MLX's operations → MIL's, the operations of Core ML's ML programs.

MIL is coremltools' Model Intermediate Language
(https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from ..weights import dtype_name
from .graph import LOG_BASES, Operation, Writer, cuts

# MLX's operation → MIL's, where arguments and meaning are the same.
UNARY = {
    "Sigmoid": "sigmoid",
    "Exp": "exp",
    "Tanh": "tanh",
    "Erf": "erf",
    "Sin": "sin",
    "Cos": "cos",
    "ArcCos": "acos",
    "ArcSin": "asin",
    "ArcTan": "atan",
    "Abs": "abs",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Square": "square",
    "LogicalNot": "logical_not",
}
BINARY = {
    "Add": "add",
    "Subtract": "sub",
    "Multiply": "mul",
    "Divide": "real_div",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Power": "pow",
    "Less": "less",
    "LessEqual": "less_equal",
    "Greater": "greater",
    "GreaterEqual": "greater_equal",
    "Equal": "equal",
    "LogicalAnd": "logical_and",
    "LogicalOr": "logical_or",
}
REDUCTIONS = {2: "reduce_sum", 3: "reduce_prod", 4: "reduce_min", 5: "reduce_max"}


class MILWriter(Writer):
    """A graph's operations as MIL's.

    Attributes:
        values: name → variable of the program, or NumPy array of what is known already.

    Args:
        builder: coremltools' `Builder`, within the function that is written.
        constants: the graph's.
    """

    def __init__(self, builder: Any, constants: dict[str, np.ndarray]):
        super().__init__()
        self.mb = builder
        self.values: dict[str, Any] = {name: _narrow(value) for name, value in constants.items()}

    def given(self, op: Operation) -> list[Any]:
        return [self.values[name] for name in op.reads]

    def result(self, op: Operation, value: Any) -> None:
        """Take a variable, or its value where coremltools has computed it, for an output."""
        known = getattr(value, "val", None)
        self.values[op.writes[0]] = value if known is None else known

    # Shapes.

    def on_Reshape(self, op: Operation) -> None:
        self.result(op, self.reshape(self.values[op.reads[0]], op.outputs[0].shape))

    on_Squeeze = on_ExpandDims = on_Flatten = on_Unflatten = on_Reshape

    def reshape(self, value: Any, shape: Any) -> Any:
        return self.mb.reshape(x=value, shape=np.int32(shape))

    def on_Broadcast(self, op: Operation) -> None:
        (value,), (source,), (output,) = self.given(op), op.inputs, op.outputs
        shape: Any = output.shape
        before: Any = (*(1,) * (len(shape) - len(source.shape)), *source.shape)
        if before != source.shape:
            value = self.reshape(value, before)
        reps = [b // a for a, b in zip(before, shape, strict=True)]
        self.result(op, self.mb.tile(x=value, reps=reps))

    def on_Transpose(self, op: Operation) -> None:
        self.result(op, self.mb.transpose(x=self.values[op.reads[0]], perm=list(op.arguments[0])))

    def on_Concatenate(self, op: Operation) -> None:
        self.result(op, self.mb.concat(values=self.given(op), axis=op.arguments[0]))

    def on_Slice(self, op: Operation) -> None:
        value: Any = self.values[op.reads[0]]
        source: Any = op.inputs[0].shape
        kept = {axis: cut for axis, *cut in cuts(op)}
        turned = [
            axis for axis, cut in kept.items() if cut == [source[axis] - 1, -source[axis] - 1, -1]
        ]
        if turned:
            value = self.mb.reverse(x=value, axes=turned)
        kept = {axis: cut for axis, cut in kept.items() if axis not in turned}
        if kept:
            whole: Any = [kept.get(axis, [0, size, 1]) for axis, size in enumerate(source)]
            begin, end, stride = map(list, zip(*whole, strict=True))
            # Backwards to before the first element, which a number cannot say.
            mask = [step < 0 and stop < 0 for _, stop, step in whole]
            value = self.mb.slice_by_index(
                x=value, begin=begin, end=end, stride=stride, end_mask=mask
            )
        self.result(op, value)

    def on_Split(self, op: Operation) -> None:
        axis = op.arguments[1]
        sizes = [output.shape[axis] for output in op.outputs]
        pieces = self.mb.split(x=self.values[op.reads[0]], split_sizes=sizes, axis=axis)
        self.values |= dict(zip(op.writes, pieces, strict=True))

    def on_Pad(self, op: Operation) -> None:
        value, fill = self.given(op)
        around = {axis: sides for axis, *sides in zip(*op.arguments, strict=True)}
        pads = [n for axis in range(len(op.inputs[0].shape)) for n in around.get(axis, (0, 0))]
        fill = self.same_type(np.asarray(fill).item(), op)
        self.result(op, self.mb.pad(x=value, pad=pads, mode="constant", constant_val=fill))

    def on_Contiguous(self, op: Operation) -> None:
        self.result(op, self.values[op.reads[0]])

    on_Copy = on_StopGradient = on_Contiguous

    # Numbers.

    def same_type(self, value: Any, op: Operation) -> Any:
        """A constant of the type of an operation's output."""
        return np.float16(value) if op.outputs[0].dtype == mx.float16 else np.float32(value)

    def on_AsType(self, op: Operation) -> None:
        value, wanted = self.values[op.reads[0]], op.outputs[0].dtype
        if isinstance(value, np.ndarray | np.generic):
            value = value.astype(dtype_name(wanted))
        elif not (op.inputs[0].dtype == mx.uint8 and wanted == mx.float32):  # an image's pixels
            name = {mx.float32: "fp32", mx.float16: "fp16", mx.bool_: "bool"}.get(wanted, "int32")
            value = self.mb.cast(x=value, dtype=name)
        self.result(op, value)

    def on_Negative(self, op: Operation) -> None:
        self.result(op, self.mb.mul(x=self.values[op.reads[0]], y=self.same_type(-1, op)))

    def on_Log(self, op: Operation) -> None:
        value = self.mb.log(x=self.values[op.reads[0]], epsilon=self.same_type(0, op))
        base = LOG_BASES[op.arguments[0]]
        if base is not None:
            value = self.mb.real_div(x=value, y=self.same_type(math.log(base), op))
        self.result(op, value)

    def on_Sqrt(self, op: Operation) -> None:
        root = self.mb.sqrt(x=self.values[op.reads[0]])
        if op.arguments[0]:  # MLX writes 1 / √x as a kind of √
            root = self.mb.real_div(x=self.same_type(1, op), y=root)
        self.result(op, root)

    def select(self, condition: Any, yes: Any, no: Any, shape: Any) -> Any:
        """One or the other; constants get the result's shape, which MIL takes from these two."""
        yes, no = (
            np.broadcast_to(value, shape).copy()
            if isinstance(value, np.generic | np.ndarray)
            else value
            for value in (yes, no)
        )
        return self.mb.select(cond=condition, a=yes, b=no)

    def on_Select(self, op: Operation) -> None:
        condition, yes, no = self.given(op)
        self.result(op, self.select(condition, yes, no, op.outputs[0].shape))

    def on_ArcTan2(self, op: Operation) -> None:
        """atan(y / x), and ±π where x is negative: MIL has no arctangent of two numbers."""
        (y, x), mb, shape = self.given(op), self.mb, op.outputs[0].shape
        zero, one, pi = (self.same_type(value, op) for value in (0, 1, np.pi))
        # y / x of 0 / 0 would not be a number.
        none = mb.logical_and(x=mb.equal(x=x, y=zero), y=mb.equal(x=y, y=zero))
        half = mb.atan(x=mb.real_div(x=y, y=self.select(none, one, x, shape)))
        turn = self.select(mb.less(x=y, y=zero), -pi, pi, shape)
        behind = mb.less(x=x, y=zero)
        self.result(op, mb.select(cond=behind, a=mb.add(x=half, y=turn), b=half))

    def on_Reduce(self, op: Operation) -> None:
        kind, axes = op.arguments
        if kind not in REDUCTIONS:
            self.unknown.add(f"Reduce {kind}")
            return
        reduce = getattr(self.mb, REDUCTIONS[kind])
        self.result(op, reduce(x=self.values[op.reads[0]], axes=list(axes), keep_dims=True))

    def on_ArgReduce(self, op: Operation) -> None:
        kind, axis = op.arguments[:2]
        reduce = self.mb.reduce_argmin if kind == 0 else self.mb.reduce_argmax
        self.result(op, reduce(x=self.values[op.reads[0]], axis=axis, keep_dims=True))

    def on_Softmax(self, op: Operation) -> None:
        self.result(op, self.mb.softmax(x=self.values[op.reads[0]], axis=-1))

    def on_Matmul(self, op: Operation) -> None:
        self.result(op, self.product(*self.given(op)))

    def product(self, x: Any, y: Any, bias: Any = None) -> Any:
        """A product of matrices, as a linear layer where the second is known."""
        if isinstance(y, np.ndarray) and y.ndim == 2:
            extra = {} if bias is None else {"bias": bias}
            return self.mb.linear(x=x, weight=np.ascontiguousarray(y.T), **extra)
        return self.mb.matmul(x=x, y=y)

    def on_AddMM(self, op: Operation) -> None:
        x, y, addend = self.given(op)
        alpha, beta = op.arguments
        width = op.outputs[0].shape[-1]
        plain = alpha == beta == 1.0 and isinstance(y, np.ndarray)
        if plain and isinstance(addend, np.ndarray) and addend.size == width:
            self.result(op, self.product(x, y, addend.reshape(-1)))
            return
        value = self.product(x, y)
        if alpha != 1.0:
            value = self.mb.mul(x=value, y=self.same_type(alpha, op))
        if beta != 1.0:
            addend = self.mb.mul(x=addend, y=self.same_type(beta, op))
        self.result(op, self.mb.add(x=value, y=addend))

    def channels_first(self, value: Any) -> Any:
        """Of images or, with one axis less, of sequences."""
        rank = len(value.shape)
        perm = [0, rank - 1, *range(1, rank - 1)]
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value.transpose(perm))
        return self.mb.transpose(x=value, perm=perm)

    def channels_last(self, value: Any) -> Any:
        return self.mb.transpose(x=value, perm=[0, *range(2, len(value.shape)), 1])

    def on_MaxPool(self, op: Operation) -> None:
        kernel, stride, low, high = op.arguments
        y = self.mb.max_pool(
            x=self.channels_first(self.values[op.reads[0]]),
            kernel_sizes=list(kernel),
            strides=list(stride),
            pad_type="custom",
            pad=_pairs(low, high),
        )
        self.result(op, self.channels_last(y))

    def on_Convolution(self, op: Operation) -> None:
        stride, low, high, dilation, input_dilation, groups, flip = op.arguments
        value, weight = self.given(op)
        x = self.channels_first(value)
        if flip or any(step != 1 for step in input_dilation):
            y = self.transposed_convolution(x, weight, op)
        else:
            y = self.mb.conv(
                x=x,
                weight=self.channels_first(weight),
                strides=list(stride),
                pad_type="custom",
                pad=_pairs(low, high),
                dilations=list(dilation),
                groups=groups,
            )
        self.result(op, self.channels_last(y))

    def transposed_convolution(self, x: Any, weight: Any, op: Operation) -> Any:
        stride, low, high, dilation, input_dilation, groups, flip = op.arguments
        if groups != 1 or not flip or any(s != 1 for s in stride) or weight.ndim != 4:
            self.unknown.add("Convolution with input dilation")
            return x
        spans = [d * (k - 1) for d, k in zip(dilation, weight.shape[1:3], strict=True)]
        before = [span - pad for span, pad in zip(spans, low, strict=True)]
        after = [span - pad for span, pad in zip(spans, high, strict=True)]
        full = self.mb.conv_transpose(
            x=x,
            weight=np.ascontiguousarray(weight.transpose(3, 0, 1, 2)),
            strides=list(input_dilation),
            dilations=list(dilation),
            pad_type="custom",
            pad=_pairs([max(p, 0) for p in before], [max(p, 0) for p in after]),
        )
        more = [max(-p, 0) for p in after]
        return self.mb.pad(x=full, pad=_pairs([0, 0], more)) if any(more) else full


def _unary(kind: str) -> Callable[[MILWriter, Operation], None]:
    def write(program: MILWriter, op: Operation) -> None:
        program.result(op, getattr(program.mb, kind)(x=program.values[op.reads[0]]))

    return write


def _binary(kind: str) -> Callable[[MILWriter, Operation], None]:
    def write(program: MILWriter, op: Operation) -> None:
        x, y = program.given(op)
        program.result(op, getattr(program.mb, kind)(x=x, y=y))

    return write


for _name, _kind in UNARY.items():
    setattr(MILWriter, f"on_{_name}", _unary(_kind))
for _name, _kind in BINARY.items():
    setattr(MILWriter, f"on_{_name}", _binary(_kind))


def _pairs(low: Any, high: Any) -> list[int]:
    """What MIL calls a pad: before and after of one axis, then of the next."""
    return [n for pair in zip(low, high, strict=True) for n in pair]


def _narrow(value: np.ndarray) -> np.ndarray:
    """A constant in a type that MIL has."""
    return value.astype(np.int32) if value.dtype in (np.int64, np.uint32) else value
