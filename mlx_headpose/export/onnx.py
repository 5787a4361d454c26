"""Our networks → ONNX, operation by operation from MLX's own trace.

MLX hands over the traced graph of any function; each of its operations has an equivalent in ONNX.
So one translator serves every method, and an operation that it does not know is an error, never a
guess. Images stay NHWC; ONNX's convolutions want NCHW and are wrapped in transpositions, which
runtimes cancel.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError
from ..files import atomic_path
from ..methods import Estimator
from .metadata import NO_LICENCE
from .mlxfn import metadata, pose_function

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
    "Log": "Log",
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
}
REDUCTIONS = {2: "ReduceSum", 3: "ReduceProd", 4: "ReduceMin", 5: "ReduceMax"}


def export_onnx(
    model: Estimator,
    path: str | Path,
    batch_size: int = 1,
    name: str = "network",
    licence: str = NO_LICENCE,
) -> None:
    """Write a network as ONNX: uint8 images (or landmarks) in, angles and probabilities out.

    The metadata are in the file, one entry a key; what is no text is JSON.

    Args:
        model: its batch norms are folded in place.
        path: file to write.
        batch_size: the one that the file will accept.
        name: name of the network.
        licence: licence of its weights.

    Raises:
        InputError: onnx is not installed, or an operation has no translation.
    """
    about = metadata(model, (batch_size,), name, licence)
    function = pose_function(model)
    try:
        proto = translate(function, model.config.inputs.example(batch_size), about["outputs"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for key, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        proto.metadata_props.add(key=key, value=text)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def translate(
    function: Callable[[mx.array], list[mx.array]], example: mx.array, output_names: list[str]
) -> Any:
    """The ONNX model of any function of one array, for inputs of the example's shape.

    Raises:
        InputError: onnx is not installed, or an operation has no translation.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(INSTALL) from None
    graph = _Graph(output_names)
    # On the CPU, MLX traces its fused operations as the plain ones that they are made of.
    try:
        with mx.stream(mx.cpu):
            mx.export_function(graph.receive, function, example)
    except ValueError as error:
        raise InputError(f"this network cannot be exported to ONNX: {error}") from None
    proto = graph.finish(onnx)
    onnx.checker.check_model(proto)
    return proto


