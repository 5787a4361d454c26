"""`predict.py`: the pose of every head in images, videos or a webcam's stream."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from ..data.protocols import DEMOS
from ..detection.yolo import HeadDetector
from ..detection.yunet import DEFAULT_MIN_SCORE
from ..errors import InputError
from ..files import atomic_path, messages_apart, require_apart, require_writable
from ..inference.draw import STYLES, draw_heads
from ..inference.estimator import Head, HeadPoseEstimator, find_network
from ..inference.landmark_files import pose_of_landmarks, read_landmarks
from ..inference.pictures import open_picture
from ..inference.record import Record
from ..inference.sources import VIDEO_SUFFIXES, Source, find_sources, passed_over
from ..inference.table import ZONE_COLUMNS, table, write_csv, zone_rows, zone_seconds
from ..inference.tracking import CARRY_S
from ..inference.video import Frame, VideoEstimator
from ..inference.video_file import follow_video
from ..readers.pictures import frame_count, suffixes
from ..weights import from_pretrained
from .live_options import (
    CAMERA,
    GEOMETRY,
    MOVING,
    SMOOTHING,
    add_live_options,
    geometry,
    live_sources,
    open_streams,
    read_zones_of,
    reader_of,
    replayed_zeros,
    watch_camera,
)
from .options import Parser, margin, not_negative_number, number, positive, refuse

SEPARATORS = ("/", os.sep)
SMALLEST_INPUT = 32
# Options without a use where landmarks are read, faces are given, nothing moves, nothing is drawn.
DETECTION = ("detect_size", "min_score", "max_faces")
PICTURES = ("crop_margin", "crop_of", "detector", *DETECTION, "bbox", "draw", "save")
VIDEO = ("detect_every", "carry", "raw", *MOVING, *CAMERA)
# Picture formats that are written as they came; everything else becomes PNG.
SAME_FORMAT = {".jpg", ".jpeg", ".png", ".webp"}


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
        help="margin around a face box, as a share of it; by default the method's own",
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
        help="scale larger images down to this longer side to look for faces; by default as "
        "finely as the faces that come up ask for",
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
        _run(program, options, given)


def _run(program: str, options: argparse.Namespace, given: set[str]) -> None:
    zone_file = _zone_file(options)
    for file in filter(None, (options.json, options.csv, zone_file)):
        require_writable(file)  # an hour of video is not looked at in vain
    names = [*options.inputs, *options.source]
    if options.landmarks:
        if names or live_sources(options):
            raise InputError("--landmarks takes the place of images; give one of them")
        refuse(given, (*PICTURES, *VIDEO, *GEOMETRY), "has no use with --landmarks")
        _predict_landmarks(options)
        return
    chosen = live_sources(options)
    if not names and not chosen:
        raise InputError(f"nothing to look at; give a picture, or see `{program} --help`")
    sources = [*find_sources(names), *chosen]
    kinds = {source.kind for source in sources}
    if options.bbox:
        if kinds != {"picture"}:
            raise InputError("--bbox is for images; in videos heads move")
        refuse(given, DETECTION, "has no use with --bbox, which tells where the faces are")
    if kinds == {"picture"}:
        refuse(given, VIDEO, "is for videos")
    if "camera" not in kinds:
        refuse(given, CAMERA, "is for cameras")
    if options.raw:
        refuse(given, ("filter",), "has no use with --raw, which smooths nothing")
    if options.draw == "none":
        refuse(given, ("save",), "has no use with --draw none")
    targets = _targets(sources, options)
    network = find_network(options.snapshot)
    read = [*(s.name for s in sources), network, options.detector, options.camera, options.zones]
    require_apart(read, [*targets, options.json, options.csv, zone_file, options.record])
    options.zones_read = read_zones_of(options)
    estimator = HeadPoseEstimator.from_pretrained(
        network,
        options.detector,
        crop_margin=options.crop_margin,
        crop_of=options.crop_of,
        **geometry(options),
    )
    print(f"network: {network}")
    for note in passed_over(names):
        print(note)
    if not options.bbox:
        detector = estimator.detector  # fails now, not after the first image
        print(f"detector: {detector.name}")
        if options.detect_size is not None:
            if isinstance(detector, HeadDetector):
                raise InputError("--detect_size has no use here: an ONNX detector has its size")
            detector.detect_size = options.detect_size
    with Record(options.json, options.csv, network) as record:
        inputs = [
            partial(_predict, source, target, estimator, options, record)
            for source, target in zip(sources, targets, strict=True)
        ]
        try:
            unread = _each(inputs)
        finally:
            if zone_file:
                write_csv(zone_file, ZONE_COLUMNS, zone_rows(record.zones))
    _require_none(unread, inputs)


def _zone_file(options: argparse.Namespace) -> Path | None:
    """The file for the time that each person faced each zone, beside that of --csv."""
    if not (options.csv and options.zones):
        return None
    path = Path(options.csv)
    return path.with_name(f"{path.stem}-zones.csv")


def _each(inputs: Sequence[Callable[[], None]]) -> int:
    """Look at each input; of several, name those that cannot be used, and return their number."""
    unread = 0
    for look in inputs:
        try:
            look()
        except InputError as error:
            if len(inputs) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            unread += 1
    return unread


def _require_none(unread: int, inputs: Sequence[object]) -> None:
    if unread:
        raise InputError(f"{unread} of {len(inputs)} inputs could not be used; see above")


def _predict_landmarks(options: argparse.Namespace) -> None:
    network = find_network(options.snapshot)
    require_apart([*options.landmarks, network], [options.json, options.csv])
    model = from_pretrained(network)
    print(f"network: {network}")

    def look(name: str) -> None:
        yaw, pitch, roll = pose_of_landmarks(model, read_landmarks(name), name).tolist()
        print(f"{name}: yaw {yaw:.1f}  pitch {pitch:.1f}  roll {roll:.1f}")
        record.add({"file": name, "yaw": yaw, "pitch": pitch, "roll": roll})

    columns = ("file", "yaw", "pitch", "roll")
    with Record(options.json, options.csv, network, columns) as record:
        inputs = [partial(look, name) for name in options.landmarks]
        unread = _each(inputs)
    _require_none(unread, inputs)


def _predict(
    source: Source,
    target: Path | None,
    estimator: HeadPoseEstimator,
    options: argparse.Namespace,
    record: Record,
) -> None:
    """Look at one input; what is found in it is recorded even if the user stops halfway."""
    if source.kind == "picture":
        _picture(source.name, target, estimator, options, record)
        return
    from ..inference.loop import make_follower

    video = make_follower(
        estimator,
        SMOOTHING[-1] if options.raw else options.filter,
        options.min_score,
        options.max_faces,
        options.detect_every,
        options.zones_read,
        options.carry,
        source.kind == "camera" or source.name == options.replay,
    )
    if source.kind == "video":
        reader = reader_of(source, options)
        replayed = replayed_zeros(reader, estimator)
        with open_streams(options.stream, live=False) as streams:

            def passed(frame: Frame, heads: list[Head]) -> None:
                for stream in streams:
                    stream.send(frame.index, frame.time, heads)
                if replayed:
                    replayed(frame.index)

            follow_video(reader, target, video, options.draw, record, passed)
    else:
        _camera(source, video, options, record)
    for track, seconds in zone_seconds(video.attention).items():
        times = ", ".join(f"{zone or 'no zone'} {value:.1f} s" for zone, value in seconds.items())
        print(f"{source.name}: person {track} faced {times}")


def _camera(
    source: Source,
    video: VideoEstimator,
    options: argparse.Namespace,
    record: Record,
) -> None:
    keep = partial(record.frame, f"camera {source.name}") if record.wanted else None
    try:
        watched = watch_camera(source, video, options, keep)
    finally:
        zones = {"zones": zone_seconds(video.attention)} if video.zones else {}
        record.end(**zones)
    print(f"camera {source.name}: {watched}")
    if options.record:
        print(f"wrote {options.record}")


def _picture(
    name: str,
    target: Path | None,
    estimator: HeadPoseEstimator,
    options: argparse.Namespace,
    record: Record,
) -> None:
    image = open_picture(name)
    if Path(name).is_file() and (frames := frame_count(Path(name))) > 1:
        print(
            f"{name}: has {frames} frames, of which only the first is read; "
            "make it a video (.mp4) to read all",
            file=sys.stderr,
        )
    height, width = image.shape[:2]
    if options.bbox:
        for left, top, right, bottom in options.bbox:
            if left >= width or top >= height or right <= 0 or bottom <= 0:
                raise InputError(
                    f"{name}: --bbox lies outside the image of {width}×{height} pixels"
                )
    heads = estimator(image, options.bbox, options.min_score, options.max_faces)
    found = [head.to_dict() for head in heads]
    record.add({"file": name, "width": width, "height": height, "heads": found})
    print(f"{name}: {_count(len(heads))}")
    if heads:
        print(table(heads))
    if target:
        with atomic_path(target) as temporary:
            Image.fromarray(draw_heads(image, heads, options.draw)).save(temporary, quality=95)
        print(f"wrote {target}")


def _count(number: int) -> str:
    return "no face found" if not number else f"{number} face{'s' * (number > 1)}"


def _targets(sources: list[Source], options: argparse.Namespace) -> list[Path | None]:
    """The file that each source's drawing goes to; None where there is none.

    Raises:
        InputError: one file is to hold several, or is of no known format.
    """
    if options.draw == "none":
        return [None] * len(sources)
    if options.save == "-":
        raise InputError("--save -: drawings go to files; name a folder or one file")
    save = Path(options.save)
    folder = save.is_dir() or options.save.endswith(SEPARATORS)
    one_file = bool(save.suffix) and not folder
    if one_file and len(sources) > 1:
        raise InputError(f"--save {save}: one file for {len(sources)} inputs; give a folder")
    if one_file:
        film = sources[0].kind == "video"
        known, usual = (VIDEO_SUFFIXES, ".mp4") if film else (suffixes(), ".jpg or .png")
        if save.suffix.lower() not in known:
            raise InputError(f"--save {save}: no {sources[0].kind} format; end it in {usual}")
    targets: list[Path | None] = []
    for source in sources:
        if source.kind == "camera":
            targets.append(None)
            continue
        path = Path(source.name)
        if one_file:
            target = save
        elif source.kind == "video":
            target = save / f"{path.stem}.mp4"
        else:
            target = save / (
                path.name if path.suffix.lower() in SAME_FORMAT else f"{path.stem}.png"
            )
        # Two inputs of one name must not share an output.
        number = 2
        while target in targets:
            target = target.with_name(f"{path.stem}-{number}{target.suffix}")
            number += 1
        targets.append(target)
    return targets


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
