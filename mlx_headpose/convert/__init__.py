"""Published checkpoints → our `.safetensors`.

Each method's folder holds its published layouts (`methods/<method>/checkpoint.py`).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np

from .. import methods
from ..core.checkpoint import Conversion, Format, Tensors
from ..detection import yunet_checkpoint
from ..errors import InputError
from ..files import atomic_path
from ..methods import METHODS, Estimator, build, config_from_dict
from ..quantization import fold_branches
from ..readers.checkpoint_file import read_tensors
from ..readers.onnx_file import read_layers
from ..readers.torch_writer import write_torch_file
from ..weights import load_strictly, save_tensors, tensors_of

__all__ = ["Conversion", "Format", "convert_file", "convert_tensors", "formats", "write_torch"]


def formats() -> list[Format]:
    """Every layout that can be converted, in the order in which they are tried."""
    return [form for module in layouts() for form in module.FORMATS]


def layouts() -> list[ModuleType]:
    """The modules that define `FORMATS` and `PUBLISHED`."""
    return [*filter(None, map(_layouts, METHODS)), yunet_checkpoint]


def _layouts(method: str) -> ModuleType | None:
    """The module of a method's published layouts; None where it has none."""
    name = f"{methods.__name__}.{method}.checkpoint"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def convert_file(
    path: str | Path,
    output: str | Path,
    norm: str = "batch",
    fold: bool = False,
    protocol: str | None = None,
    state: str | None = None,
) -> Conversion:
    """Recognise a published checkpoint, convert it, check it, and write it.

    Args:
        path: the published file.
        output: the `.safetensors` file to write.
        norm: normalisation of the network that an ImageNet backbone is meant for.
        fold: whether to fold the parallel branches of a network's layers.
        protocol: see `Conversion.choose`.
        state: name of the state dict to take, of a file that holds several.

    Returns:
        What was recognised and what was left out.

    Raises:
        InputError: the file is damaged, unknown, or would need code to be run.
    """
    conversion = read_conversion(path, norm, fold, protocol, state)
    save_tensors(output, _in_mlx(conversion), conversion.config)
    return conversion


def read_conversion(
    path: str | Path,
    norm: str = "batch",
    fold: bool = False,
    protocol: str | None = None,
    state: str | None = None,
) -> Conversion:
    """Recognise a published checkpoint and convert it; see `convert_file`."""
    path = Path(path)
    conversion = convert_tensors(tensors_in(path, state), path, norm, protocol)
    return folded(conversion, path) if fold else conversion


def network_of(conversion: Conversion, source: str | Path) -> Estimator:
    """The network of a conversion, in evaluation mode.

    Args:
        conversion: see `read_conversion`.
        source: name of the file, for messages.

    Raises:
        InputError: it is a backbone alone, or no network that estimates poses.
    """
    if conversion.network is not None or conversion.config["model_type"] == "backbone":
        raise InputError(
            f"{source}: {conversion.description} is no whole network; write it with --output "
            "alone, as .safetensors"
        )
    network = build(config_from_dict(conversion.config))
    load_strictly(network, _in_mlx(conversion), source)
    network.eval()
    return network


def _in_mlx(conversion: Conversion) -> dict[str, mx.array]:
    return {name: mx.array(value) for name, value in conversion.tensors.items()}


def tensors_in(path: Path, state: str | None = None) -> Tensors:
    """The tensors of a file; those of its layers for an ONNX graph of a known network."""
    if path.suffix == ".onnx" and path.is_file():
        layers = read_layers(path)
        if any(_matches(form, layers, path) for form in formats()):
            return layers
    return read_tensors(path, state)


def folded(conversion: Conversion, source: str | Path) -> Conversion:
    """The conversion with the parallel branches of its layers folded.

    Raises:
        InputError: the network has no such layers.
    """
    if "deploy" not in conversion.config:
        raise InputError(f"{source}: {conversion.description} has no branches to fold")
    network = build(config_from_dict(conversion.config))
    network.load_weights([(name, mx.array(value)) for name, value in conversion.tensors.items()])
    network.eval()
    network = fold_branches(network)
    tensors = {name: np.array(value) for name, value in tensors_of(network).items()}
    return dataclasses.replace(conversion, config=network.config.to_dict(), tensors=tensors)


def convert_tensors(
    tensors: Tensors, source: str | Path, norm: str = "batch", protocol: str | None = None
) -> Conversion:
    """Recognise tensors by their names and shapes and bring them into our layout.

    Args:
        tensors: tensors of the file.
        source: name of the file, for messages.
        norm: the normalisation of the network that an ImageNet backbone is meant for.
        protocol: see `Conversion.choose`.

    Raises:
        InputError: the layout is unknown, or a tensor is missing or misshapen.
    """
    form, tensors = _recognised(tensors, source)
    if form is None:
        known = "; ".join(form.name for form in formats())
        raise InputError(
            f"{source}: its {len(tensors)} tensors are of no known checkpoint; known are: {known}"
        )
    try:
        conversion = form.convert(tensors)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except MALFORMED as error:
        raise InputError(
            f"{source}: looks like {form.name} but is not complete ({error}); get it again"
        ) from None
    _check(conversion, source)
    conversion.choose(protocol, source)
    if norm == "batch":
        return conversion
    if norm not in conversion.variants:
        raise InputError(f"{source}: --norm {norm} is for ImageNet backbones; leave it out")
    return conversion.variants[norm]()


# What compiling, training on several GPUs, averaging, and a module around the network put in front
# of every name.
PREFIXES = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "ema_model.",
)  # fmt: skip
COUNTERS = {"n_averaged"}  # of torch.optim.swa_utils.AveragedModel, beside the network


# What a layout's code raises on tensors that have its names and other shapes or leaves.
MALFORMED = (KeyError, ValueError, AssertionError, IndexError, TypeError, AttributeError)


def _matches(form: Format, tensors: Tensors, source: str | Path) -> bool:
    """Whether tensors are of a layout; what its code stumbles over is not."""
    try:
        return form.matches(tensors)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except MALFORMED:
        return False


def _recognised(tensors: Tensors, source: str | Path) -> tuple[Format | None, Tensors]:
    """The layout of tensors, and the tensors without what wrappers added to their names."""
    inner = tensors
    while True:
        form = next((form for form in formats() if _matches(form, inner, source)), None)
        if form is not None:
            return form, inner
        # A part may be compiled alone, so this prefix may be inside names.
        names = {name: name.replace("_orig_mod.", "") for name in inner if name not in COUNTERS}
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in names.values())), "")
        stripped = {new.removeprefix(prefix): inner[name] for name, new in names.items()}
        if len(stripped) != len(names) or not stripped or stripped.keys() == inner.keys():
            return None, tensors
        inner = stripped


def write_torch(model: Estimator, output: str | Path) -> None:
    """Write a network as the checkpoint that its method's published PyTorch code loads.

    Raises:
        InputError: the method has no such form, or the file cannot be written.
    """
    method = model.config.model_type
    to_torch = getattr(_layouts(method), "to_torch", None)
    if to_torch is None:
        raise InputError(f"{method} cannot be written for PyTorch; choose --format safetensors")
    if model.quantization is not None:
        raise InputError("a quantised network cannot be written for PyTorch; give the float32 one")
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
