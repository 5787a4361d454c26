"""What a case computes, its short form in a file, and the distance between two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save_file

from ..errors import InputError
from ..files import atomic_path
from . import numbers

STORED = Path(__file__).with_name("values.safetensors")
REMAKE = "python -m bench.reference.selfcheck_values"
PROJECTIONS = 2
# Outputs of more values are kept as so many sums.
MOST_VALUES, SUMS = 600, 16
# A tensor shorter than this share of the longest is measured by that share of it: the gradient of
# a bias before a batch norm is zero but for rounding.
LEAST = 1e-3
# Kinds of tensors that are kept as projections.
KINDS = ("gradients", "moved", "statistics")


@dataclass
class Values:
    """What one case computes.

    Attributes:
        outputs: evaluation mode, the decoded ones of a network last.
        loss: training loss.
        gradients: those of the loss, by the parameter's name.
        moved: how one step moved the trainable parameters.
        statistics: running statistics of the norms after that step.
    """

    outputs: list[np.ndarray]
    loss: float
    gradients: dict[str, np.ndarray]
    moved: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Short:
    """The short form of `Values`: tensors as their length and projections on random signs.

    Attributes:
        outputs: as there; of large ones the projections alone.
        loss: as there.
        tensors: for each of `KINDS` (tensors, 1 + `PROJECTIONS`) float64, by order of names.
        names: the tensors' names.
    """

    outputs: list[np.ndarray]
    loss: float
    tensors: dict[str, np.ndarray]
    names: dict[str, list[str]]

    @classmethod
    def of(cls, values: Values) -> Short:
        """The short form of values."""
        tensors, names = {}, {}
        for kind in KINDS:
            found = getattr(values, kind)
            names[kind] = sorted(found)
            rows = [_project(name, found[name]) for name in names[kind]]
            tensors[kind] = np.array(rows).reshape(-1, 1 + PROJECTIONS)
        outputs = [shortened(f"outputs {i}", value) for i, value in enumerate(values.outputs)]
        return cls(outputs, values.loss, tensors, names)


def shortened(name: str, output: np.ndarray) -> np.ndarray:
    """A small output itself; of a large one, sums with random signs."""
    if output.size <= MOST_VALUES:
        return output
    flat = output.reshape(-1)
    numbered = (numbers.signs(f"{name} {i}", flat.size) for i in range(SUMS))
    return np.array([(flat * row).sum(dtype=np.float64) for row in numbered])


def _project(name: str, value: np.ndarray) -> list[float]:
    """Length of a tensor and its products with random signs, whose mean square is its square."""
    flat = value.reshape(-1)
    length = float(np.sqrt(np.square(flat, dtype=np.float64).sum()))
    products = [
        float((flat * numbers.signs(f"{name} {i}", flat.size)).sum(dtype=np.float64))
        for i in range(PROJECTIONS)
    ]
    return [length, *products]


@dataclass
class Distance:
    """How far one quantity is from what it should be.

    Attributes:
        quantity: name of it.
        errors: distances, relative or in degrees; of each tensor, if there are several.
        names: the tensors' names.
        in_degrees: whether the errors are in degrees.
    """

    quantity: str
    errors: np.ndarray
    names: list[str] = field(default_factory=list)
    in_degrees: bool = False

    def worst(self, allowed: np.ndarray) -> tuple[float, float, str | None]:
        """The error that is the largest share of what is allowed, that, and its tensor's name."""
        index = int(np.argmax(self.errors / allowed))
        name = self.names[index] if self.names else None
        return float(self.errors[index]), float(allowed[index]), name


