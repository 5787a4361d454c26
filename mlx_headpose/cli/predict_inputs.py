"""What `predict.py` does with its inputs once its options are read."""

from __future__ import annotations

import argparse
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from ..detection.yolo import HeadDetector
from ..errors import InputError
from ..files import is_stdout, require_apart, require_writable
from ..inference import SMOOTHING
from ..inference.estimator import Head, HeadPoseEstimator, find_network
from ..inference.landmark_files import pose_of_landmarks, read_landmarks
from ..inference.record import Record
from ..inference.sources import VIDEO_SUFFIXES, Source, find_sources, passed_over
from ..inference.table import ZONE_COLUMNS, table, write_csv, zone_rows, zone_seconds
from ..inference.video import Frame
from ..inference.video_estimator import VideoEstimator
from ..inference.video_file import follow_video
from ..readers.pictures import written_suffixes
from ..weights import from_pretrained
from .live_options import (
    CAMERA,
    GEOMETRY,
    MOVING,
    geometry,
    live_sources,
    open_streams,
    read_zones_of,
    reader_of,
    replayed_zeros,
    watch_camera,
)
from .options import refuse
from .predict_pictures import Drawings, Inputs, Opened, decoded

SEPARATORS = ("/", os.sep)
# Options without a use where landmarks are read, faces are given, nothing moves, nothing is drawn.
DETECTION = ("detect_size", "min_score", "max_faces")
PICTURES = ("crop_margin", "crop_of", "detector", *DETECTION, "bbox", "draw", "save")
VIDEO = ("detect_every", "carry", "raw", *MOVING, *CAMERA)
# Picture formats that are written as they came; everything else becomes PNG.
SAME_FORMAT = {".jpg", ".jpeg", ".png", ".webp"}


def predict(program: str, options: argparse.Namespace, given: set[str]) -> None:
    """Look at all inputs.

    Args:
        program: what the command is called.
        options: its options.
        given: names of those that were given.

    Raises:
        InputError: options do not fit together, or an input cannot be used.
    """
    zone_file = _zone_file(options)
    outputs = [options.json, options.csv, zone_file]
    if options.zero and not Path(options.zero).exists():  # a camera's window may make it
        outputs.append(options.zero)
    for file in filter(None, outputs):
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
    if "camera" not in kinds:
        refuse(given, CAMERA, "is for cameras")
    if kinds == {"picture"}:
        refuse(given, VIDEO, "is for videos")
    if kinds == {"camera"}:
        refuse(given, ("save",), "is for images and videos; --record records a camera")
    if not options.fov and not options.camera:
        refuse(given, ("no_perspective",), "needs the camera; give --fov or --camera")
    if options.raw:
        refuse(given, ("filter",), "has no use with --raw, which smooths nothing")
    if options.draw == "none":
        refuse(given, ("save",), "has no use with --draw none")
    if kinds == {"camera"} and options.no_window and options.draw != "none":
        refuse(given, ("draw",), "has no use with --no_window, which draws nothing")
    targets = _targets(sources, options)
    network = find_network(options.snapshot)
    if options.record and sum(source.kind == "camera" for source in sources) > 1:
        raise InputError(f"--record {options.record}: one file for several cameras; give one")
    _require_apart(sources, targets, network, zone_file, options)
    options.zones_read = read_zones_of(options)
    estimator = HeadPoseEstimator.from_pretrained(
        network,
        options.detector,
        crop_margin=options.crop_margin,
        crop_of=options.crop_of,
        **geometry(options, window="camera" in kinds and not options.no_window),
    )
    print(f"network: {network}")
    for note in passed_over(names):
        print(note)
    if not options.bbox:
        detector = estimator.detector  # fails now, not after the first image
        print(f"detector: {detector.name}")
        if "carry" in given and detector.finds != "faces":
            print("--carry has no use with this detector, which sees heads that turn away itself")
        if options.detect_size is not None:
            if isinstance(detector, HeadDetector):
                raise InputError("--detect_size has no use here: an ONNX detector has its size")
            detector.detect_size = options.detect_size
    with Record(options.json, options.csv, network) as record:
        pictures = [source.name for source in sources if source.kind == "picture"]
        try:
            with (
                closing(decoded(pictures)) as opened,
                Drawings(options.draw) as drawings,
                Inputs(several=len(sources) > 1) as inputs,
            ):
                for source, target in zip(sources, targets, strict=True):
                    more = estimator, options, record
                    if source.kind == "picture":
                        inputs.look(partial(_picture, opened, drawings, source.name, target, *more))
                    else:
                        inputs.settle()
                        inputs.look(partial(_film, source, target, *more))
        finally:
            if zone_file:
                write_csv(zone_file, ZONE_COLUMNS, zone_rows(record.zones))
    _require_none(inputs.unread, sources)


