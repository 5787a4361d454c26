"""`mlx-headpose render`: synthetic heads, as a set on disk or as one sheet to look at."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import InputError
from ..files import atomic_path
from .options import Parser, positive

if TYPE_CHECKING:
    from ..synthetic.dataset import SyntheticHeads
    from ..synthetic.render_set import Settings

COLUMNS = 8
ANGLES = ("yaw", "pitch", "roll")
STEEP = (180.0, 80.0, 95.0)  # largest angles with --poses wide
# Count, split, side of an image in pixels, and largest angles, where the command line gives none.
SET, SHEET = (None, "train", 160, (180.0, 50.0, 50.0)), (48, "val", 128, (90.0, 40.0, 40.0))


def run(program: str, arguments: list[str]) -> None:
    """Render the set or the sheet that the command line asks for."""
    args = _parser(program).parse_args(arguments)
    from ..synthetic.render_set import Settings

    count, split, size, largest = SHEET if args.out is None else SET
    count = args.count or count
    if count is None:
        raise InputError("--out needs --count, the number of heads")
    if args.out is None and (args.part or args.workers):
        raise InputError("--part and --workers are for --out; leave them out")
    if args.mesh is None and (args.identities or args.poses in ("natural", "wide")):
        raise InputError("--identities and --poses natural or wide need --mesh")
    if args.poses == "wide":
        largest = STEEP
    limits = {}
    for angle, default in zip(ANGLES, largest, strict=True):
        low, high = limits[angle] = tuple(getattr(args, angle) or (-default, default))
        most = 90 if angle == "pitch" else 180
        if not -most <= low <= high <= most:
            raise InputError(f"--{angle} {low:g} {high:g}: give two angles from {-most} to {most}")
    from ..synthetic.effects import without

    camera = args.camera_without or ("none" if args.mesh else None)
    settings = Settings(
        args.seed,
        args.split or split,
        args.size or size,
        **limits,
        mesh=args.mesh,
        identities=args.identities,
        natural=args.mesh is not None and args.poses != "uniform",
        tilted=args.poses == "wide",
        camera_without=None if camera is None else without(camera),
    )
    if args.out is None:
        _write_sheet(args.sheet, settings.heads(count))
    else:
        _write_set(args, settings, count)


def sheet(heads: SyntheticHeads) -> Image.Image:
    """All samples side by side."""
    side, rows = heads.size, -(-len(heads) // COLUMNS)
    image = Image.new("RGB", (COLUMNS * side, rows * side))
    for index in range(len(heads)):
        row, column = divmod(index, COLUMNS)
        image.paste(heads.rendered(index)[0], (column * side, row * side))
    return image


def _write_sheet(path: Path, heads: SyntheticHeads) -> None:
    if path.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"{path}: not an image's name; end it in .png")
    with atomic_path(path) as temporary:
        sheet(heads).save(temporary)


def _write_set(args: argparse.Namespace, settings: Settings, count: int) -> None:
    from ..synthetic.render_set import part_folder, render_set

    try:
        new = render_set(settings, count, args.out, args.workers, args.part or "")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second one says nothing new
        print("Stopped; what was rendered is listed. The same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    folder = args.out / part_folder(settings.split, args.part or "")
    print(f"{count} heads in {folder}, {new} of them new")


def _parser(program: str) -> Parser:
    parser = Parser(
        program,
        "Render synthetic heads: to a folder, for --dataset rendered --data_dir FOLDER, or side by "
        "side into one image. Ctrl-C stops; the same command goes on. A larger --count adds to "
        "what is there.",
    )
    parser.formatter_class = argparse.HelpFormatter  # what is not given depends on the mode
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the set")
    place.add_argument("--sheet", type=Path, metavar="IMAGE", help="image of a few heads")
    add = parser.add_argument
    add("--count", type=positive, help="number of heads (default: 48 on a sheet)")
    add("--split", choices=("train", "val"), help="split (default: train, of a sheet val)")
    add(
        "--part",
        type=_part,
        help="name of a further part of the split, such as one of other poses, with another --seed",
    )
    add("--mesh", type=Path, help="head model (default: the built-in heads)")
    add(
        "--identities",
        type=positive,
        help="number of people of the head model (default: another one in each image)",
    )
    add(
        "--poses",
        choices=("natural", "uniform", "wide"),
        help="distribution of the poses: denser where people's heads are; even; or natural with "
        "many tilted cameras and people who lie, by default to ±80 of pitch and ±95 of roll "
        "(default: natural with --mesh, and without only uniform)",
    )
    add("--size", type=positive, help="side of each image (default: 160, on a sheet 128)")
    add("--seed", type=int, default=0, help="random seed (default: 0)")
    add(
        "--camera_without",
        help="camera effects to leave out, with commas between, such as blur,noise, or none to "
        "leave none out (default: none with --mesh, the plain camera without)",
    )
    for angle, of_set, of_sheet in zip(ANGLES, SET[3], SHEET[3], strict=True):
        add(
            f"--{angle}",
            type=float,
            nargs=2,
            metavar=("LOW", "HIGH"),
            help=f"limits in degrees (default: ±{of_set:g}, on a sheet ±{of_sheet:g})",
        )
    add("--workers", type=positive, help="processes (default: one per core)")
    return parser


def _part(text: str) -> str:
    if not text.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} must be letters and digits")
    return text
