"""`convert.py`: a published checkpoint → `.safetensors`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..files import require_apart
from ..places import new_weights
from .options import Parser

# A name that ends like a file is a file, even one that is missing.
SUFFIXES = {".pkl", ".pth", ".pt", ".h5", ".hdf5", ".npy", ".npz", ".onnx", ".safetensors"}


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    parser = Parser(program, "Turn a published checkpoint into .safetensors.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--weight",
        help="the published file (PyTorch, Keras, NumPy, ONNX or MLX), the folder of its parts, or"
        " the name of one to download",
    )
    source.add_argument(
        "--list", action="store_true", help="show the published checkpoints that have a name"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="download also what has no published checksum, so that nothing can verify it",
    )
    parser.add_argument(
        "--output",
        help="file to write; by default <name of the file>.safetensors in weights/ or, without a "
        "checkout or such a folder here, in the user's own folder ($MLX_HEADPOSE_WEIGHTS)",
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
    options = parser.parse_args(arguments)

    from ..convert import convert_file, download

    if options.list:
        print(download.table())
        return
    path, protocol = Path(options.weight), options.protocol
    output = Path(options.output or new_weights(f"{path.stem}.safetensors"))
    if not path.exists() and path.parent == Path() and path.suffix not in SUFFIXES:
        entry = download.find(options.weight)
        output = Path(options.output or new_weights(f"{entry.name}.safetensors"))
        path = download.fetch(entry, options.trust)
        print(f"licence of {entry.name}: {entry.licence}")
        protocol = protocol or entry.protocol
    require_apart([path], [output])
    conversion = convert_file(path, output, options.norm, options.fold, protocol, options.state)
    print(f"recognised: {conversion.description}")
    if len(conversion.protocols) > 1:
        others = [name for name in conversion.protocols if name != conversion.protocol]
        print(
            f"protocol: {conversion.protocol}; networks of {' and '.join(others)} have the same "
            "names and arithmetic: --protocol tells them apart"
        )
    print(f"wrote {output} ({len(conversion.tensors)} tensors)")
    for why, count in Counter(conversion.left_out.values()).items():
        names = [name for name, reason in conversion.left_out.items() if reason == why]
        more = f", ... ({count} in all)" if count > 2 else ""
        print(f"left out: {', '.join(names[:2])}{more}: {why}")
