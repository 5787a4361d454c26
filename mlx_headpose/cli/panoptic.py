"""`mlx-headpose panoptic`: head pose labels of CMU Panoptic recordings."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..data.panoptic import COLUMNS
from ..data.panoptic_labels import CONTEXT, Label, Recording
from ..errors import InputError
from ..files import atomic_path
from ..inference.table import write_csv
from .options import Parser, positive


def run(program: str, arguments: list[str]) -> None:
    """Write a picture of each labelled head and `annotations.csv`, which `panoptic` reads."""
    parser = Parser(program, "Make head pose labels of recordings by the panoptic toolbox")
    parser.add_argument("sequences", nargs="+", type=Path, help="folders of sequences")
    parser.add_argument("--output", type=Path, required=True, help="folder for the ready list")
    parser.add_argument("--interval", type=positive, default=10, help="take every so many frames")
    parser.add_argument(
        "--min_turn",
        type=float,
        default=5.0,
        help="leave out a head that has turned less than this many degrees since its last label",
    )
    options = parser.parse_args(arguments)
    rows = []
    for folder in options.sequences:
        recording = Recording(folder)
        cameras = recording.cameras.values()
        for camera in tqdm(cameras, desc=folder.name, disable=not sys.stderr.isatty()):
            labels = dict(recording.labels(camera, options.interval, options.min_turn))
            for frame, picture in recording.pictures(camera, list(labels)):
                for label in labels[frame]:
                    rows.append(_save(label, picture, options.output, folder.resolve().name))
    if not rows:
        raise InputError(
            f"{options.output}: no labelled head has a picture; put the frames in hdImgs/<camera> "
            "or the videos in hdVideos"
        )
    rows.sort()
    write_csv(options.output / "annotations.csv", COLUMNS, rows)
    print(f"{len(rows)} heads: {options.output / 'annotations.csv'}")


def _save(label: Label, picture: Image.Image, output: Path, sequence: str) -> list[object]:
    """Write the head with some room around it; returns its row of the list."""
    left, top, right, bottom = label.box
    room_x, room_y = round(CONTEXT * (right - left)), round(CONTEXT * (bottom - top))
    x, y = max(left - room_x, 0), max(top - room_y, 0)
    cut = (x, y, min(right + room_x, picture.width), min(bottom + room_y, picture.height))
    name = f"{sequence}/{label.camera}_{label.person}_{label.frame:08d}.jpg"
    with atomic_path(output / name) as temporary:
        picture.crop(cut).save(temporary, quality=95)
    box = (left - x, top - y, right - left, bottom - top)
    return [name, *box, *(round(float(angle), 4) for angle in label.pose)]
