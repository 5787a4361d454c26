"""`export.py`: a network in another form."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..weights import from_pretrained, save_pretrained
from .options import Parser
from .quantize import add_options, write_quantized


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    parser = Parser(program, "Hand a network on, as it is or with smaller weights.")
    parser.add_argument(
        "--snapshot", "--model_path", required=True, help=".safetensors file, folder or hub id"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=".safetensors file, or a folder for the hub's form (config.json beside "
        "model.safetensors); by default weights/<name>[-<quantisation>].safetensors",
    )
    parser.add_argument(
        "--format",
        choices=("safetensors", "torch"),
        default="safetensors",
        help="ours, or a .pkl that the method's published PyTorch code loads (pyramid, tokenhpe)",
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    model = from_pretrained(options.snapshot)
    ending = f"-{options.quantize}" if options.quantize else ""
    suffix = "pkl" if options.format == "torch" else "safetensors"
    output = options.output or Path(f"weights/{Path(options.snapshot).stem}{ending}.{suffix}")
    if options.format == "torch":
        if options.quantize:
            raise InputError("--format torch holds plain weights; leave --quantize out")
        from ..convert import write_torch

        write_torch(model, output)
        print(f"wrote {output}")
    elif options.quantize:
        write_quantized(model, options, output)
    else:
        save_pretrained(model, output)
        print(f"wrote {output}")
