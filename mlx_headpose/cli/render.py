"""`mlx-headpose render`: synthetic heads, a sheet of them, or the sprites of scenes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from .._version import __version__
from ..errors import InputError
from ..files import atomic_path
from ..readers.pictures import written_suffixes
from .options import Parser, not_negative, positive, refuse

if TYPE_CHECKING:
    import numpy as np

    from ..synthetic.dataset import SyntheticHeads
    from ..synthetic.render_set import Settings

COLUMNS = 8
HEADS, PEOPLE, THINGS, CROPS = "heads", "people", "things", "crops"
SPLIT_SEEDS = {"train": 0, "val": 1}  # of sprites
ANGLES = ("yaw", "pitch", "roll")
CROPPED_SIDE = 640  # of scenes whose heads are cut out
FAINT_SCORE = 0.15  # of boxes that are cut out
STEEP = (180.0, 80.0, 95.0)  # largest angles with --poses wide
# Count, split, side of an image in pixels, and largest angles, where the command line gives none.
SET, SHEET = (None, "train", 160, (180.0, 50.0, 50.0)), (48, "val", 128, (90.0, 40.0, 40.0))


def run(program: str, arguments: list[str]) -> None:
    """Render the set, the sheet or the sprites that the command line asks for."""
    args, given = _parser(program).parse_given(arguments)
    if args.kind == CROPS:
        _write_crops(args, given)
        return
    if args.kind != HEADS:
        _write_sprites(args, given)
        return
    refuse(given, ("textures",), "for --kind things")
    refuse(given, ("scenes", "detector"), "for --kind crops")
    from ..synthetic.render_set import Settings

    count, split, size, largest = SHEET if args.out is None else SET
    count = args.count or count
    if count is None:
        raise InputError("--out needs --count, the number of heads")
    if args.out is None and (args.part or args.workers):
        raise InputError("--part and --workers are for --out; leave them out")
    if args.mesh is None and (
        args.identities or args.environments or args.poses in ("natural", "wide")
    ):
        raise InputError("--identities, --environments and --poses natural or wide need --mesh")
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
        environments=args.environments,
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
    if path.suffix.lower() not in written_suffixes():
        raise InputError(f"{path}: not the name of an image that can be written; end it in .png")
    with atomic_path(path) as temporary:
        sheet(heads).save(temporary)


def _write_set(args: argparse.Namespace, settings: Settings, count: int) -> None:
    from ..synthetic.render_set import part_folder, render_set

    with _stopped_with("Stopped; what was rendered is listed."):
        new = render_set(settings, count, args.out, args.workers, args.part or "")
    folder = args.out / part_folder(settings.split, args.part or "")
    print(f"{count} heads in {folder}, {new} of them new")


def _write_sprites(args: argparse.Namespace, given: set[str]) -> None:
    common = {"kind", "out", "count", "split", "seed", "workers", "environments"}
    source = "mesh" if args.kind == PEOPLE else "textures"
    refuse(given, given - common - {source}, f"not for --kind {args.kind}")
    if not {"count", source} <= given:
        raise InputError(f"--kind {args.kind} needs --count and --{source}")
    from ..synthetic.render_set import digest
    from ..synthetic.scenes.people import PeopleSprites
    from ..synthetic.scenes.rendering import SpriteSource, render_sprites
    from ..synthetic.scenes.things import ThingSprites

    seed = (args.seed, SPLIT_SEEDS[args.split or "train"])
    settings = {"kind": args.kind, "seed": list(seed), "version": __version__}
    make: type[SpriteSource] = ThingSprites
    arguments: tuple[object, ...] = (args.textures, args.environments, seed)
    if args.kind == PEOPLE:
        settings["mesh"] = digest(args.mesh)
        settings["light"] = args.environments is not None  # as older folders have it
        make, arguments = PeopleSprites, (args.mesh, args.environments, seed, args.count)
    with _stopped_with("Stopped."):
        new = render_sprites(make, arguments, args.count, args.out, settings, args.workers)
    print(f"{args.count} sprites in {args.out}, {new} of them new")


def _write_crops(args: argparse.Namespace, given: set[str]) -> None:
    common = {"kind", "out", "count", "split", "part", "seed", "scenes", "detector"}
    refuse(given, given - common, "not for --kind crops")
    if not {"out", "count", "part", "scenes"} <= given:
        raise InputError("--kind crops needs --out, --part, --count and --scenes")
    from ..detection.heads.detector import BUNDLED_DETECTOR, SurroundHeadDetector
    from ..evaluation.detection import shown
    from ..synthetic.render_set import digest, part_folder
    from ..synthetic.scenes.crops import render_crops
    from ..synthetic.scenes.dataset import open_dataset

    file = args.detector or BUNDLED_DETECTOR
    detector = SurroundHeadDetector.from_pretrained(file, CROPPED_SIDE)

    def find(image: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (found,) = detector([image], FAINT_SCORE)
        assert found.heads is not None
        return found.boxes, found.heads, shown(found.heads, targets)

    split = args.split or "train"
    scenes = open_dataset(
        args.scenes,
        train=split == "train",
        seed=args.seed,
        samples=args.count,
        input_size=CROPPED_SIDE,
    )
    settings = {
        "kind": CROPS,
        "seed": args.seed,
        "split": split,
        "version": __version__,
        "detector": digest(file),
        "scenes": digest(*scenes.files()),
    }
    folder = args.out / part_folder(split, args.part)
    with _stopped_with("Stopped; groups of scenes that were whole are listed."):
        crops = render_crops(scenes, find, folder, settings)
    print(f"{crops} crops of {args.count} scenes in {folder}")


@contextmanager
def _stopped_with(words: str) -> Iterator[None]:
    """Within, Ctrl-C ends the command with these words."""
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second one says nothing new
        print(f"{words} The same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None


def _parser(program: str) -> Parser:
    parser = Parser(
        program,
        "Render synthetic heads: to a folder, for --dataset rendered --data_dir FOLDER, or side by "
        "side into one image. --kind people and things render the sprites that --dataset scenes "
        "is composed of. Ctrl-C stops; the same command goes on. A larger --count adds to what is "
        "there.",
    )
    parser.formatter_class = argparse.HelpFormatter  # what is not given depends on the mode
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the set")
    place.add_argument("--sheet", type=Path, metavar="IMAGE", help="image of a few heads")
    add = parser.add_argument
    add(
        "--kind",
        choices=(HEADS, PEOPLE, THINGS, CROPS),
        default=HEADS,
        help="what to render: heads with known poses, sprites of people with their shoulders or of "
        "things that are no heads, or what a detector finds in --count scenes of those, heads and "
        "others, as a part of a set of heads (default: heads)",
    )
    add("--count", type=positive, help="number of heads or sprites (default: 48 on a sheet)")
    add("--split", choices=("train", "val"), help="split (default: train, of a sheet val)")
    add(
        "--part",
        type=_part,
        help="name of a further part of the split, such as one of other poses, with another --seed",
    )
    add("--mesh", type=Path, help="head model (default: the built-in heads)")
    add(
        "--environments",
        type=Path,
        metavar="FOLDER",
        help="panoramas that light sprites, and light and surround half of the heads",
    )
    add("--scenes", type=Path, metavar="FOLDER", help="sprites and places of scenes, for crops")
    add("--detector", type=Path, help="head detector that finds crops (default: the bundled one)")
    add("--textures", type=Path, metavar="FOLDER", help="texture swatches of things")
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
    add("--seed", type=not_negative, default=0, help="random seed (default: 0)")
    add(
        "--camera_without",
        help="camera effects to leave out, separated by commas, such as blur,noise, or none to "
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
