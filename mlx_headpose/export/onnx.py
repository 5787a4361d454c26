"""Our networks → ONNX, operation by operation from MLX's own trace.

Each of MLX's operations has an equivalent in ONNX. So one translator serves every method, and an
operation that it does not know is an error, never a guess. Images stay NHWC; ONNX's convolutions
want NCHW and are wrapped in transpositions, which runtimes cancel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError
from ..files import atomic_path
from ..methods import Estimator
from ..weights import dtype_name
from .graph import (
    LOG_BASES,
    Array,
    Batch,
    Function,
    Operation,
    Shape,
    Size,
    Writer,
    cuts,
    trace,
)
from .metadata import NO_LICENCE
from .mlxfn import metadata, pose_function, require_one_graph

OPSET = 18
IR_VERSION = 9
INSTALL = "exporting ONNX needs a package; run `pip install onnx`"
# MLX's operation → ONNX's, where arguments and meaning are the same.
SAME = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Divide": "Div",
    "Maximum": "Max",
    "Minimum": "Min",
    "Matmul": "MatMul",
    "Sigmoid": "Sigmoid",
    "Exp": "Exp",
    "Tanh": "Tanh",
    "Erf": "Erf",
    "Sin": "Sin",
    "Cos": "Cos",
    "ArcCos": "Acos",
    "ArcSin": "Asin",
    "ArcTan": "Atan",
    "Abs": "Abs",
    "Negative": "Neg",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "Round": "Round",
    "Sign": "Sign",
    "Power": "Pow",
    "Select": "Where",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Equal": "Equal",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
    "LogicalNot": "Not",
    "Contiguous": "Identity",
    "Copy": "Identity",
    "StopGradient": "Identity",
}
REDUCTIONS = {2: "ReduceSum", 3: "ReduceProd", 4: "ReduceMin", 5: "ReduceMax"}


def export_onnx(
    model: Estimator,
    path: str | Path,
    batch_size: int | None = None,
    name: str = "network",
    licence: str = NO_LICENCE,
    dtype: mx.Dtype = mx.float32,
) -> None:
    """Write a network as ONNX: uint8 images (or landmarks) in, angles and probabilities out.

    The metadata are in the file, one entry a key; what is no text is JSON.

    Args:
        model: the network; it stays as it is.
        path: file to write.
        batch_size: the only one that the file will accept; None for any.
        name: name of the network.
        licence: licence of its weights.
        dtype: in which the backbone computes, float32 or float16.

    Raises:
        InputError: onnx is not installed, an operation has no translation, or the network cannot
            be exported for any batch size or in float16.
    """
    require_one_graph(model, path)
    batch_sizes = None if batch_size is None else (batch_size,)
    about = metadata(model, batch_sizes, name, licence, dtype)
    try:
        function = pose_function(model, dtype)
        proto = translate(function, model.config.inputs.example, about["outputs"], batch_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for key, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        proto.metadata_props.add(key=key, value=text)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def translate(
    function: Function,
    example: Callable[[int], mx.array],
    output_names: list[str],
    batch_size: int | None = None,
) -> Any:
    """The ONNX model of any function of one array.

    Args:
        function: (N, ...) array → arrays.
        example: N → an input.
        output_names: a name for each of the arrays.
        batch_size: the only N of the model; None for any.

    Raises:
        InputError: onnx is not installed, or the function cannot be translated.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(INSTALL) from None
    graph = trace(function, example, batch_size)
    writer = _Nodes(graph.inputs[0].name)
    writer.constants |= graph.constants
    writer.write(graph.operations, "ONNX")
    for array, name in zip(graph.outputs, output_names, strict=True):
        writer.node("Identity", [array.name], [name])
    make = onnx.helper
    body = make.make_graph(
        [make.make_node(kind, a, b, **attributes) for kind, a, b, attributes in writer.nodes],
        "mlx_headpose",
        [_about(array, array.name) for array in graph.inputs],
        [_about(a, name) for a, name in zip(graph.outputs, output_names, strict=True)],
        [onnx.numpy_helper.from_array(v, name) for name, v in writer.constants.items()],
    )
    opset = [make.make_opsetid("", OPSET)]
    proto = make.make_model(body, opset_imports=opset, ir_version=IR_VERSION)
    onnx.checker.check_model(proto)
    return proto