def _require_apart(
    sources: list[Source],
    targets: list[Path | None],
    network: str | Path,
    zone_file: Path | None,
    options: argparse.Namespace,
) -> None:
    """Refuse to write over anything that is read, or two results into one file."""
    from ..live.recording import sidecar

    read = [*(s.name for s in sources), network, options.detector, options.camera, options.zones]
    written = [*targets, options.json, options.csv, zone_file]
    written += ["-" for address in options.stream if address == "jsonl"]
    if options.record:
        written += [options.record, sidecar(options.record)]
    if options.replay:
        read.append(sidecar(options.replay))
    if options.zero:  # a camera's window may make it
        (read if Path(options.zero).exists() else written).append(options.zero)
    require_apart(read, written)


def _zone_file(options: argparse.Namespace) -> Path | None:
    """The file for the time that each person faced each zone, beside that of --csv."""
    if not (options.csv and options.zones) or is_stdout(options.csv):
        return None
    path = Path(options.csv)
    return path.with_name(f"{path.stem}-zones.csv")


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
    with (
        Record(options.json, options.csv, network, columns) as record,
        Inputs(several=len(options.landmarks) > 1) as inputs,
    ):
        for name in options.landmarks:
            inputs.look(partial(look, name))
    _require_none(inputs.unread, options.landmarks)


def _film(
    source: Source,
    target: Path | None,
    estimator: HeadPoseEstimator,
    options: argparse.Namespace,
    record: Record,
) -> None:
    """Look at a video or camera; what is found is recorded even if the user stops halfway."""
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
    if options.record and Path(options.record).exists():  # not if it ended before a frame
        print(f"wrote {options.record}")


def _picture(
    opened: Iterator[Opened],
    drawings: Drawings,
    name: str,
    target: Path | None,
    estimator: HeadPoseEstimator,
    options: argparse.Namespace,
    record: Record,
) -> Callable[[], None]:
    """Look at a picture, the next one opened, and return what waits for its drawing and says so."""
    read = next(opened)
    if isinstance(read, InputError):
        raise read
    image, frames = read
    if frames > 1:
        print(
            f"{name}: has {frames} frames, of which only the first is read; "
            "make it a video (.mp4) to read all",
            file=sys.stderr,
        )
    height, width = image.shape[:2]
    try:
        heads = estimator(image, options.bbox, options.min_score, options.max_faces)
    except InputError as error:  # such as a box outside the image
        raise InputError(f"{name}: {error}") from None
    found = [head.to_dict() for head in heads]
    record.add({"file": name, "width": width, "height": height, "heads": found})
    written = drawings.write(target, image, heads) if target else None

    def tell() -> None:
        print(f"{name}: {_count(len(heads))}")
        if heads:
            print(table(heads))
        if written:
            written.result()
            print(f"wrote {target}")

    return tell


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
        known, usual = (VIDEO_SUFFIXES, ".mp4") if film else (written_suffixes(), ".jpg or .png")
        if save.suffix.lower() not in known:
            raise InputError(f"--save {save}: no {sources[0].kind} format; end it in {usual}")
    targets: list[Path | None] = []
    taken = set()
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
        # Two inputs of one name must not share an output, and on many disks A.jpg is a.jpg.
        number = 2
        while _as_disks_compare(target) in taken:
            target = target.with_name(f"{path.stem}-{number}{target.suffix}")
            number += 1
        taken.add(_as_disks_compare(target))
        targets.append(target)
    return targets


def _as_disks_compare(path: Path) -> str:
    """A name as disks of Macs and of Windows compare it: in any case, with accents in one form."""
    return unicodedata.normalize("NFC", str(path)).casefold()
