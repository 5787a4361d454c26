"""`python -m mlx_headpose.data.synthetic sheet.png`: a sheet of 48 synthetic heads."""

from __future__ import annotations

import argparse

from PIL import Image

from ...files import atomic_path
from . import SyntheticHeads

COLUMNS, ROWS = 8, 6


def sheet(heads: SyntheticHeads) -> Image.Image:
    """The first samples side by side."""
    side = heads.size
    picture = Image.new("RGB", (COLUMNS * side, ROWS * side))
    for index in range(min(COLUMNS * ROWS, len(heads))):
        row, column = divmod(index, COLUMNS)
        picture.paste(heads.image(index), (column * side, row * side))
    return picture


def main() -> None:
    """Draw the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="picture to write, such as sheet.png")
    parser.add_argument("--size", type=int, default=128, help="side of each head (default: 128)")
    parser.add_argument("--yaw", type=float, default=90, help="largest yaw (default: 90)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    heads = SyntheticHeads(
        COLUMNS * ROWS, "val", args.seed, size=args.size, yaw=(-args.yaw, args.yaw)
    )
    with atomic_path(args.output) as temporary:
        sheet(heads).save(temporary)


if __name__ == "__main__":
    main()
