"""Look at synthetic heads, or render a set of them to disk.

`python -m mlx_headpose.synthetic sheet.png` draws a sheet of heads;
`python -m mlx_headpose.synthetic render --count N --out FOLDER` renders a set.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from PIL import Image

from ..cli.options import positive
from ..errors import InputError
from ..files import atomic_path
from . import SyntheticHeads
from .dataset import Range
from .effects import GROUPS, without
from .render import Settings, part_folder, render_set

COLUMNS = 8


def sheet(heads: SyntheticHeads) -> Image.Image:
    """All samples side by side."""
    side, rows = heads.size, -(-len(heads) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * side, rows * side))
    for index in range(len(heads)):
        row, column = divmod(index, COLUMNS)
        picture.paste(heads.draw(index), (column * side, row * side))
    return picture


def _add_looks(parser: argparse.ArgumentParser, size: int) -> None:
    parser.add_argument("--mesh", type=Path, help="head model (default: the built-in heads)")
    parser.add_argument(
        "--identities",
        type=positive,
        help="people of the head model (default: another one in each picture)",
    )
    parser.add_argument(
        "--poses",
        choices=("natural", "uniform"),
        help="how poses are spread: denser where people's heads are, or evenly (default: natural "
        "with --mesh, and without only uniform)",
    )
    parser.add_argument(
        "--size", type=positive, default=size, help=f"side of each picture (default: {size})"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--camera_without",
        type=without,
        help="camera effects to leave out, with commas between, or none to leave none out; of "
        f"{', '.join(GROUPS)} (default: none with --mesh, the plain camera without)",
    )


def draw_sheet(arguments: list[str]) -> None:
    """Draw the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Draw a sheet of synthetic heads. (The word render in the place of the "
        "picture renders a set instead; render --help tells how.)"
    )
    parser.add_argument("output", help="picture to write, such as sheet.png")
    parser.add_argument("--count", type=positive, default=48, help="heads (default: 48)")
    parser.add_argument("--yaw", type=float, default=90, help="largest yaw (default: 90)")
    _add_looks(parser, size=128)
    args = parser.parse_args(arguments)
    limits = {"yaw": (-args.yaw, args.yaw), "pitch": (-40.0, 40.0), "roll": (-40.0, 40.0)}
    settings = _settings(args, "val", limits)
    if Path(args.output).suffix.lower() not in Image.registered_extensions():
        raise InputError(f"{args.output}: no picture's name; end it in .png, or say render --out")
    with atomic_path(args.output) as temporary:
        sheet(settings.heads(args.count)).save(temporary)


def render(arguments: list[str]) -> None:
    """Render the set that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m mlx_headpose.synthetic render",
        description="Render synthetic heads to disk, for --dataset rendered --data_dir FOLDER. "
        "Ctrl-C stops; the same command goes on. A larger --count adds to what is there.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--count", type=positive, required=True, help="heads")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument(
        "--part",
        type=_part,
        help="name of a further part of the split, such as one of other poses; give it a --seed of "
        "its own (default: none)",
    )
    _add_looks(parser, size=160)
    for angle, largest in (("yaw", 180.0), ("pitch", 50.0), ("roll", 50.0)):
        parser.add_argument(
            f"--{angle}",
            type=float,
            nargs=2,
            metavar=("LOW", "HIGH"),
            default=(-largest, largest),
            help=f"degrees (default: {-largest:g} {largest:g})",
        )
    parser.add_argument("--workers", type=positive, help="processes (default: one per core)")
    args = parser.parse_args(arguments)
    limits = {angle: tuple(getattr(args, angle)) for angle in ("yaw", "pitch", "roll")}
    settings = _settings(args, args.split, limits)
    try:
        new = render_set(settings, args.count, args.out, args.workers, args.part or "")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second one says nothing new
        print("Stopped; what was rendered is listed. The same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    folder = args.out / part_folder(args.split, args.part or "")
    print(f"{args.count} heads in {folder}, {new} of them new")


def _part(text: str) -> str:
    if not text.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} must be letters and digits")
    return text


def _settings(args: argparse.Namespace, split: str, limits: dict[str, Range]) -> Settings:
    mesh, camera_without = args.mesh, args.camera_without
    if mesh is not None and camera_without is None:
        camera_without = ()
    if mesh is None and (args.identities or args.poses == "natural"):
        raise InputError("--identities and --poses natural need --mesh")
    for angle, (low, high) in limits.items():
        most = 90 if angle == "pitch" else 180
        if not -most <= low <= high <= most:
            raise InputError(f"--{angle} {low:g} {high:g}: give two angles from {-most} to {most}")
    return Settings(
        args.seed,
        split,
        args.size,
        **limits,
        mesh=mesh,
        identities=args.identities,
        natural=mesh is not None and args.poses != "uniform",
        camera_without=camera_without,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["render"]:
            render(arguments[1:])
        else:
            draw_sheet(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
