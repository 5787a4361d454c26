"""The options of `predict.py` for cameras: geometry, zero, zones, streams, recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..inference import DEMO, SMOOTHING
from ..inference.sources import Source
from .options import Parser, number

if TYPE_CHECKING:
    from ..inference.estimator import HeadPoseEstimator
    from ..inference.video import VideoReader
    from ..inference.video_estimator import VideoEstimator
    from ..live.streams import Stream
    from ..space.facing import Zone

# Options without a use where nothing moves, and where there is no camera.
MOVING = ("zones", "stream", "filter")
CAMERA = ("record", "no_window", "seconds")
GEOMETRY = ("fov", "camera", "no_perspective", "head_size", "zero")


def _above_zero(text: str) -> float:
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def add_live_options(parser: Parser) -> None:
    """Add the options to the command's."""
    space = parser.add_argument_group("position and direction (docs/live.md)")
    space.add_argument(
        "--fov", type=_above_zero, help="degrees that the longer side of the image spans"
    )
    space.add_argument(
        "--camera", metavar="FILE", help="OpenCV's calibration of the camera (.json, .yml)"
    )
    space.add_argument(
        "--no_perspective",
        action="store_true",
        help="leave angles as seen along the ray through the face, even with --fov or --camera",
    )
    space.add_argument(
        "--head_size",
        type=_above_zero,
        help="circumference of heads above the brows in mm, for positions (568)",
    )
    space.add_argument(
        "--zero",
        metavar="FILE",
        help="zero that angles are relative to; key c in a camera's window makes and saves one",
    )
    space.add_argument("--zones", metavar="FILE", help="zones that heads face (.json, .toml)")
    live = parser.add_argument_group("cameras (docs/live.md)")
    live.add_argument("--demo", action="store_true", help="a rendered head in place of a camera")
    live.add_argument(
        "--filter", choices=SMOOTHING, default="one-euro", help="what smooths angles over time"
    )
    live.add_argument(
        "--stream",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="send heads to opentrack://HOST:PORT, osc://HOST:PORT, or as lines to jsonl",
    )
    live.add_argument("--record", metavar="FILE", help="record a camera losslessly (.avi, .mp4)")
    live.add_argument("--replay", metavar="FILE", help="take a recording as input")
    live.add_argument("--no_window", action="store_true", help="show no window; Ctrl-C ends")
    live.add_argument("--seconds", type=_above_zero, help="end a camera after so long")


def live_sources(options: argparse.Namespace) -> list[Source]:
    """The sources that options of these name."""
    sources = [Source("camera", DEMO)] if options.demo else []
    if options.replay:
        sources.append(Source("video", options.replay))
    return sources


def geometry(options: argparse.Namespace, window: bool) -> dict[str, Any]:
    """Arguments of the estimator.

    Args:
        options: those of the command.
        window: whether a camera's window opens, in which a zero may be set and saved.

    Raises:
        InputError: a file is missing or damaged, or options contradict each other.
    """
    if options.fov and options.camera:
        raise InputError("--fov and --camera both describe the camera; give one of them")
    if options.replay and options.zero:
        raise InputError("--zero has no use with --replay, which has the zero of the recording")
    values: dict[str, Any] = {"perspective": not options.no_perspective, "camera": options.fov}
    if options.camera:
        from ..readers.camera_file import read_camera

        values["camera"] = read_camera(options.camera)
    if options.head_size:
        values["head_size"] = options.head_size
    if options.zero and (Path(options.zero).exists() or not window):
        from ..space.zero import Zero

        values["zero"] = Zero.load(options.zero)
    return values


def read_zones_of(options: argparse.Namespace) -> Sequence[Zone]:
    """The zones of --zones."""
    if not options.zones:
        return ()
    from ..space.facing import read_zones

    return read_zones(options.zones)


@contextmanager
def open_streams(addresses: Sequence[str], live: bool) -> Iterator[list[Stream]]:
    """The streams of --stream, closed in the end."""
    from ..live.streams import open_stream

    with ExitStack() as stack:
        streams = []
        for address in addresses:
            streams.append(open_stream(address, live))
            stack.callback(streams[-1].close)
        yield streams
    for address, stream in zip(addresses, streams, strict=True):
        if stream.dropped:
            print(f"{address}: {stream.dropped} frames were not taken", file=sys.stderr)


def reader_of(source: Source, options: argparse.Namespace) -> VideoReader:
    """A reader of a video, a recording, a camera or the demonstration."""
    from ..inference.loop import open_source
    from ..inference.video import VideoReader
    from ..live.recording import Replay

    if source.kind == "camera":
        return open_source(source.name)
    return Replay(source.name) if source.name == options.replay else VideoReader(source.name)


def replayed_zeros(reader: VideoReader, estimator: HeadPoseEstimator) -> Any:
    """What sets a recording's zeros as its frames pass; None for other videos."""
    from ..live.recording import Replay

    if not isinstance(reader, Replay):
        return None
    zeros = reader.zeros
    estimator.zero = zeros.get(-1)

    def passed(index: int) -> None:
        if index in zeros:
            estimator.zero = zeros[index]

    return passed


def watch_camera(
    source: Source, video: VideoEstimator, options: argparse.Namespace, keep: Any
) -> str:
    """Watch a camera as the options say; returns what was seen, in words."""
    from ..live.recording import Recorder
    from ..live.window import Watch, show_camera

    reader = reader_of(source, options)
    with ExitStack() as stack:
        streams = stack.enter_context(open_streams(options.stream, live=True))
        recorder = None
        if options.record:
            recorder = stack.enter_context(Recorder(options.record))
            recorder.begin(video.estimator.zero)
        watch = Watch(video, keep, streams, recorder, options.zero)
        try:
            if options.no_window:
                watch.run(reader, options.seconds)
            else:
                show_camera(watch, reader, options.draw, options.seconds)
        except KeyboardInterrupt:
            if not options.no_window:
                raise
    return str(watch.watched)
