"""`mlx-headpose makehuman`: a head model for synthetic heads from MakeHuman's data folder."""

from __future__ import annotations

from pathlib import Path

from ..files import require_writable
from .options import Parser


def run(program: str, arguments: list[str]) -> None:
    """Write the file that `--mesh` reads."""
    parser = Parser(program, "Make a head model (.npz) for --mesh from MakeHuman's data folder")
    parser.add_argument("folder", type=Path, help="MakeHuman's folder, or its data folder")
    parser.add_argument("--output", type=Path, required=True, help="file to write (.npz)")
    options = parser.parse_args(arguments)
    require_writable(options.output)
    from ..readers.makehuman import make_head_model

    found = make_head_model(options.folder, options.output)
    counts = ", ".join(f"{count} {what}" for what, count in found.items())
    print(f"wrote {options.output} ({counts})")
