"""MLX's trace of a network as a plain graph, from which writers of other formats read.

MLX hands over the traced graph of any function, with every size in it a number. Two traces at
different batch sizes tell which of these numbers are the batch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError

Function = Callable[[mx.array], list[mx.array]]
# Primes, so that a multiple of one that is the same multiple of the other is no coincidence.
BATCHES = (7, 11)
# Operations whose meaning is that of NumPy's, broadcasting included.
ELEMENTWISE = {
    *("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Power", "ArcTan2", "Select"),
    *("Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "LogicalAnd", "LogicalOr"),
}
# Operations that give the same numbers in another shape, in the same order.
RESHAPES = {"Reshape", "Squeeze", "ExpandDims", "Flatten", "Unflatten"}
# Operations whose arguments may hold the batch: a writer reads the shapes in place of them.
SIZED = {*RESHAPES, "Broadcast", "Slice"}
# What MLX keeps of a logarithm → its base; None is the natural one's.
LOG_BASES = {0: 2, 1: 10, 2: None}


@dataclass(frozen=True)
class Batch:
    """A size that is so many times the batch's."""

    times: int


Size = int | Batch
Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Array:
    """A value of the graph.

    Attributes:
        name: unique in the graph.
        shape: its sizes.
        dtype: MLX's.
    """

    name: str
    shape: Shape
    dtype: mx.Dtype


@dataclass(frozen=True)
class Operation:
    """One of MLX's primitives.

    Attributes:
        name: MLX's.
        inputs, outputs: in MLX's order.
        arguments: what MLX keeps of the call, per primitive.
    """

    name: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    arguments: tuple[Any, ...]

    @property
    def reads(self) -> list[str]:
        """Names of the inputs."""
        return [array.name for array in self.inputs]

    @property
    def writes(self) -> list[str]:
        """Names of the outputs."""
        return [array.name for array in self.outputs]


@dataclass
class Graph:
    """Operations in an order in which they can be computed.

    Attributes:
        inputs, outputs: of the function.
        operations: all of them.
        constants: name → value of arrays that nothing computes.
    """

    inputs: tuple[Array, ...] = ()
    outputs: tuple[Array, ...] = ()
    operations: list[Operation] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)


def trace(
    function: Function, example: Callable[[int], mx.array], batch_size: int | None = None
) -> Graph:
    """The graph of a function of one array.

    Sizes that depend on the batch are `Batch`, unless a batch size is given. Products with MLX's
    quantised weights are products with their values, and operands that broadcast by themselves are
    not broadcast before.

    Args:
        function: (N, ...) array → arrays.
        example: N → an input.
        batch_size: the one for which the graph is meant; None means all.

    Raises:
        InputError: MLX cannot trace it, or it depends on the batch in another way.
    """
    if batch_size is not None:
        graph = _trace_once(function, example(batch_size))
    else:
        graph = _aligned(*(_trace_once(function, example(batch)) for batch in BATCHES))
    return _with_pools(_without_broadcasts(graph))


class Writer:
    """Base of what turns a graph into another format, operation by operation.

    A subclass has a method `on_<MLX's name>(operation)` for each that it can write.
    """

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    def write(self, operations: Iterable[Operation], form: str) -> None:
        """Write operations in their order.

        Args:
            operations: of a graph.
            form: name of the format, for people.

        Raises:
            InputError: some have no translation; it names all of them.
        """
        for operation in operations:
            method = getattr(self, f"on_{operation.name}", None)
            if method is None:
                self.unknown.add(operation.name)
            elif operation.name not in SIZED and _holds_batch(operation.arguments):
                self.unknown.add(f"{operation.name} over the batch")
            elif operation.name == "Equal" and operation.arguments[0]:
                self.unknown.add("Equal where NaN equals NaN")
            elif not self.unknown:
                method(operation)
        if self.unknown:
            names = ", ".join(sorted(self.unknown))
            raise InputError(f"this network cannot be exported to {form}: it uses {names}")


