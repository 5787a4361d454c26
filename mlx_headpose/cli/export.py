"""`export.py`: a network in another form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ..errors import InputError
from ..export.hub import WRITTEN, origin_of, write_network
from ..export.metadata import network_name
from ..export.mlxfn import READERS, export_mlxfn, metadata_path, usual_device
from ..files import require_apart
from ..inference.estimator import find_network
from ..quantization import fold_branches
from ..weights import for_inference, from_pretrained
from .options import Parser, positive, refuse
from .quantize import CALIBRATION, add_options, write_quantized

# format → the ending of its file.
FORMATS = {
    "safetensors": ".safetensors",
    "mlxfn": ".mlxfn",
    "onnx": ".onnx",
    "coreml": ".mlpackage",
    "torch": ".pkl",
}
FUNCTIONS = ("mlxfn", "onnx", "coreml")  # formats that hold no more than pixels in, angles out
OTHERS = {*FORMATS.values()} - {".safetensors"}
DTYPES = {"float32": mx.float32, "float16": mx.float16}
MLXFN = "is for --format mlxfn"


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    parser = Parser(program, "Hand a network on, as it is or with smaller weights.")
    parser.add_argument(
        "--snapshot",
        "--model_path",
        help=".safetensors file, folder, hub id, or name in weights/; by default the bundled "
        "network",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="safetensors",
        help="safetensors: our own; mlxfn: one function for MLX's C++ and Swift libraries, uint8 "
        "pixels in, angles out; onnx: the same for other runtimes; coreml: the same for Apple's "
        "Core ML, one image at a time; torch: a checkpoint that the method's published PyTorch "
        "code loads, for some methods",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="file to write, or, for safetensors, a folder for the hub's form (config.json beside "
        "model.safetensors); by default weights/<name>[-<quantisation>].<format>, with the "
        "training's name for its best.safetensors",
    )
    parser.add_argument(
        "--for",
        dest="reader",
        choices=READERS,
        default="mlx-swift",
        help="what reads a .mlxfn: no file is read by all. "
        + "; ".join(f"{name}: {reader.who}" for name, reader in READERS.items()),
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        help="where the reader of a .mlxfn computes, which the file decides; by default the GPU "
        "for mlx-swift, else this machine's",
    )
    parser.add_argument(
        "--licence",
        help="of the weights, for the metadata of mlxfn, onnx and coreml and the model card of a "
        "folder; by default what is known here",
    )
    parser.add_argument(
        "--batch_size",
        type=positive,
        help="images that an ONNX file takes at once; by default any number",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="in which the backbone of an ONNX or Core ML file computes; images, the pose head, "
        "decoding and angles stay as they are; by default float32 for onnx, and float16 for coreml "
        "where the network reads images and is not quantised",
    )
    parser.add_argument(
        "--fold",
        action="store_true",
        help="fold each layer's parallel branches into one convolution (RepVGG's deploy form); "
        "mlxfn, onnx and coreml always do",
    )
    add_options(parser)
    options, given = parser.parse_given(arguments)
    if options.quantize and options.format != "safetensors":
        raise InputError("--quantize writes safetensors; export that file in a second call")
    if options.format != "onnx":
        refuse(given, ("batch_size",), "is for --format onnx")
    if options.format not in ("onnx", "coreml"):
        refuse(given, ("dtype",), "is for --format onnx and coreml")
    if options.format != "mlxfn":
        refuse({"for" if name == "reader" else name for name in given}, ("for", "device"), MLXFN)
    if not options.quantize:
        refuse(given, CALIBRATION, "is for --quantize")
    network = find_network(options.snapshot)
    ending = f"-{options.quantize}" if options.quantize else ""
    name = network_name(network)
    output = options.output or Path("weights") / f"{name}{ending}{FORMATS[options.format]}"
    require_ending(output, options.format)
    if output.suffix in (".safetensors", ".pkl"):
        refuse(given, ("licence",), "is for --format mlxfn, onnx and coreml, and for folders")
    written = [output, metadata_path(output), *(output / file for file in WRITTEN)]
    require_apart([network, Path(network) / "model.safetensors"], written)
    origin = origin_of(network)
    origin = replace(origin, licence=options.licence or origin.licence)
    model = for_inference(from_pretrained(network))
    if options.fold:
        model = fold_branches(model)
    if options.quantize:
        write_quantized(model, options, output, origin)
        return
    licence = origin.licence
    if options.format == "mlxfn":
        device = options.device or usual_device(options.reader)
        export_mlxfn(
            model, output, reader=options.reader, device=device, name=name, licence=licence
        )
        print(f"wrote {output} and {metadata_path(output).name}, for {READERS[options.reader].who}")
        where = "GPU" if device == "gpu" else "CPU"
        print(f"It computes on the {where} wherever it is read. --for and --device change either.")
    elif options.format == "onnx":
        from ..export.onnx import IR_VERSION, OPSET, export_onnx

        batch_size = options.batch_size
        dtype = DTYPES[options.dtype or "float32"]
        export_onnx(model, output, batch_size, name, licence, dtype)
        images = "any batch size" if batch_size is None else f"batch size {batch_size}"
        print(f"wrote {output}: opset {OPSET}, IR version {IR_VERSION}, {images}")
    elif options.format == "coreml":
        from ..export.coreml import TARGET, export_coreml, outside_neural_engine

        given_dtype = DTYPES[options.dtype] if options.dtype else None
        about = export_coreml(model, output, name, licence, given_dtype)
        print(f"wrote {output}: ML program for {TARGET}, {about['arithmetic']}")
        counts = [f"{count} {kind}" for kind, count in outside_neural_engine(output).most_common()]
        print(f"outside the Neural Engine's known operations: {', '.join(counts) or 'none'}")
    elif options.format == "torch":
        from ..convert import write_torch

        write_torch(model, output)
        print(f"wrote {output}")
    else:
        write_network(model, output, origin)
        print(f"wrote {output}")
    if options.format in FUNCTIONS:
        print(f"It reads {model.config.inputs}; docs/export.md says how to make them.")


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
