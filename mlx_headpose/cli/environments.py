"""`mlx-headpose environments`: places that light and surround rendered heads."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from ..errors import InputError
from ..files import visible
from .options import Parser


def run(program: str, arguments: list[str]) -> None:
    """Write the folder that `render --environments` reads."""
    parser = Parser(program, "Make a folder for --environments from panoramas of Poly Haven (.hdr)")
    parser.add_argument("folder", type=Path, help="folder of panoramas (.hdr)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write, or replace")
    parser.add_argument(
        "--light_only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="panoramas, without .hdr, that only light heads, such as those that show people",
    )
    options = parser.parse_args(arguments)
    from ..synthetic.panoramas import write_environments

    found = [path for path in visible(options.folder, "*") if path.suffix.lower() == ".hdr"]
    if not found:
        raise InputError(f"{options.folder}: holds no panorama (.hdr); download some")
    count = write_environments(
        tqdm(found, unit="panorama", disable=None), options.output, options.light_only
    )
    print(f"wrote {options.output} ({count} panoramas)")
