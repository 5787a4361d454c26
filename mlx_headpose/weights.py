"""Checkpoints: one `.safetensors` file with its config, or the hub's folder form."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .errors import InputError
from .files import atomic_path, read_json, write_json
from .methods import DETECTORS, Estimator, ModelConfig, build, config_from_dict
from .process import in_lasting_thread
from .quantization import Quantization, restructure
from .quantization.tree import sharing_copy_of
from .readers.safetensors_file import load_tensors, read_config

FORMAT = "mlx-headpose"
# The network that the package carries.
BUNDLED = Path(__file__).parent / "bundled" / "headpose.safetensors"


def save_tensors(path: str | Path, tensors: dict[str, mx.array], config: dict[str, Any]) -> None:
    """Write tensors and a JSON config as one `.safetensors` file, atomically."""
    mx.eval(tensors)
    with atomic_path(path) as temporary:
        mx.save_safetensors(
            str(temporary), tensors, {"format": FORMAT, "config": json.dumps(config)}
        )


def tensors_of(module: nn.Module) -> dict[str, mx.array]:
    """Every tensor of a module by its dotted name, norm statistics included."""
    flat = tree_flatten(module.parameters())
    assert isinstance(flat, list)
    return dict(flat)


def load_strictly(module: nn.Module, tensors: dict[str, mx.array], source: str | Path) -> None:
    """Fill a module; a missing, extra or misshapen tensor is an InputError that names it.

    Floats of any width become those of the module: 16 bits are a way to store, not to compute.
    """
    expected = tensors_of(module)
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is not in the network" for name in tensors if name not in expected]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, the network has {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems += [
        f"{name} is {dtype_name(tensors[name].dtype)}, the network has {dtype_name(value.dtype)}"
        for name, value in expected.items()
        if name in tensors and not _same_kind(tensors[name].dtype, value.dtype)
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise InputError(f"{source}: does not fit the network: {'; '.join(problems[:3])}{more}")
    module.load_weights([(name, tensors[name].astype(expected[name].dtype)) for name in tensors])
    # What is still to be computed belongs to this thread, and other threads could not use it.
    compute_arrays(module)


def load_to_train(model: Estimator, tensors: dict[str, mx.array], source: str | Path) -> list[str]:
    """Fill a network that is to be trained, see `load_strictly`.

    Of the layers that only training uses (`PoseHead.training_only`) the source may lack some, and
    have some that this training does not use.

    Returns:
        The names of the tensors of such layers that the source lacks; they keep their random
        values.
    """
    own = tensors_of(model)
    extra = {name for name in {*own, *tensors} if _layer(name) in _training_layers(model)}
    begun = {name: own[name] for name in own if name in extra and name not in tensors}
    held = {name: tensors[name] for name in tensors if name in own or name not in extra}
    load_strictly(model, held | begun, source)
    return list(begun)


def for_inference(model: Estimator) -> Estimator:
    """The same network, in evaluation mode, without the layers that only training computes."""
    config = model.config.for_inference()
    if config == model.config:
        return model
    network: Estimator = sharing_copy_of(model)
    network.config = config
    for name in network.head.training_only:
        network.head.pop(name, None)
    if (spec := network.quantization) is not None:
        left = tuple(name for name in spec.layers if name not in _training_layers(model))
        network.quantization = replace(spec, layers=left)
    network.eval()
    return network


def _training_layers(model: Estimator) -> set[str]:
    """Names of the layers that only training computes."""
    return {f"head.{name}" for name in model.head.training_only}


def _layer(tensor: str) -> str:
    """Name of a tensor's layer."""
    return tensor.rpartition(".")[0]


def compute_arrays(module: nn.Module) -> None:
    """Compute every array that a module holds, also those that are no parameters."""
    private = [v for part in module.modules() for v in part.values() if isinstance(v, mx.array)]
    mx.eval(module.parameters(), private)


def dtype_name(dtype: mx.Dtype) -> str:
    """One of MLX's types without its module, such as "float32"."""
    return str(dtype).removeprefix("mlx.core.")


def _same_kind(stored: mx.Dtype, wanted: mx.Dtype) -> bool:
    floats = mx.issubdtype(stored, mx.floating) and mx.issubdtype(wanted, mx.floating)
    return floats or stored == wanted


def in_half(tensors: dict[str, mx.array], dtype: mx.Dtype = mx.float16) -> dict[str, mx.array]:
    """Tensors to store: matrices and kernels in 16 bits, all else as it is.

    Vectors keep their width, for they are few, and a norm's variance may not fit into float16.

    Args:
        tensors: by name.
        dtype: float16 or bfloat16.

    Raises:
        InputError: a weight is too large for the type.
    """
    half = {
        name: value.astype(dtype) if value.ndim > 1 and value.dtype == mx.float32 else value
        for name, value in tensors.items()
    }
    require_range(half, dtype)
    return half


