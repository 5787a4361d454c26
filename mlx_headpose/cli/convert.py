"""`convert.py`: a published checkpoint → `.safetensors`, or a folder as the hub has them."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import require_apart
from ..places import new_weights
from .options import Parser, refuse

if TYPE_CHECKING:
    from ..core.checkpoint import Conversion
    from ..export.hub import Origin

DTYPES = ("float32", "float16", "bfloat16")
OF_FOLDERS = "is for --mlx-path"
# What is said of a published checkpoint, and nothing of a network that was converted already.
OF_CHECKPOINTS = ("norm", "fold", "protocol", "state")


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    options, given = parse(program, arguments)

    from ..convert import convert_file, download
    from ..export import hub
    from ..readers.checkpoint_file import SUFFIXES

    if options.list:
        print(download.table())
        return
    path = Path(options.weight)
    named = not path.exists() and path.parent == Path() and path.suffix not in SUFFIXES
    if named:
        if options.revision:
            raise InputError("--revision is for repositories of the hub")
        entry = download.find(options.weight)
        origin = hub.published_origin(entry.name, download.fetch(entry, options.trust))
        print(f"licence of {entry.name}: {entry.licence}")
        options.protocol = options.protocol or entry.protocol
        name = entry.name
    else:
        origin = hub.find_origin(options.weight, options.revision)
        name = path.stem
    converted = hub.in_hub_form(origin.path)
    if converted:
        refuse(given, OF_CHECKPOINTS, "is for checkpoints of other programs")
    output = Path(options.mlx_path or options.output or new_weights(f"{name}.safetensors"))
    written = [output, *(output / file for file in hub.WRITTEN)] if options.mlx_path else [output]
    require_apart([origin.path, origin.path / "model.safetensors"], written)
    if not (converted or options.mlx_path or options.quantize or options.dtype != "float32"):
        conversion = convert_file(origin.path, output, *_how(options))
        _print_recognised(conversion)
        print(f"wrote {output} ({len(conversion.tensors)} tensors)")
        _print_left_out(conversion)
        return
    write(options, origin, output, converted)


def parse(program: str, arguments: list[str]) -> tuple[argparse.Namespace, set[str]]:
    """The options, and the names of those that the arguments give."""
    parser = Parser(program, "Turn a published checkpoint into .safetensors, or a hub's folder.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--weight",
        "--hf-path",
        help="the published file (PyTorch, Keras, NumPy, ONNX or MLX), the folder of its parts, "
        "the name of one to download, a repository of the Hugging Face hub (owner/name), or a "
        "folder that this command wrote",
    )
    source.add_argument(
        "--list", action="store_true", help="show the published checkpoints that have a name"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="download also what has no published checksum, so that nothing can verify it",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--output",
        help="file to write; by default <name of the file>.safetensors in weights/ or, without a "
        "checkout or such a folder here, in the user's own folder ($MLX_HEADPOSE_WEIGHTS)",
    )
    target.add_argument(
        "--mlx-path",
        help="folder to write as the hub has them: config.json, preprocessor_config.json, "
        "model.safetensors and a model card",
    )
    parser.add_argument(
        "--norm",
        choices=("batch", "group"),
        default="batch",
        help="normalisation of the ResNet that an ImageNet backbone is meant for",
    )
    parser.add_argument(
        "--fold",
        action="store_true",
        help="fold each layer's parallel branches into one convolution (RepVGG's deploy form)",
    )
    parser.add_argument(
        "--protocol",
        help="protocol by which the network is used, where publishers share a layout; -full behind "
        "its name gives heads from behind a yaw beyond 90 degrees; by default told by the name",
    )
    parser.add_argument(
        "--state",
        help="state dict to take of a file that holds several; by default the running average "
        "(model_state_dict_ema), if there is one",
    )
    smaller = parser.add_argument_group("smaller files")
    smaller.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type to store matrices and kernels in; every network computes in float32",
    )
    smaller.add_argument(
        "-q",
        "--quantize",
        action="store_true",
        help="MLX's own quantised weights, in groups of 32",
    )
    smaller.add_argument("--q-bits", type=int, choices=(4, 8), default=4, help="bits of -q")
    upload = parser.add_argument_group("the Hugging Face hub (pip install huggingface_hub)")
    upload.add_argument("--revision", help="branch, tag or commit of the repository to convert")
    upload.add_argument(
        "--upload-repo",
        metavar="OWNER/NAME",
        help="repository to put the folder of --mlx-path into; it is made if need be",
    )
    upload.add_argument(
        "--licence", help="of the weights, for the model card; by default what is known here"
    )
    options, given = parser.parse_given(arguments)
    if not options.mlx_path:
        refuse({name.replace("_", "-") for name in given}, ("upload-repo", "licence"), OF_FOLDERS)
    if not options.quantize:
        refuse({name.replace("_", "-") for name in given}, ("q-bits",), "is for -q")
    if options.quantize and options.dtype != "float32":
        raise InputError("-q decides how weights are stored; leave out --dtype")
    if options.mlx_path and Path(options.mlx_path).is_file():
        raise InputError(f"{options.mlx_path}: is a file; name a folder, or give it as --output")
    return options, given


def write(options: argparse.Namespace, origin: Origin, output: Path, converted: bool) -> None:
    """Write a network in the form that the options ask for, and upload it if they do.

    Args:
        options: see `parse`.
        origin: where the network comes from.
        output: file or folder to write.
        converted: whether it is in the hub's form already.
    """
    import mlx.core as mx

    from ..convert import network_of, read_conversion
    from ..export import hub
    from ..quantization import fold_branches, quantize_weights
    from ..weights import load_network

    conversion = None
    if converted:
        model = load_network(origin.path)
        print(f"recognised: {model.config.model_type}, converted already")
    else:
        conversion = read_conversion(origin.path, *_how(options))
        _print_recognised(conversion)
        model = network_of(conversion, origin.path)
    if options.quantize:
        if model.quantization is not None:
            raise InputError(f"{origin.name}: is quantised already; leave out -q")
        inputs: Any = model.config.inputs.example(2)
        model = quantize_weights(fold_branches(model), options.q_bits, inputs)
    dtype = None if options.dtype == "float32" else getattr(mx, options.dtype)
    if options.mlx_path:
        if options.licence:
            origin = replace(origin, licence=options.licence)
        hub.write_folder(model, output, origin, dtype, options.upload_repo)
    else:
        hub.write_network(model, output, origin, dtype)
    print(f"wrote {output}")
    if conversion is not None:
        _print_left_out(conversion)
    if options.upload_repo:
        print(f"uploaded: {hub.upload(output, options.upload_repo)}")


def _how(options: argparse.Namespace) -> tuple[str, bool, str | None, str | None]:
    return options.norm, options.fold, options.protocol, options.state


def _print_recognised(conversion: Conversion) -> None:
    print(f"recognised: {conversion.description}")
    if len(conversion.protocols) > 1:
        others = [name for name in conversion.protocols if name != conversion.protocol]
        print(
            f"protocol: {conversion.protocol}; networks of {' and '.join(others)} have the same "
            "names and arithmetic: --protocol tells them apart"
        )


def _print_left_out(conversion: Conversion) -> None:
    for why, count in Counter(conversion.left_out.values()).items():
        names = [name for name, reason in conversion.left_out.items() if reason == why]
        more = f", ... ({count} in all)" if count > 2 else ""
        print(f"left out: {', '.join(names[:2])}{more}: {why}")