def cuts(operation: Operation) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of each axis of a Slice that is not kept whole.

    Raises:
        InputError: it cuts the batch.
    """
    source = operation.inputs[0].shape
    kept = []
    for axis, cut in enumerate(zip(*operation.arguments, strict=True)):
        if cut == (0, source[axis], 1):
            continue
        if _holds_batch(cut):
            raise _depends("Slice")
        kept.append((axis, *cut))
    return kept


def _trace_once(function: Function, example: mx.array) -> Graph:
    """The graph of one trace; names number the arrays in the order in which they appear."""
    parts: list[dict[str, Any]] = []
    try:
        # On the CPU, MLX traces its fused operations as the plain ones that they are made of.
        with mx.stream(mx.cpu):
            mx.export_function(parts.append, function, example)
    except ValueError as error:
        raise InputError(f"this network cannot be exported: {error}") from None
    names: dict[str, str] = {}  # MLX's own differ between traces of the same function

    def arrays(entries: Any) -> tuple[Array, ...]:
        return tuple(
            Array(names.setdefault(name, f"v{len(names)}"), tuple(shape), dtype)
            for name, shape, dtype in entries
        )

    graph = Graph()
    values: dict[str, mx.array] = {}  # MLX's name → constant
    for part in parts:
        if part["type"] == "inputs":
            graph.inputs = arrays(part["inputs"])
        elif part["type"] == "constants":
            values |= dict(part["constants"])
    for part in parts:
        if part["type"] == "primitive":
            read, written = arrays(part["inputs"]), arrays(part["outputs"])
            op = Operation(part["name"], read, written, tuple(part["arguments"]))
            graph.operations.append(op)
    (outputs,) = (part["outputs"] for part in parts if part["type"] == "outputs")
    graph.outputs = arrays(outputs)
    constants = {names[name]: value for name, value in values.items() if name in names}
    for index, op in enumerate(graph.operations):
        if op.name == "QuantizedMatmul":
            graph.operations[index] = _dequantized(op, constants)
    used = {name for op in graph.operations for name in op.reads}
    used.update(array.name for array in graph.outputs)
    graph.constants = {name: _numpy(v) for name, v in constants.items() if name in used}
    return graph


def _dequantized(op: Operation, constants: dict[str, mx.array]) -> Operation:
    """A product with MLX's quantised weights as one with their values, a constant more."""
    group_size, bits, _mode, transposed = op.arguments
    weight, scales, biases = (constants[name] for name in op.reads[1:])
    wide = mx.dequantize(weight, scales, biases, group_size, bits)
    wide = wide.T if transposed else wide
    array = Array(f"{op.reads[1]}_values", wide.shape, wide.dtype)
    constants[array.name] = wide
    return Operation("Matmul", (op.inputs[0], array), op.outputs, ())


def _numpy(value: mx.array) -> np.ndarray:
    if value.dtype == mx.bfloat16:
        raise InputError("this network holds bfloat16 numbers; export one of float32")
    return np.array(value)


def _aligned(first: Graph, second: Graph) -> Graph:
    """One graph for all batch sizes, of traces at the two of `BATCHES`.

    Raises:
        InputError: they differ by more than multiples of the batch size.
    """
    if len(first.operations) != len(second.operations):
        raise _depends("its number of operations")
    operations = []
    for one, other in zip(first.operations, second.operations, strict=True):
        if one.name != other.name:
            raise _depends(one.name)
        merged = [
            _merged(getattr(one, part), getattr(other, part), one.name)
            for part in ("inputs", "outputs", "arguments")
        ]
        operations.append(Operation(one.name, *merged))
    if first.constants.keys() != second.constants.keys():
        raise _depends("its constants")
    for name, value in first.constants.items():
        if not np.array_equal(value, second.constants[name], equal_nan=value.dtype.kind == "f"):
            raise _depends("a constant")
    inputs, outputs = (
        _merged(getattr(first, part), getattr(second, part), part) for part in ("inputs", "outputs")
    )
    return Graph(inputs, outputs, operations, first.constants)


def _merged(one: Any, other: Any, where: str) -> Any:
    """What two traces say in the same place, with `Batch` where that is the batch's size."""
    if isinstance(one, Array) and isinstance(other, Array):
        same = one.name == other.name and one.dtype == other.dtype
        if same:
            return replace(one, shape=_merged(one.shape, other.shape, where))
    elif isinstance(one, tuple | list) and isinstance(other, tuple | list):
        if len(one) == len(other):
            return tuple(_merged(a, b, where) for a, b in zip(one, other, strict=True))
    elif type(one) is type(other) and one == other:
        return one
    elif isinstance(one, int) and isinstance(other, int):
        times, rest = divmod(one, BATCHES[0])
        if not rest and other == times * BATCHES[1]:
            return Batch(times)
    raise _depends(where)


