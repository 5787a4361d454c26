"""`mlx-headpose makehuman`: a head model for synthetic heads from MakeHuman's data folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import atomic_path, require_writable
from .options import Parser


def run(program: str, arguments: list[str]) -> None:
    """Write the file that `--mesh` reads."""
    parser = Parser(program, "Make a head model (.npz) for --mesh from MakeHuman's data folder")
    parser.add_argument("folder", type=Path, help="MakeHuman's folder, or its data folder")
    parser.add_argument("--output", type=Path, required=True, help="file to write (.npz)")
    options = parser.parse_args(arguments)
    require_writable(options.output)
    from ..readers.makehuman import read_makehuman

    arrays = read_makehuman(options.folder)
    with atomic_path(options.output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    assets = sum(name.startswith("asset/") and name.endswith("/quads") for name in arrays)
    print(
        f"wrote {options.output} ({len(arrays['vertices'])} vertices, "
        f"{len(arrays['target_names'])} targets, {assets} assets)"
    )