class _Nodes(Writer):
    """A graph's operations as ONNX nodes.

    Args:
        batched: name of an array whose first axis is the batch.
    """

    def __init__(self, batched: str):
        super().__init__()
        self.batched = batched
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.fresh = 0
        self.batch = ""  # name of the batch size, once it is needed

    def node(
        self, kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any
    ) -> str:
        """Add a node; without `outputs` its result gets a name of its own."""
        outputs = outputs or [self.name()]
        self.nodes.append((kind, inputs, outputs, attributes))
        return outputs[0]

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = self.name()
        self.constants[name] = np.asarray(value, dtype)
        return name

    def name(self) -> str:
        self.fresh += 1
        return f"t{self.fresh}"

    # Shapes.

    def sizes(self, shape: Shape) -> str:
        """The name of a shape, computed where it holds the batch."""
        if not any(isinstance(size, Batch) for size in shape):
            return self.constant(shape)
        return self.node("Concat", [self.size(size) for size in shape], axis=0)

    def size(self, size: Size) -> str:
        if not isinstance(size, Batch):
            return self.constant([size])
        self.batch = self.batch or self.node("Shape", [self.batched], start=0, end=1)
        return self.node("Mul", [self.batch, self.constant([size.times])])

    def on_Reshape(self, op: Operation) -> None:
        shape = list(op.outputs[0].shape)
        batched = [axis for axis, size in enumerate(shape) if isinstance(size, Batch)]
        if len(batched) == 1:
            shape[batched[0]] = -1  # what is left is the batch's
        self.node("Reshape", [op.reads[0], self.sizes(tuple(shape))], op.writes)

    on_Squeeze = on_ExpandDims = on_Flatten = on_Unflatten = on_Reshape

    def on_Broadcast(self, op: Operation) -> None:
        before, shape = op.inputs[0].shape, op.outputs[0].shape
        before = (*(1,) * (len(shape) - len(before)), *before)
        # An axis that has its size already may be named as 1.
        asked = tuple(1 if a == b else b for a, b in zip(before, shape, strict=True))
        self.node("Expand", [op.reads[0], self.sizes(asked)], op.writes)

    def on_Transpose(self, op: Operation) -> None:
        self.node("Transpose", op.reads, op.writes, perm=list(op.arguments[0]))

    def on_Concatenate(self, op: Operation) -> None:
        self.node("Concat", op.reads, op.writes, axis=op.arguments[0])

    def on_Slice(self, op: Operation) -> None:
        kept = cuts(op)
        if not kept:
            self.node("Identity", op.reads, op.writes)
            return
        axes, starts, ends, steps = (self.constant(values) for values in zip(*kept, strict=True))
        self.node("Slice", [op.reads[0], starts, ends, axes, steps], op.writes)

    def on_Split(self, op: Operation) -> None:
        axis = op.arguments[1]
        sizes = self.sizes(tuple(output.shape[axis] for output in op.outputs))
        self.node("Split", [op.reads[0], sizes], op.writes, axis=axis)

    def on_Pad(self, op: Operation) -> None:
        axes, low, high = (list(a) for a in op.arguments)
        pads = self.constant([*low, *high])
        values, fill = op.reads
        self.node("Pad", [values, pads, fill, self.constant(axes)], op.writes)

    # Numbers.

    def on_AsType(self, op: Operation) -> None:
        self.node("Cast", op.reads, op.writes, to=_onnx_type(op.outputs[0].dtype))

    def on_Square(self, op: Operation) -> None:
        self.node("Mul", [op.reads[0]] * 2, op.writes)

    def on_Sqrt(self, op: Operation) -> None:
        if op.arguments[0]:  # MLX writes 1 / √x as a kind of √
            self.node("Reciprocal", [self.node("Sqrt", op.reads)], op.writes)
        else:
            self.node("Sqrt", op.reads, op.writes)

    def on_Log(self, op: Operation) -> None:
        base = LOG_BASES[op.arguments[0]]
        if base is None:
            self.node("Log", op.reads, op.writes)
            return
        scale = self.constant(math.log(base), _numpy_type(op.outputs[0]))
        self.node("Div", [self.node("Log", op.reads), scale], op.writes)

    def on_ArcTan2(self, op: Operation) -> None:
        """atan(y / x), and ±π where x is negative: ONNX has no arctangent of two numbers."""
        y, x = op.reads
        zero, pi = (self.constant(v, _numpy_type(op.outputs[0])) for v in (0.0, np.pi))
        half = self.node("Atan", [self.node("Div", [y, x])])
        y_negative = self.node("Less", [y, zero])
        turn = self.node("Where", [y_negative, self.node("Neg", [pi]), pi])
        behind = self.node("Add", [half, turn])
        angle = self.node("Where", [self.node("Less", [x, zero]), behind, half])
        # 0 / 0 where both are zero.
        none = self.node("And", [self.node("Equal", [x, zero]), self.node("Equal", [y, zero])])
        self.node("Where", [none, zero, angle], op.writes)

    def on_Reduce(self, op: Operation) -> None:
        kind, axes = op.arguments
        if kind not in REDUCTIONS:
            self.unknown.add(f"Reduce {kind}")
            return
        names = [op.reads[0], self.constant(axes)]
        self.node(REDUCTIONS[kind], names, op.writes, keepdims=1)

    def on_ArgReduce(self, op: Operation) -> None:
        kind, axis = op.arguments[:2]
        index = self.node("ArgMin" if kind == 0 else "ArgMax", op.reads, axis=axis, keepdims=1)
        self.node("Cast", [index], op.writes, to=_onnx_type(op.outputs[0].dtype))

    def on_Softmax(self, op: Operation) -> None:
        self.node("Softmax", op.reads, op.writes, axis=-1)

    def on_AddMM(self, op: Operation) -> None:
        one, other, addend = op.reads
        product = self.node("MatMul", [one, other])
        alpha, beta = op.arguments
        dtype = _numpy_type(op.outputs[0])
        if alpha != 1.0:
            product = self.node("Mul", [product, self.constant(alpha, dtype)])
        if beta != 1.0:
            addend = self.node("Mul", [addend, self.constant(beta, dtype)])
        self.node("Add", [product, addend], op.writes)

    def on_MaxPool(self, op: Operation) -> None:
        kernel, stride, low, high = op.arguments
        x = self.node("Transpose", op.reads, perm=[0, 3, 1, 2])
        sizes = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*low, *high]}
        self.node("Transpose", [self.node("MaxPool", [x], **sizes)], op.writes, perm=[0, 2, 3, 1])

    def on_Convolution(self, op: Operation) -> None:
        stride, low, high, dilation, input_dilation, groups, flip = op.arguments
        # Of images or, with one axis less, of sequences.
        axes = list(range(len(op.outputs[0].shape)))
        first, last = [0, axes[-1], *axes[1:-1]], [0, *axes[2:], 1]
        values, weight = op.reads
        x = self.node("Transpose", [values], perm=first)
        if flip or any(step != 1 for step in input_dilation):
            y = self.transposed_convolution(x, op)
        else:
            weight = self.node("Transpose", [weight], perm=first)
            y = self.node(
                "Conv",
                [x, weight],
                strides=list(stride),
                pads=[*low, *high],
                dilations=list(dilation),
                group=groups,
            )
        self.node("Transpose", [y], op.writes, perm=last)

    def transposed_convolution(self, x: str, op: Operation) -> str:
        stride, low, high, dilation, input_dilation, groups, flip = op.arguments
        shape: Any = op.inputs[1].shape
        if groups != 1 or not flip or any(step != 1 for step in stride) or len(shape) != 4:
            self.unknown.add("Convolution with input dilation")
            return x
        spans = [d * (k - 1) for d, k in zip(dilation, shape[1:3], strict=True)]
        before = [span - pad for span, pad in zip(spans, low, strict=True)]
        after = [span - pad for span, pad in zip(spans, high, strict=True)]
        return self.node(
            "ConvTranspose",
            [x, self.node("Transpose", op.reads[1:], perm=[3, 0, 1, 2])],
            strides=list(input_dilation),
            pads=[max(p, 0) for p in (*before, *after)],
            output_padding=[max(-p, 0) for p in after],
            dilations=list(dilation),
        )


def _same(kind: str) -> Callable[[_Nodes, Operation], None]:
    def write(nodes: _Nodes, op: Operation) -> None:
        nodes.node(kind, op.reads, op.writes)

    return write


for _name, _kind in SAME.items():
    setattr(_Nodes, f"on_{_name}", _same(_kind))


def _about(array: Array, name: str) -> Any:
    """What the model says of an input or output."""
    from onnx.helper import make_tensor_value_info

    sizes = [
        ("batch" if size.times == 1 else f"{size.times}*batch") if isinstance(size, Batch) else size
        for size in array.shape
    ]
    return make_tensor_value_info(name, _onnx_type(array.dtype), sizes)


def _numpy_type(array: Array) -> Any:
    return np.float16 if array.dtype == mx.float16 else np.float32


def _onnx_type(dtype: mx.Dtype) -> int:
    """The number of one of MLX's types in ONNX."""
    from onnx import TensorProto

    name = dtype_name(dtype)
    number = {"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())
    return TensorProto.DataType.Value(number)
