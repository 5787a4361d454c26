"""The loop from a camera's frames to heads, for Python programs and for the window.

Four things go on at once: a thread captures and decodes, so that the network always gets the newest
frame; the pose network runs in the thread that asks for heads; the detector searches a whole frame
of a camera now and then beside it, in `process.begin`'s thread; and recordings are written in a
thread of their own. Frames for which there was no time are dropped and counted, and no queue grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..detection import DEFAULT_MIN_SCORE
from ..errors import InputError
from ..space.facing import Zone
from ..space.zero import SECONDS, Calibration, Zero
from . import CARRY_S, DEMO, SMOOTHING
from .estimator import Head, HeadPoseEstimator
from .motion import PredictiveFilter
from .smoothing import PoseFilter
from .video import Frame, VideoReader
from .video_estimator import VideoEstimator

FILTERS: dict[str, Callable[[], Callable[[np.ndarray, float], np.ndarray]]] = dict(
    zip(SMOOTHING[:-1], (PoseFilter, PredictiveFilter), strict=True)
)
# Searching a whole frame takes several times as long as following the heads in it: of cameras,
# where late is worse than a person who comes up a third of a second later, fewer frames are
# searched.
DETECT_EVERY, DETECT_EVERY_LIVE = 3, 10
# A camera's frames need not wait for that search: it has the time of so many.
AHEAD_LIVE = 3
PATIENCE_S = 10.0  # for a head to calibrate on


@dataclass(frozen=True)
class Seen:
    """A frame and the heads in it.

    Attributes:
        frame: its number, time in seconds, and pixels.
        heads: oldest track first.
        latency: seconds from the capture of the frame until its heads were known; None for files.
        dropped: frames so far that the network had no time for.
    """

    frame: Frame
    heads: list[Head]
    latency: float | None
    dropped: int


def open_source(source: int | str | Path | Callable[[], Any]) -> VideoReader:
    """A reader of what a user names.

    Args:
        source: number of a camera, path of a video, "demo", or what makes an object like OpenCV's
            `VideoCapture`.

    Raises:
        InputError: see `VideoReader`.
    """
    if source == DEMO:
        from ..synthetic.demo import Demo, DemoCapture

        demo = Demo()
        return VideoReader(lambda: DemoCapture(demo))
    if isinstance(source, str) and source.isdecimal():
        source = int(source)
    return VideoReader(source)


def make_follower(
    estimator: HeadPoseEstimator,
    smoothing: str = "one-euro",
    min_score: float = DEFAULT_MIN_SCORE,
    max_heads: int | None = None,
    detect_every: int | None = None,
    zones: Sequence[Zone] = (),
    carry: float = CARRY_S,
    of_camera: bool = False,
) -> VideoEstimator:
    """What follows heads from frame to frame.

    Args:
        estimator: for one frame.
        smoothing: "one-euro", "predictive" or "none".
        min_score, max_heads, zones, carry: see `VideoEstimator`.
        detect_every: see `VideoEstimator`; None means 10 for cameras and 3 for files.
        of_camera: whether frames come from a camera, or from a recording of one.

    Raises:
        InputError: there is no such filter.
    """
    if smoothing != "none" and smoothing not in FILTERS:
        raise InputError(f"{smoothing!r} is no filter; take one of {', '.join(FILTERS)} and none")
    return VideoEstimator(
        estimator,
        min_score,
        max_heads,
        detect_every or (DETECT_EVERY_LIVE if of_camera else DETECT_EVERY),
        AHEAD_LIVE if of_camera else 0,
        smoothing != "none",
        carry,
        make_filter=FILTERS.get(smoothing, PoseFilter),
        zones=zones,
    )


def stream(
    estimator: HeadPoseEstimator,
    source: int | str | Path | Callable[[], Any] | VideoReader,
    **options: Any,
) -> Iterator[Seen]:
    """Heads of a camera or a video, frame by frame.

    Leaving the loop, or closing the generator, closes the camera and ends its thread.

    Args:
        estimator: for one frame.
        source: see `open_source`; or a reader.
        **options: see `make_follower`.

    Raises:
        InputError: the source cannot be read, or, while iterating, delivers nothing more.
    """
    reader = source if isinstance(source, VideoReader) else open_source(source)
    return follow(make_follower(estimator, of_camera=reader.of_camera, **options), reader)


def follow(video: VideoEstimator, reader: VideoReader) -> Iterator[Seen]:
    """See `stream`."""
    with reader, video.computing():
        for frame in reader:
            heads = video(frame)
            latency = None
            if reader.live:
                latency = time.perf_counter() - reader.started - frame.time
            yield Seen(frame, heads, latency, reader.dropped)


def calibrate(
    estimator: HeadPoseEstimator,
    source: int | str | Path | Callable[[], Any] | VideoReader,
    direction: tuple[float, float, float] = (0.0, 0.0, 0.0),
    name: str = "ahead",
    seconds: float = SECONDS,
) -> Zero:
    """Make the direction that a person looks in the zero of all later poses.

    Args:
        estimator: gets the zero.
        source: see `open_source`; the largest head in it counts.
        direction: yaw, pitch, roll in degrees that the direction stands for.
        name: name of the direction.
        seconds: that the person looks there.

    Raises:
        InputError: no head comes up, or it does not keep still.
    """
    calibration = Calibration(seconds, direction, name)
    before, estimator.zero = estimator.zero, None
    found = None
    try:
        for seen in stream(estimator, source, smoothing="none"):
            if not calibration.poses and not seen.heads:
                if seen.frame.time > PATIENCE_S:
                    break
                continue
            found = calibration.add(seen.frame.time, largest_pose(seen.heads))
            if found:
                break
        found = found or calibration.end()
    finally:
        estimator.zero = found or before
    return found


def largest_pose(heads: Sequence[Head]) -> np.ndarray | None:
    """(3,) pose of the head with the largest box; None without heads."""

    def area(head: Head) -> float:
        x_min, y_min, x_max, y_max = head.box
        return (x_max - x_min) * (y_max - y_min)

    return max(heads, key=area).pose if heads else None
