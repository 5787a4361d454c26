"""`predict.py`: the pose of every head in images, videos or a webcam's stream.

Only what options need is imported here, so that `--help` comes at once.
"""

from __future__ import annotations

import argparse

from ..data.protocols import DEMOS
from ..detection import DEFAULT_MIN_SCORE
from ..files import messages_apart
from ..inference import CARRY_S
from ..inference.draw import STYLES
from .live_options import add_live_options
from .options import Parser, margin, not_negative_number, number, positive

SMALLEST_INPUT = 32


def make_parser(program: str) -> Parser:
    """The command's options."""
    parser = Parser(program, "Estimate the pose of every head in images, videos or a webcam.")
    parser.add_argument(
        "inputs", nargs="*", help="images, folders, patterns, videos, or the number of a camera"
    )
    parser.add_argument(
        "--source", action="append", default=[], help="another way to name an input"
    )
    parser.add_argument(
        "--landmarks",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of one face's landmarks (.npy, .csv or .mat) instead of images",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--model",
        "--snapshot",
        "--model_path",
        dest="snapshot",
        help=".safetensors file, model folder, hub id, or name in weights/; by default the network"
        " that comes with mlx-headpose",
    )
    network.add_argument(
        "--crop_margin",
        type=margin,
        help="margin around the box of a face, or of a head, as a share of it; by default the"
        " method's own",
    )
    network.add_argument(
        "--crop_of",
        choices=DEMOS,
        help="published demo whose crop, resize and order of colours replace the network's own",
    )
    faces = parser.add_argument_group("faces")
    faces.add_argument(
        "--detector",
        help="file of a detector (YuNet or our head detector, or any head detector as .onnx), or "
        "bundled for the one that comes with mlx-headpose; by default YuNet where its file is at "
        "hand, or else the bundled one",
    )
    faces.add_argument(
        "--min_score",
        type=_share,
        default=DEFAULT_MIN_SCORE,
        help="faces that the detector scores below this are left out",
    )
    faces.add_argument(
        "--detect_size",
        type=_detect_size,
        metavar="PIXELS",
        help="scale larger images down to this longer side to look for faces; by default large "
        "images are searched as finely as the faces that come up ask for",
    )
    faces.add_argument("--max_faces", type=positive, help="take only so many faces, the largest")
    faces.add_argument(
        "--bbox",
        type=_box,
        action="append",
        metavar="X,Y,W,H",
        help="take this face box, and further ones, instead of looking for faces (images only)",
    )
    video = parser.add_argument_group("video")
    video.add_argument(
        "--detect_every",
        type=positive,
        help="search the whole frame for faces every so many frames, and near each head between (3,"
        " cameras: 10)",
    )
    video.add_argument(
        "--carry",
        type=not_negative_number,
        default=CARRY_S,
        metavar="SECONDS",
        help="follow a head that turns its face away for so long; 0 does not",
    )
    video.add_argument(
        "--raw", action="store_true", help="do not smooth boxes and angles over time"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--save", default="output", help="folder for the drawn images and videos, or one file"
    )
    output.add_argument("--draw", choices=(*STYLES, "none"), default="axis", help="what to draw")
    output.add_argument("--json", help="file for all results as JSON; - is the standard output")
    output.add_argument("--csv", help="the same as CSV, one head a line")
    add_live_options(parser)
    return parser


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    options, given = make_parser(program).parse_given(arguments)
    # Lines for other programs have the standard output to themselves.
    lines = "-" if "jsonl" in options.stream else None
    with messages_apart([options.json, options.csv, lines]):
        from .predict_inputs import predict

        predict(program, options, given)


def _share(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _detect_size(text: str) -> int:
    value = positive(text)
    if value < SMALLEST_INPUT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 32")
    return value


def _box(text: str) -> list[float]:
    values = [number(part) for part in text.split(",")]
    if len(values) != 4 or values[2] <= 0 or values[3] <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,width,height")
    x, y, width, height = values
    return [x, y, x + width, y + height]
