"""Published checkpoints → our `.safetensors`. One file per foreign format.

This is the only room that may import h5py or onnx, and only when a file needs them.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import mlx.core as mx

from mlx_headpose.errors import InputError
from mlx_headpose.files import atomic_path
from mlx_headpose.models import Estimator, build, config_from_dict
from mlx_headpose.readers.torch_file import write_torch_file
from mlx_headpose.weights import save_tensors, tensors_of

from .base import Conversion, Format, Tensors
from .hopenet import for_group_norm
from .readers import read_tensors

# Modules of this package that define FORMATS.
MODULES = ("hopenet", "whenet", "nlml", "yunet", "pyramid", "tokenhpe")

__all__ = ["Conversion", "Format", "convert_file", "convert_tensors", "formats", "write_torch"]


def formats() -> list[Format]:
    """Every layout that can be converted, in the order in which they are tried."""
    modules = [importlib.import_module(f".{name}", __name__) for name in MODULES]
    return [form for module in modules for form in module.FORMATS]


def convert_file(path: str | Path, output: str | Path, norm: str = "batch") -> Conversion:
    """Recognise a published checkpoint, convert it, check it, and write it.

    Args:
        path: the published file.
        output: the `.safetensors` file to write.
        norm: the normalisation of the network that an ImageNet backbone is meant for.

    Returns:
        What was recognised and what was left out.

    Raises:
        InputError: the file is damaged, unknown, or would need code to be run.
    """
    path = Path(path)
    conversion = convert_tensors(read_tensors(path), path, norm)
    save_tensors(
        output,
        {name: mx.array(value) for name, value in conversion.tensors.items()},
        conversion.config,
    )
    return conversion


def convert_tensors(tensors: Tensors, source: str | Path, norm: str = "batch") -> Conversion:
    """Recognise tensors by their names and shapes and bring them into our layout.

    Raises:
        InputError: the layout is unknown, or a tensor is missing or misshapen.
    """
    for form in formats():
        if form.matches(tensors):
            break
    else:
        known = "; ".join(form.name for form in formats())
        raise InputError(
            f"{source}: its {len(tensors)} tensors are of no known checkpoint; known are: {known}"
        )
    try:
        conversion = form.convert(tensors)
    except (KeyError, ValueError, AssertionError) as error:
        raise InputError(
            f"{source}: looks like {form.name} but is not complete ({error}); get it again"
        ) from None
    _check(conversion, source)
    if norm == "batch":
        return conversion
    if conversion.config["model_type"] != "backbone":
        raise InputError(f"{source}: --norm {norm} is for ImageNet backbones; leave it out")
    return for_group_norm(conversion)


def write_torch(model: Estimator, output: str | Path) -> None:
    """Write a network as the checkpoint that its method's published PyTorch code loads.

    Raises:
        InputError: the method has no such form, or the file cannot be written.
    """
    method = model.config.model_type
    module = importlib.import_module(f".{method}", __name__) if method in MODULES else None
    to_torch = getattr(module, "to_torch", None)
    if to_torch is None:
        raise InputError(f"{method} cannot be written for PyTorch; choose --format safetensors")
    checkpoint = to_torch(model.config.to_dict(), tensors_of(model))
    with atomic_path(output) as temporary:
        write_torch_file(temporary, checkpoint)


def _check(conversion: Conversion, source: str | Path) -> None:
    """Every tensor that the network needs is there, in its shape, and none besides."""
    network = conversion.network or build(config_from_dict(conversion.config))
    expected = {name: value.shape for name, value in tensors_of(network).items()}
    found = {name: value.shape for name, value in conversion.tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{source}: {conversion.description}: tensor {name} is {found.get(name)}, "
                f"the network has {expected.get(name)}"
            )
