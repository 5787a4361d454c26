"""`mlx-headpose textures`: surfaces of the things, walls and clothes in rendered scenes."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from ..errors import InputError
from ..files import visible
from .options import Parser

PICTURES = {".jpg", ".jpeg", ".png"}


def is_colour(path: Path) -> bool:
    """Whether a file shows a surface as it looks.

    Of ambientCG's materials only Bricks012_1K-JPG_Color.jpg does, the others hold heights and
    normals; its previews are Bricks012.png.
    """
    whole = "_" not in path.stem or path.stem.endswith("_Color")
    return whole and path.suffix.lower() in PICTURES


def run(program: str, arguments: list[str]) -> None:
    """Write the folder that `render --textures` reads."""
    parser = Parser(program, "Make a folder for --textures from pictures of surfaces")
    parser.add_argument(
        "folder",
        type=Path,
        help="pictures named by kind and number, such as Bricks012.png; ambientCG's previews are",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write, or replace")
    options = parser.parse_args(arguments)
    from ..synthetic.scenes.textures import write_textures

    found = [path for path in visible(options.folder, "*") if is_colour(path)]
    if not found:
        raise InputError(f"{options.folder}: holds no picture; download some textures")
    kinds = write_textures(tqdm(found, unit="picture", disable=None), options.output)
    print(f"wrote {options.output} ({sum(kinds.values())} textures of {len(kinds)} kinds)")