def require_range(tensors: dict[str, mx.array], dtype: mx.Dtype) -> None:
    """Refuse weights that have become infinite in a narrower type.

    Raises:
        InputError: one of the tensors of this type has such a weight.
    """
    for name, value in tensors.items():
        if value.dtype == dtype and not mx.isfinite(value).all().item():
            raise InputError(
                f"{name} has weights that {dtype_name(dtype)} cannot hold; keep float32"
            )


def save_pretrained(
    model: Estimator, path: str | Path, half: bool = False, dtype: mx.Dtype = mx.float16
) -> None:
    """Write a network: to a `.safetensors` file, or to a folder in the hub's form.

    The folder form is `config.json` and, for other programs, `preprocessor_config.json` beside
    `model.safetensors`.

    Args:
        model: the network.
        path: ends in `.safetensors`, or names a folder.
        half: store it in about half the bytes, see `in_half`; it is read back as float32.
        dtype: the type of 16 bits.
    """
    path = Path(path)
    config = model.config.to_dict()
    if model.quantization is not None:
        config["quantization"] = model.quantization.to_dict()
    tensors = in_half(tensors_of(model), dtype) if half else tensors_of(model)
    if path.suffix == ".safetensors":
        save_tensors(path, tensors, config)
        return
    write_json(path / "preprocessor_config.json", preprocessor_config(model.config))
    save_tensors(path / "model.safetensors", tensors, config)
    write_json(path / "config.json", config)


def preprocessor_config(config: ModelConfig) -> dict[str, Any]:
    """What a network is fed with, for other programs: `config.json` says all of it."""
    if config.inputs.landmarks:
        return {"landmarks": config.inputs.landmarks, "do_resize": False, "do_normalize": False}
    return config.preprocessing.image_processor()


@in_lasting_thread
def from_pretrained(source: str | Path, revision: str | None = None) -> Estimator:
    """A network that estimates poses; see `load_network`.

    Raises:
        InputError: it is a head detector, or cannot be loaded.
    """
    model = load_network(source, revision)
    if model.config.model_type in DETECTORS:
        raise InputError(f"{source}: finds heads and estimates no pose; give it as --detector")
    return model


def load_network(source: str | Path, revision: str | None = None) -> Estimator:
    """A network in evaluation mode, from a `.safetensors` file, a folder, or a hub id.

    Args:
        source: a file, a folder with `config.json` and `model.safetensors`, or `owner/name` on the
            Hugging Face hub, which needs the package `huggingface_hub`. What was fetched once is
            kept, and read without a network where HF_HUB_OFFLINE=1 is set.
        revision: branch, tag or commit on the hub; None means its main branch.

    Raises:
        InputError: it is missing, damaged, or does not fit the network that its config names.
    """
    path = Path(source)
    if is_hub_id(source):
        path = fetch_from_hub(str(source), ["config.json", "*.safetensors"], revision)
    else:
        refuse_revision(source, revision)
    if path.is_dir():
        about = path / "config.json"
        config = read_json(about, "is missing; give a .safetensors file")
        path = path / "model.safetensors"
        _require_config_of(path, config, about)
    else:
        config = read_config(path)
    quantization = config.pop("quantization", None) if isinstance(config, dict) else None
    try:
        model = build(config_from_dict(config))
        if quantization is not None:
            restructure(model, Quantization.from_dict(quantization))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    load_strictly(model, load_tensors(path), path)
    model.eval()
    return model


def _require_config_of(path: Path, config: Any, about: Path) -> None:
    """Refuse a folder's config that is not of its weights, as after a crash between the two.

    Raises:
        InputError: the weights say another one.
    """
    try:
        own = read_config(path)
    except InputError:  # another program wrote the weights, or they are broken, which loading says
        return
    if own != config:
        raise InputError(f"{about}: is not of the network in {path.name}; save the network again")


def is_hub_id(source: str | Path) -> bool:
    """Whether a name is of the form `owner/name`, and of no file or folder here."""
    path = Path(source)
    return not path.exists() and path.suffix != ".safetensors" and str(source).count("/") == 1


def refuse_revision(source: str | Path, revision: str | None) -> None:
    """Refuse a revision of what is not on the hub.

    Raises:
        InputError: there is one.
    """
    if revision is not None:
        raise InputError(f"{source}: is on this machine, where no revision is chosen")


def fetch_from_hub(name: str, patterns: list[str], revision: str | None = None) -> Path:
    """The folder of a hub's repository in the hub's cache, fetched where it is not there yet.

    Args:
        name: `owner/name`.
        patterns: names of the files to fetch, with wildcards.
        revision: branch, tag or commit; None means the main branch.

    Raises:
        InputError: it cannot be fetched, or huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        raise InputError(
            f"{name}: no such file or folder; if it is a hub id, run `pip install huggingface_hub`"
        ) from None
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub client has no common base class of its errors
        at = f" at revision {revision}" if revision else ""
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: cannot be fetched from the hub{at} ({reason})") from None
