"""`export.py`: a network in another form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..export.mlxfn import export_mlxfn
from ..files import require_apart
from ..inference.estimator import find_network
from ..methods import Estimator
from ..weights import from_pretrained, save_pretrained
from .options import Parser, positive, refuse
from .quantize import CALIBRATION, add_options, write_quantized

# format → the ending of its file.
FORMATS = {
    "safetensors": ".safetensors",
    "mlxfn": ".mlxfn",
    "onnx": ".onnx",
    "torch": ".pkl",
}
FUNCTIONS = ("mlxfn", "onnx")  # formats that hold no more than pixels in, angles out
OTHERS = {*FORMATS.values()} - {".safetensors"}


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    parser = Parser(program, "Hand a network on, as it is or with smaller weights.")
    parser.add_argument(
        "--snapshot",
        "--model_path",
        required=True,
        help=".safetensors file, folder, hub id, or name in weights/",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="safetensors",
        help="safetensors: our own; mlxfn: one function for MLX's C++ and Swift libraries, uint8 "
        "pixels in, angles out; onnx: the same for other runtimes; torch: a "
        "checkpoint that the method's published PyTorch code loads, for some methods",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="file to write, or, for safetensors, a folder for the hub's form (config.json beside "
        "model.safetensors); by default weights/<name>[-<quantisation>].<format>",
    )
    parser.add_argument(
        "--batch_size", type=positive, default=1, help="images that an ONNX file takes at once"
    )
    add_options(parser)
    options, given = parser.parse_given(arguments)
    if options.quantize and options.format != "safetensors":
        raise InputError("--quantize writes safetensors; export that file in a second call")
    if options.format != "onnx":
        refuse(given, ("batch_size",), "is for --format onnx")
    if not options.quantize:
        refuse(given, CALIBRATION, "is for --quantize")
    network = find_network(options.snapshot)
    ending = f"-{options.quantize}" if options.quantize else ""
    name = f"{Path(network).stem}{ending}{FORMATS[options.format]}"
    output = options.output or Path("weights") / name
    require_ending(output, options.format)
    require_apart([network], [output, output / "model.safetensors"])
    model = from_pretrained(network)
    if options.quantize:
        write_quantized(model, options, output)
        return
    writer(options.format, options.batch_size)(model, output)
    print(f"wrote {output}")
    if options.format in FUNCTIONS:
        print(f"It reads {model.config.inputs}.")


def require_ending(output: Path, form: str) -> None:
    """See that a file's ending is its format's, or, for a folder of safetensors, nobody's.

    Raises:
        InputError: it is another format's.
    """
    wanted = FORMATS[form]
    if output.suffix == wanted or (form == "safetensors" and output.suffix not in OTHERS):
        return
    for other, ending in FORMATS.items():
        if output.suffix == ending:
            raise InputError(f"{output}: ends like another format; add --format {other}")
    raise InputError(f"{output}: a file of --format {form} ends in {wanted}")


def writer(form: str, batch_size: int) -> Callable[[Estimator, Path], object]:
    """The function that writes a network in a format."""
    if form == "mlxfn":
        return export_mlxfn
    if form == "onnx":
        from ..export.onnx import export_onnx

        return lambda model, path: export_onnx(model, path, batch_size)
    if form == "torch":
        from ..convert import write_torch

        return write_torch
    return save_pretrained