def distances(found: Short, wanted: Short, finds_angles: bool) -> Iterator[Distance]:
    """How far values are from others, quantity by quantity.

    Args:
        found: values to judge.
        wanted: right values.
        finds_angles: whether the last outputs are angles in degrees.
    """
    last = len(wanted.outputs) - 1
    pairs = list(zip(found.outputs, wanted.outputs, strict=True))
    plain = pairs[:last] if finds_angles else pairs
    yield Distance("outputs", np.array([max(_relative(*pair) for pair in plain)]))
    if finds_angles:
        turned = (pairs[last][0] - pairs[last][1] + 180) % 360 - 180
        yield Distance("angles", np.array([_largest(turned)]), in_degrees=True)
    loss = abs(found.loss - wanted.loss) / max(abs(wanted.loss), 1e-6)
    yield Distance("loss", np.array([loss if np.isfinite(loss) else np.inf]))
    for kind in KINDS:
        rows = wanted.tensors[kind]
        if len(rows):
            yield Distance(kind, tensor_errors(found.tensors[kind], rows), found.names[kind])


def tensor_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The largest distance of each tensor's row, as a share of its length."""
    lengths = wanted[:, 0]
    scale = np.maximum(lengths, max(LEAST * lengths.max(), 1e-30))
    errors = np.abs(found - wanted).max(1) / scale
    return np.where(np.isfinite(errors), errors, np.inf)


def _largest(values: np.ndarray) -> float:
    """The largest absolute value; infinite where one is no number."""
    largest = float(np.abs(values).max())
    return largest if np.isfinite(largest) else np.inf


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape:
        return np.inf
    return _largest(found - wanted) / max(float(np.abs(wanted).max()), 1e-30)


@dataclass
class Stored:
    """What a case computes in float64, and what rounding to float32 does to it.

    Attributes:
        values: short form of the values.
        rounding: for each quantity, the largest distances that appear when all parameters change
            several times at random by sixteen roundings of float32.
        bfloat16: of a network, the training loss of weights and inputs that are rounded to
            bfloat16, and its largest relative change when they change several times at random by
            another such rounding.
    """

    values: Short
    rounding: dict[str, np.ndarray]
    bfloat16: tuple[float, float] | None = None


def write_stored(path: Path, cases: dict[str, Stored]) -> None:
    """Write cases to one `.safetensors` file, atomically."""
    arrays: dict[str, np.ndarray] = {}
    for name, case in cases.items():
        values = case.values
        for i, output in enumerate(values.outputs):
            arrays[f"{name}/outputs/{i}"] = output.astype(np.float32)
        arrays[f"{name}/loss"] = np.array([values.loss])
        for kind in KINDS:
            if len(values.tensors[kind]):
                arrays[f"{name}/{kind}"] = values.tensors[kind].astype(np.float32)
        for quantity, rounding in case.rounding.items():
            arrays[f"{name}/rounding/{quantity}"] = rounding.astype(np.float32)
        if case.bfloat16 is not None:
            arrays[f"{name}/bfloat16"] = np.array(case.bfloat16)
    with atomic_path(path) as temporary:
        save_file(arrays, temporary)


def read_stored(path: Path = STORED) -> dict[str, Stored]:
    """The stored values of every case, by its name.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        arrays = load_file(path)
    except Exception as error:  # the package's own exception is not exported
        raise InputError(f"{path}: cannot be read ({error}); install again") from None
    cases: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        name, _, rest = key.partition("/")
        cases.setdefault(name, {})[rest] = value
    return {name: _stored(parts) for name, parts in cases.items()}


def _stored(parts: dict[str, np.ndarray]) -> Stored:
    count = sum(key.startswith("outputs/") for key in parts)
    empty = np.zeros((0, 1 + PROJECTIONS))
    values = Short(
        [parts[f"outputs/{i}"] for i in range(count)],
        float(parts["loss"][0]),
        {kind: parts.get(kind, empty).astype(np.float64) for kind in KINDS},
        {},
    )
    prefix = "rounding/"
    rounding = {
        key.removeprefix(prefix): value.astype(np.float64)
        for key, value in parts.items()
        if key.startswith(prefix)
    }
    narrow = parts.get("bfloat16")
    return Stored(
        values, rounding, None if narrow is None else (float(narrow[0]), float(narrow[1]))
    )


def as_numpy(array: mx.array) -> np.ndarray:
    """An array of MLX, floats as float32 at least."""
    if mx.issubdtype(array.dtype, mx.floating):
        array = array.astype(mx.float32)
    return np.array(array)
