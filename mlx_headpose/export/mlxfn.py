"""A network as one function that leaves Python: pixels in, angles out.

`.mlxfn` is MLX's own format for a traced graph with its weights; MLX's C++ and Swift libraries
load it. The function takes uint8 images as they are cut from the picture (or landmarks, for a
network that reads those) and holds normalisation, network and decoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from .._version import __version__
from ..errors import InputError
from ..files import atomic_path
from ..methods import Estimator
from ..nn import plain_operations
from ..quantization import fold_batch_norms

BATCH_SIZES = tuple(range(1, 9))


def output_names(model: Estimator) -> list[str]:
    """What the exported function returns, in order: the pose, then the head's own outputs."""
    count = len(model(model.config.inputs.example(1)))
    return ["pose", *(f"output{i}" for i in range(count))]


def pose_function(model: Estimator) -> Callable[[mx.array], list[mx.array]]:
    """The function to trace: input → [(N, 3) yaw, pitch, roll in degrees, then the head's outputs].

    Batch norms are folded into the model's convolutions, in place. Where the head classifies bins,
    the further outputs are the probabilities of each angle's bins.
    """
    model.eval()
    if model.quantization is None:
        fold_batch_norms(model, model.config.inputs.example(2))
    mx.eval(model.parameters())

    def estimate(inputs: mx.array) -> list[mx.array]:
        with plain_operations():
            outputs = model(inputs)
            return [model.decode(outputs), *model.head.probabilities(outputs)]

    return estimate


def metadata(model: Estimator, batch_sizes: tuple[int, ...]) -> dict[str, Any]:
    """What a program needs to know of the function, as plain values."""
    example = model.config.inputs.example(1)
    return {
        "format": "mlx-headpose function",
        "version": __version__,
        "config": model.config.to_dict(),
        "input": {"shape": ["N", *example.shape[1:]], "dtype": str(example.dtype).split(".")[-1]},
        "outputs": output_names(model),
        "pose": "yaw, pitch, roll in degrees; see docs/conventions.md",
        "batch_sizes": list(batch_sizes),
    }


def export_mlxfn(
    model: Estimator, path: str | Path, batch_sizes: tuple[int, ...] = BATCH_SIZES
) -> dict[str, Any]:
    """Write a network as `.mlxfn`, traced once for each batch size, atomically.

    Args:
        model: its batch norms are folded in place.
        path: file to write.
        batch_sizes: the only ones that the function will accept.

    Returns:
        The metadata in the file.

    Raises:
        InputError: the network has an operation that MLX cannot export.
    """
    about = metadata(model, batch_sizes)
    function = pose_function(model)
    with atomic_path(path) as temporary:
        try:
            with mx.exporter(str(temporary), function, metadata=json.dumps(about)) as exporter:
                for batch in batch_sizes:
                    exporter(model.config.inputs.example(batch))
        except ValueError as error:
            raise InputError(f"{path}: cannot be exported: {error}") from None
    return about
