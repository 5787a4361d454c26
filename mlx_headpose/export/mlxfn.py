"""A network as one function that leaves Python: pixels in, angles out.

`.mlxfn` is MLX's own format for a traced graph with its weights; MLX's C++ and Swift libraries
load it. The function takes uint8 images as they are cut from the picture (or landmarks, for a
network that reads those) and holds normalisation, network and decoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from ..errors import InputError
from ..files import atomic_path
from ..methods import Estimator
from ..nn import plain_operations
from ..quantization import folded
from ..quantization.fold import PRODUCTS
from ..quantization.tree import Watched, layers, replace
from ..readers import mlxfn as container
from ..weights import compute_arrays, dtype_name, require_range
from .metadata import NO_LICENCE, describe

BATCH_SIZES = tuple(range(1, 9))


@dataclass(frozen=True)
class Reader:
    """Programs that read one form of the file.

    Attributes:
        who: their names, for people.
        metadata: whether they expect metadata in the header (see `readers/mlxfn.py`).
        device: where they are meant to compute; None leaves it to the machine that exports.
    """

    who: str
    metadata: bool
    device: str | None = None


READERS = {
    "mlx-swift": Reader("every MLX Swift up to 0.31.6, MLX 0.29.1 to 0.32.0", False, "gpu"),
    "mlx-0.31": Reader("MLX 0.29.1 to 0.32.0 in Python and C++, MLX Swift up to 0.31.6", False),
    "current": Reader("MLX from 0.32.1 on, in Python and C++", True),
}


def output_names(model: Estimator) -> list[str]:
    """What the exported function returns, in order: pose, the head's own outputs, confidence."""
    outputs = model(model.config.inputs.example(1))
    names = ["pose", *(f"output{i}" for i in range(len(outputs)))]
    return names if model.confidence(outputs) is None else [*names, "confidence"]


def require_one_graph(model: Estimator, path: str | Path) -> None:
    """See that an estimator computes the pose, rather than search for it.

    Args:
        model: the estimator.
        path: the file to be written, for the message.

    Raises:
        InputError: it searches.
    """
    if not model.config.compiles:
        raise InputError(
            f"{path}: {model.config.model_type} searches for the pose, which no file of one graph "
            "can do; export the network that was trained with it"
        )


def pose_function(
    model: Estimator, dtype: mx.Dtype = mx.float32
) -> Callable[[mx.array], list[mx.array]]:
    """The function to trace: input → what `output_names` says.

    The pose is (N, 3) yaw, pitch, roll in degrees. Where the head classifies bins, its outputs are
    the probabilities of each angle's bins. The confidence, (N,), is left out where a method has
    none. Parallel branches are folded, and batch norms into the layers before them, in a copy.

    In float16 compute the weights and the arithmetic of the backbone. Its first layer,
    normalisation, the pose head and decoding stay in float32: they are few operations, pixels that
    are alike round alike, which no sum over them averages out, and a rotation made of nearly
    parallel vectors magnifies rounding.

    Args:
        model: the network.
        dtype: of the backbone, float32 or float16.

    Raises:
        InputError: see `narrow`.
    """
    network = folded(model)
    if dtype != mx.float32:
        narrow(network, dtype)
    compute_arrays(network)  # or the trace would hold how they are computed

    def estimate(inputs: mx.array) -> list[mx.array]:
        with plain_operations():
            features = network.features(network.config.inputs.normalize(inputs))
            outputs = network.head(tree_map(lambda feature: feature.astype(mx.float32), features))
            confidence = network.confidence(outputs)
            known = [] if confidence is None else [confidence]
            return [network.decode(outputs), *network.head.probabilities(outputs), *known]

    return estimate


def narrow(model: Estimator, dtype: mx.Dtype) -> None:
    """Give a network's backbone, behind its first layer, another type, in place.

    Raises:
        InputError: the network is quantised, reads landmarks, which need more digits, or has
            a weight that is too large for the type.
    """
    if model.config.inputs.landmarks:
        raise InputError("a network that reads landmarks computes in float32; leave out --dtype")
    if model.quantization is not None:
        raise InputError("the network is quantised; export it without --dtype, or the float32 one")
    name, first = first_product(model)
    replace(model, {name: nn.Identity()})
    model.backbone.set_dtype(dtype)
    require_range(dict(tree_flatten(model.backbone.parameters())), dtype)
    replace(model, {name: Before(first, dtype)})


def first_product(model: Estimator) -> tuple[str, nn.Module]:
    """The convolution or matrix product that a network computes first, and its name."""
    called: list[str] = []
    products = layers(model, PRODUCTS)
    watched = {n: Watched(p, lambda *_, n=n: called.append(n)) for n, p in products.items()}
    replace(model, watched)
    model(model.config.inputs.example(1))
    replace(model, products)
    return called[0], products[called[0]]


class Before(nn.Module):
    """A float32 layer before others of another type."""

    def __init__(self, layer: nn.Module, dtype: mx.Dtype):
        super().__init__()
        self.layer = layer
        self._dtype = dtype

    def __call__(self, x: mx.array) -> mx.array:
        return self.layer(x).astype(self._dtype)


def metadata(
    model: Estimator,
    batch_sizes: tuple[int, ...] | None,
    name: str = "network",
    licence: str = NO_LICENCE,
    dtype: mx.Dtype = mx.float32,
) -> dict[str, Any]:
    """What a program needs to know of the function, as plain values; see `describe`."""
    example, names = model.config.inputs.example(1), output_names(model)
    return describe(model.config, example, names, batch_sizes, name, licence, dtype_name(dtype))


def export_mlxfn(
    model: Estimator,
    path: str | Path,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    reader: str = "current",
    device: str | None = None,
    name: str = "network",
    licence: str = NO_LICENCE,
) -> dict[str, Any]:
    """Write a network as `.mlxfn`, traced once for each batch size, and its metadata beside it.

    Both files are written atomically; the metadata's is `path` with `.json` behind it.

    Args:
        model: the network; it stays as it is.
        path: file to write.
        batch_sizes: the only ones that the function will accept.
        reader: a key of `READERS`.
        device: "cpu" or "gpu", on which the reader computes; None takes the usual one.
        name: name of the network.
        licence: licence of its weights.

    Returns:
        The metadata.

    Raises:
        InputError: the network has an operation that MLX cannot export, or is none.
    """
    require_one_graph(model, path)
    about = metadata(model, batch_sizes, name, licence)
    text = json.dumps(about)
    device = device or usual_device(reader)
    function = pose_function(model)
    with atomic_path(metadata_path(path)) as beside, atomic_path(path) as temporary:
        try:
            # On the CPU, MLX traces its fused operations as the plain ones that they are made of.
            # Their states in the file are the same in all versions and on all devices.
            with mx.stream(mx.cpu), mx.exporter(str(temporary), function) as exporter:
                for batch in batch_sizes:
                    exporter(model.config.inputs.example(batch))
        except ValueError as error:
            raise InputError(f"{path}: cannot be exported: {error}") from None
        try:
            content = container.on_device(temporary.read_bytes(), device)
        except container.Malformed as error:
            raise InputError(f"{path}: cannot be put on the {device}: {error}") from None
        content = container.with_metadata(content, text if READERS[reader].metadata else None)
        temporary.write_bytes(content)
        beside.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def metadata_path(path: str | Path) -> Path:
    """Where the metadata of a `.mlxfn` file lie as JSON."""
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def usual_device(reader: str) -> str:
    """Where a reader computes unless it is told: apps on the GPU, others where this MLX does."""
    own = "gpu" if mx.default_device().type == mx.gpu else "cpu"
    return READERS[reader].device or own