class _Graph:
    """Collects MLX's trace and rewrites it as ONNX nodes."""

    def __init__(self, output_names: list[str]):
        self.output_names = output_names
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.unknown: set[str] = set()
        self.fresh = 0

    def receive(self, part: dict[str, Any]) -> None:
        """One piece of the trace, as `mx.export_function` gives it."""
        kind = part["type"]
        if kind == "inputs":
            self.inputs = part["inputs"]
        elif kind == "outputs":
            self.outputs = part["outputs"]
        elif kind == "constants":
            for name, value in part["constants"]:
                self.constants[name] = np.array(value)
        elif kind == "primitive":
            self.add(part)

    def add(self, part: dict[str, Any]) -> None:
        name, arguments = part["name"], part["arguments"]
        inputs = [i[0] for i in part["inputs"]]
        outputs = [o[0] for o in part["outputs"]]
        shape = list(part["outputs"][0][1])
        special: Callable[..., None] | None = getattr(self, f"on_{name}", None)
        if name in SAME:
            self.node(SAME[name], inputs, outputs)
        elif special is not None:
            special(inputs, outputs, arguments, part, shape)
        else:
            self.unknown.add(name)

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

    def on_Reshape(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Reshape", [inputs[0], self.constant(shape)], outputs)

    on_Squeeze = on_ExpandDims = on_Flatten = on_Unflatten = on_Reshape

    def on_Broadcast(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Expand", [inputs[0], self.constant(shape)], outputs)

    def on_Transpose(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Transpose", inputs, outputs, perm=list(arguments[0]))

    def on_Concatenate(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Concat", inputs, outputs, axis=arguments[0])

    def on_Slice(self, inputs, outputs, arguments, part, shape) -> None:
        starts, ends, steps = (list(a) for a in arguments)
        axes = list(range(len(starts)))
        extra = [self.constant(values) for values in (starts, ends, axes, steps)]
        self.node("Slice", [inputs[0], *extra], outputs)

    def on_Split(self, inputs, outputs, arguments, part, shape) -> None:
        axis = arguments[1]
        sizes = [o[1][axis] for o in part["outputs"]]
        self.node("Split", [inputs[0], self.constant(sizes)], outputs, axis=axis)

    def on_Pad(self, inputs, outputs, arguments, part, shape) -> None:
        axes, low, high = (list(a) for a in arguments)
        pads = self.constant([*low, *high])
        self.node("Pad", [inputs[0], pads, inputs[1], self.constant(axes)], outputs)

    def on_Contiguous(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Identity", inputs[:1], outputs)

    on_Copy = on_StopGradient = on_Contiguous

    # Numbers.

    def on_AsType(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Cast", inputs, outputs, to=_onnx_type(part["outputs"][0][2]))

    def on_Square(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Mul", [inputs[0], inputs[0]], outputs)

    def on_Sqrt(self, inputs, outputs, arguments, part, shape) -> None:
        if arguments[0]:  # MLX writes 1 / √x as a kind of √
            self.node("Reciprocal", [self.node("Sqrt", inputs)], outputs)
        else:
            self.node("Sqrt", inputs, outputs)

    def on_ArcTan2(self, inputs, outputs, arguments, part, shape) -> None:
        """atan(y / x), and ±π where x is negative: ONNX has no arctangent of two numbers."""
        y, x = inputs
        zero, pi = (self.constant(v, np.float32) for v in (0.0, np.pi))
        half = self.node("Atan", [self.node("Div", [y, x])])
        y_negative = self.node("Less", [y, zero])
        turn = self.node("Where", [y_negative, self.node("Neg", [pi]), pi])
        behind = self.node("Add", [half, turn])
        angle = self.node("Where", [self.node("Less", [x, zero]), behind, half])
        # 0 / 0 where both are zero.
        none = self.node("And", [self.node("Equal", [x, zero]), self.node("Equal", [y, zero])])
        self.node("Where", [none, zero, angle], outputs)

    def on_Reduce(self, inputs, outputs, arguments, part, shape) -> None:
        kind, axes = arguments
        if kind not in REDUCTIONS:
            self.unknown.add(f"Reduce {kind}")
            return
        self.node(REDUCTIONS[kind], [inputs[0], self.constant(axes)], outputs, keepdims=1)

    def on_ArgReduce(self, inputs, outputs, arguments, part, shape) -> None:
        kind, axis = arguments[0], arguments[1]
        index = self.node("ArgMin" if kind == 0 else "ArgMax", inputs, axis=axis, keepdims=1)
        self.node("Cast", [index], outputs, to=_onnx_type(part["outputs"][0][2]))

    def on_Softmax(self, inputs, outputs, arguments, part, shape) -> None:
        self.node("Softmax", inputs, outputs, axis=-1)

    def on_AddMM(self, inputs, outputs, arguments, part, shape) -> None:
        alpha, beta = arguments
        product = self.node("MatMul", inputs[:2])
        if alpha != 1.0:
            product = self.node("Mul", [product, self.constant(alpha, np.float32)])
        addend = inputs[2]
        if beta != 1.0:
            addend = self.node("Mul", [addend, self.constant(beta, np.float32)])
        self.node("Add", [product, addend], outputs)

    def on_Convolution(self, inputs, outputs, arguments, part, shape) -> None:
        stride, low, high, dilation, input_dilation, groups, flip = arguments
        # Of pictures or, with one axis less, of sequences.
        axes = list(range(len(shape)))
        first, last = [0, axes[-1], *axes[1:-1]], [0, *axes[2:], 1]
        x = self.node("Transpose", inputs[:1], perm=first)
        if flip or any(step != 1 for step in input_dilation):
            y = self.transposed_convolution(x, inputs[1], arguments, part)
        else:
            weight = self.node("Transpose", inputs[1:], perm=first)
            y = self.node(
                "Conv",
                [x, weight],
                strides=list(stride),
                pads=[*low, *high],
                dilations=list(dilation),
                group=groups,
            )
        self.node("Transpose", [y], outputs, perm=last)

    def transposed_convolution(self, x: str, weight: str, arguments, part) -> str:
        stride, low, high, dilation, input_dilation, groups, flip = arguments
        shape = part["inputs"][1][1]
        if groups != 1 or not flip or any(step != 1 for step in stride) or len(shape) != 4:
            self.unknown.add("Convolution with input dilation")
            return x
        spans = [d * (k - 1) for d, k in zip(dilation, shape[1:3], strict=True)]
        before = [span - pad for span, pad in zip(spans, low, strict=True)]
        after = [span - pad for span, pad in zip(spans, high, strict=True)]
        return self.node(
            "ConvTranspose",
            [x, self.node("Transpose", [weight], perm=[3, 0, 1, 2])],
            strides=list(input_dilation),
            pads=[max(p, 0) for p in (*before, *after)],
            output_padding=[max(-p, 0) for p in after],
            dilations=list(dilation),
        )

    def finish(self, onnx: Any) -> Any:
        """The ONNX model."""
        if self.unknown:
            names = ", ".join(sorted(self.unknown))
            raise InputError(f"this network cannot be exported to ONNX: it uses {names}")
        renamed = {o[0]: name for o, name in zip(self.outputs, self.output_names, strict=True)}
        make = onnx.helper
        nodes = [
            make.make_node(
                kind,
                [renamed.get(i, i) for i in inputs],
                [renamed.get(o, o) for o in outputs],
                **attributes,
            )
            for kind, inputs, outputs, attributes in self.nodes
        ]
        graph = make.make_graph(
            nodes,
            "mlx_headpose",
            [make.make_tensor_value_info(i[0], _onnx_type(i[2]), list(i[1])) for i in self.inputs],
            [
                make.make_tensor_value_info(name, _onnx_type(o[2]), list(o[1]))
                for o, name in zip(self.outputs, self.output_names, strict=True)
            ],
            [onnx.numpy_helper.from_array(v, name) for name, v in self.constants.items()],
        )
        return make.make_model(
            graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )


def _onnx_type(dtype: Any) -> int:
    from onnx import TensorProto

    types = {
        mx.float32: TensorProto.FLOAT,
        mx.float16: TensorProto.FLOAT16,
        mx.uint8: TensorProto.UINT8,
        mx.int8: TensorProto.INT8,
        mx.int32: TensorProto.INT32,
        mx.uint32: TensorProto.UINT32,
        mx.int64: TensorProto.INT64,
        mx.bool_: TensorProto.BOOL,
    }
    return types[dtype]
