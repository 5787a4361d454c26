"""`convert.py`: a published checkpoint → `.safetensors`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .options import Parser


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    parser = Parser(program, "Turn a published checkpoint into .safetensors.")
    parser.add_argument(
        "--weight",
        required=True,
        help="the published file (PyTorch, Keras, NumPy or MLX), or the folder of its parts",
    )
    parser.add_argument(
        "--output", help="file to write; by default weights/<name of the file>.safetensors"
    )
    parser.add_argument(
        "--norm",
        choices=("batch", "group"),
        default="batch",
        help="normalisation of the ResNet that an ImageNet backbone is meant for",
    )
    options = parser.parse_args(arguments)

    from mlx_headpose.convert import convert_file

    output = Path(options.output or f"weights/{Path(options.weight).stem}.safetensors")
    conversion = convert_file(options.weight, output, options.norm)
    print(f"recognised: {conversion.description}")
    print(f"wrote {output} ({len(conversion.tensors)} tensors)")
    for why, count in Counter(conversion.left_out.values()).items():
        names = [name for name, reason in conversion.left_out.items() if reason == why]
        more = f", ... ({count} in all)" if count > 2 else ""
        print(f"left out: {', '.join(names[:2])}{more}: {why}")