def _depends(what: str) -> InputError:
    return InputError(
        f"this network depends on the batch size ({what}) and cannot be exported for all; "
        "give one by --batch_size"
    )


def _holds_batch(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_holds_batch, value))
    return isinstance(value, Batch)


def _without_broadcasts(graph: Graph) -> Graph:
    """The same with each broadcast left out where the operation that reads it does it as well."""
    sources = {
        op.outputs[0].name: op.inputs[0] for op in graph.operations if op.name == "Broadcast"
    }

    def source(array: Array) -> Array:
        while array.name in sources:
            array = sources[array.name]
        return array

    operations = []
    for op in graph.operations:
        inputs = op.inputs
        if op.name in ELEMENTWISE:
            plain = tuple(map(source, inputs))
            if _broadcast(plain) == op.outputs[0].shape:
                inputs = plain
        elif op.name == "AddMM":
            inputs = (*inputs[:2], source(inputs[2]))
        operations.append(replace(op, inputs=inputs))
    return _needed(graph, operations)


def _with_pools(graph: Graph) -> Graph:
    """The same with MaxPool in place of the maximum of every pixel in a window."""
    made_by = {name: op for op in graph.operations for name in op.writes}
    pools = (_pool(op, made_by, graph.constants) for op in graph.operations)
    operations = [pool or op for pool, op in zip(pools, graph.operations, strict=True)]
    return _needed(graph, operations)


def _pool(
    op: Operation, made_by: dict[str, Operation], constants: dict[str, np.ndarray]
) -> Operation | None:
    """The pooling whose last maximum an operation is; None if it is not one."""
    taps, end = [], op
    while end.name == "Maximum":
        tap, before = (made_by.get(array.name) for array in end.inputs[::-1])
        if tap is None or tap.name != "Slice" or before is None:
            return None
        taps.append(tap)
        end = before
    if not taps or end.name != "Slice":
        return None
    taps.append(end)
    (source, *others) = {tap.inputs[0] for tap in taps}
    if others or len(source.shape) != 4:
        return None
    places = [{axis: (start, step) for axis, start, _, step in cuts(tap)} for tap in taps]
    if any(place.keys() != {1, 2} for place in places):
        return None
    starts = sorted(tuple(place[axis][0] for axis in (1, 2)) for place in places)
    (stride, *strides) = {tuple(place[axis][1] for axis in (1, 2)) for place in places}
    kernel = tuple(start + 1 for start in starts[-1])
    sizes: Any = source.shape[1:3]
    fit = tuple(1 + (sizes[i] - kernel[i]) // stride[i] for i in (0, 1))
    if strides or starts != list(np.ndindex(kernel)) or op.outputs[0].shape[1:3] != fit:
        return None
    low = high = (0, 0)
    pad = made_by.get(source.name)
    if pad is not None and pad.name == "Pad":
        fill = constants.get(pad.reads[1])
        around = {axis: sides for axis, *sides in zip(*pad.arguments, strict=True) if any(sides)}
        if fill is not None and fill == -np.inf and around.keys() <= {1, 2}:
            source = pad.inputs[0]
            low, high = zip(*(around.get(axis, (0, 0)) for axis in (1, 2)), strict=True)
    return Operation("MaxPool", (source,), op.outputs, (kernel, stride, low, high))


def _needed(graph: Graph, operations: list[Operation]) -> Graph:
    """A graph of those of some operations, and of the constants, that the outputs need."""
    needed = {array.name for array in graph.outputs}
    kept = []
    for op in reversed(operations):
        if needed.intersection(op.writes):
            needed.update(op.reads)
            kept.append(op)
    constants = {name: value for name, value in graph.constants.items() if name in needed}
    return replace(graph, operations=kept[::-1], constants=constants)


def _broadcast(arrays: tuple[Array, ...]) -> Shape | None:
    """The shape that arrays have together; None if they do not fit."""
    rank = max(len(array.shape) for array in arrays)
    shapes = [(*(1,) * (rank - len(array.shape)), *array.shape) for array in arrays]
    together = []
    for sizes in zip(*shapes, strict=True):
        larger = {size for size in sizes if size != 1}
        if len(larger) > 1:
            return None
        together.append(larger.pop() if larger else 1)
    return tuple(together)
