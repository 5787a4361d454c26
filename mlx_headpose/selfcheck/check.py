"""Every check: what is computed here against stored values, and a GPU against the CPU beside it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..export.mlxfn import export_mlxfn
from ..inference.estimator import HeadPoseEstimator
from ..weights import BUNDLED, from_pretrained, tensors_of
from . import numbers
from .cases import Case, all_cases
from .compute import compute, computing_on, on_gpu, step
from .picture import FACE, crops, picture
from .values import REMAKE, Short, Stored, as_numpy, distances, shortened

# Allowed distances in float32, by quantity; "angles" are degrees. A gradient of a network jumps
# where rounding moves a unit across the bend of its ReLU, by 0.003 where it was seen; those of
# single layers are held to `LAYER_GRADIENTS`.
FLOATS = {
    "outputs": 1e-4,
    "angles": 0.002,
    "loss": 1e-4,
    "gradients": 0.01,
    "moved": 0.01,
    "statistics": 1e-4,
}
# The same where a GPU multiplies float32 in TF32. Gradients then say nothing of right or wrong.
TF32 = {"outputs": 5e-3, "angles": 0.3, "loss": 5e-3, "statistics": 5e-3}
LAYER_GRADIENTS = 1e-4
HALF_OUTPUTS = 1e-2
# Of the loss that float64 gives for weights and inputs in bfloat16, whose sums round by 0.004.
BFLOAT16_LOSS = 1e-2
# Above the tolerances, this many times what rounding was seen to do in float64.
ROUNDING = 4.0
HALF = 2.0**9  # by which float16 rounds more than the changes that the stored values saw
PIPELINE, EXPORTED = 0.05, 0.001  # degrees

STORED, CPU = "stored values", "this machine's CPU"


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: network or layer.
        quantity: what was compared.
        against: with what.
        dtype: type that was computed in.
        error: distance; None where nothing could be computed.
        tolerance: largest distance that is right.
        in_degrees: whether both are in degrees; else they are relative.
        note: where the distance is largest, or what went wrong.
    """

    name: str
    quantity: str
    against: str
    dtype: str
    error: float | None
    tolerance: float
    in_degrees: bool = False
    note: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether the distance is within the tolerance."""
        return self.error is not None and self.error <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """The check as JSON can hold it."""
        error = self.error if self.error is None or np.isfinite(self.error) else str(self.error)
        return {**asdict(self), "error": error, "agrees": self.agrees}

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.name}, {self.quantity}: {self.note}"
        unit = "°" if self.in_degrees else ""
        place = f", at {self.note}" if self.note else ""
        return (
            f"{self.name}, {self.quantity} in {self.dtype} against {self.against}: "
            f"{self.error:.2g}{unit} apart, {self.tolerance:.2g}{unit} allowed{place}"
        )


def all_checks(stored: dict[str, Stored]) -> dict[str, Callable[[], Iterator[Check]]]:
    """Every group of checks by its name, not yet computed."""
    groups: dict[str, Callable[[], Iterator[Check]]] = {
        name: partial(_case_checks, name, make, stored.get(name))
        for name, make in all_cases().items()
    }
    others: dict[str, Callable[[], Iterable[Check]]] = {
        "quantised products": quantised_products,
        "picture to angles": partial(pipeline, stored),
        "exported network": exported,
    }
    return groups | {name: partial(_guarded, name, check) for name, check in others.items()}


def tf32() -> bool:
    """Whether this process may multiply float32 in TF32, as NVIDIA's GPUs do and Apple's M5."""
    return on_gpu() and os.environ.get("MLX_ENABLE_TF32", "1") != "0"


def _guarded(name: str, check: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks, or one that says why they could not be made.

    What a back end lacks or gets wrong raises many kinds of errors, and the rest is worth knowing.
    """
    try:
        yield from check()
    except Exception as error:
        reason = f"could not be computed ({type(error).__name__}: {error})"
        yield Check(name, "everything", STORED, "float32", None, 0.0, note=reason)


def _case_checks(name: str, make: Callable[[], Case], stored: Stored | None) -> Iterator[Check]:
    if stored is None:
        reason = f"has no stored values; run `{REMAKE}` in a checkout"
        yield Check(name, "everything", STORED, "float32", None, 0.0, note=reason)
        return
    yield from _guarded(name, lambda: _compared(make(), stored))


def _compared(case: Case, stored: Stored) -> Iterator[Check]:
    """A case against its stored values, and on a GPU against the CPU."""
    found = Short.of(compute(case))
    yield from _in_float32(case, found, stored.values, stored, STORED, tf32())
    if on_gpu():
        with computing_on(mx.Device(mx.cpu)):
            beside = Short.of(compute(case))
        yield from _in_float32(case, found, beside, stored, CPU, tf32())
        for check in _in_float32(case, beside, stored.values, stored, STORED, False):
            yield replace(check, name=f"{case.name}, on the CPU")
    if case.network is not None:
        yield from _in_halves(case, stored)


def _in_float32(
    case: Case, found: Short, wanted: Short, stored: Stored, against: str, short: bool
) -> Iterator[Check]:
    for distance in distances(found, wanted, case.finds_angles):
        allowed = _allowed(case, distance.quantity, stored, short)
        if allowed is not None:
            error, tolerance, where = distance.worst(allowed)
            yield Check(
                case.name,
                distance.quantity,
                against,
                "TF32" if short else "float32",
                error,
                tolerance,
                distance.in_degrees,
                where,
            )


def _allowed(case: Case, quantity: str, stored: Stored, short: bool) -> np.ndarray | None:
    """The largest distance that is right, of each tensor; None where nothing can be said."""
    rounding = ROUNDING * stored.rounding[quantity]
    if short:
        return np.maximum(TF32[quantity], rounding) if quantity in TF32 else None
    alone = case.network is None and quantity == "gradients"
    return np.maximum(LAYER_GRADIENTS if alone else FLOATS[quantity], rounding)


def _in_halves(case: Case, stored: Stored) -> Iterator[Check]:
    """Inference in float16 against the stored values, and the loss of a step in bfloat16."""
    network = case.network
    assert network is not None
    before = list(tensors_of(network).items())
    inputs = network.config.inputs.normalize(mx.array(case.inputs)).astype(mx.float16)
    network.eval()
    network.set_dtype(mx.float16)
    raw = [as_numpy(output) for output in network(inputs)]
    outputs = [shortened(f"outputs {i}", value) for i, value in enumerate(raw)]
    network.load_weights(before)
    wanted = stored.values.outputs[:-1]  # what they decode to magnifies rounding
    error = max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        for a, b in zip(outputs, wanted, strict=True)
    )
    tolerance = max(HALF_OUTPUTS, ROUNDING * HALF * float(stored.rounding["outputs"][0]))
    error = error if np.isfinite(error) else np.inf
    yield Check(case.name, "outputs", STORED, "float16", error, tolerance)
    case.train()
    result = step(network, mx.array(case.inputs), mx.array(case.targets), bfloat16=True)
    network.load_weights(before)
    assert stored.bfloat16 is not None
    loss, change = stored.bfloat16
    error = abs(result.loss.item() / loss - 1)
    error = error if np.isfinite(error) else np.inf
    tolerance = max(BFLOAT16_LOSS, ROUNDING * change)
    yield Check(case.name, "loss", STORED, "bfloat16", error, tolerance)


def quantised_products() -> Iterator[Check]:
    """Products with MLX's weights of 8 and 4 bits against the same in float64."""
    x, weight = numbers.uniform("x", (16, 256)), numbers.uniform("weight", (64, 256))
    for bits in (8, 4):
        parts = mx.quantize(mx.array(weight), group_size=64, bits=bits)
        found = mx.quantized_matmul(mx.array(x), *parts, group_size=64, bits=bits)
        packed, scales, biases = (np.array(part, copy=False) for part in parts)
        codes = np.unpackbits(packed.view(np.uint8), bitorder="little").reshape(-1, bits)
        codes = (codes << np.arange(bits)).sum(1).reshape(64, -1, 64).astype(np.float64)
        restored = (codes * scales[..., None] + biases[..., None]).reshape(weight.shape)
        wanted = x.astype(np.float64) @ restored.T
        error = float(np.abs(np.array(found) - wanted).max() / np.abs(wanted).max())
        tolerance = TF32["outputs"] if tf32() else FLOATS["outputs"]
        yield Check(f"products with {bits} bits", "outputs", "NumPy in float64", "float32", error,
                    tolerance)  # fmt: skip


def pipeline(stored: dict[str, Stored]) -> Iterator[Check]:
    """From the picture to the angles, here and in a thread of its own."""
    estimator = HeadPoseEstimator()
    wanted = stored["bundled network"].values.outputs[-1][0]
    tolerance = max(PIPELINE, TF32["angles"] if tf32() else 0.0)
    results: list[np.ndarray] = []

    def estimate() -> None:
        (head,) = estimator(picture(), boxes=[FACE])
        results.append(head.pose)

    estimate()
    thread = threading.Thread(target=estimate)
    thread.start()
    thread.join()
    names = ("picture to angles", "picture to angles in a thread")
    for name, pose in zip(names, [*results, np.full(3, np.inf)], strict=False):
        error = float(np.abs(pose - wanted).max())
        yield Check(name, "angles", STORED, "float32", error, tolerance, in_degrees=True)


def exported() -> Iterator[Check]:
    """The bundled network written as `.mlxfn` and read back."""
    network = from_pretrained(BUNDLED)
    inputs = mx.array(crops(network))
    wanted = np.array(network.decode(network(inputs)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.mlxfn"
        device = "gpu" if on_gpu() else "cpu"
        export_mlxfn(network, path, batch_sizes=(len(inputs),), device=device)
        function: Any = mx.import_function(str(path))
        pose = np.array(function(inputs)[0])
    error = float(np.abs(pose - wanted).max())
    tolerance = TF32["angles"] if tf32() else EXPORTED
    yield Check("exported network", "angles", "the network itself", "float32", error, tolerance,
                in_degrees=True)  # fmt: skip
