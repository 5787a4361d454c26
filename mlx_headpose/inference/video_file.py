"""A video file from its first frame to its last: followed, recorded and drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

from ..errors import InputError
from .draw import draw_heads
from .estimator import Head
from .record import Record
from .table import zone_seconds
from .video import Frame, VideoReader, VideoWriter
from .video_estimator import VideoEstimator


def follow_video(
    reader: VideoReader,
    target: Path | None,
    video: VideoEstimator,
    style: str,
    record: Record,
    passed: Callable[[Frame, list[Head]], None] | None = None,
) -> None:
    """Follow the heads through a video, and say what was found.

    Args:
        reader: reader of the file.
        target: the drawn video, or None for none.
        video: what follows the heads.
        style: one of `draw.STYLES`.
        record: takes the result, frame by frame.
        passed: called with every frame and its heads.

    Raises:
        InputError: the video cannot be read or written, or not one frame could be decoded.
    """
    name = str(reader.source)
    start = time.perf_counter()

    def end() -> None:
        """Record what is known of the video only when it ends, whatever ends it."""
        zones = {"zones": zone_seconds(video.attention)} if video.zones else {}
        record.end(fps=reader.fps, undecoded_frames=reader.failed, **zones)

    from tqdm import tqdm  # slow to load, and photos do without

    with reader, video.computing(), ExitStack() as ends:
        ends.callback(end)
        bar = tqdm(
            reader, Path(name).name, total=reader.announced or None, unit="frame", disable=None
        )
        drawn = target and VideoWriter(target, reader.fps, lambda i, h: draw_heads(i, h, style))
        with drawn or nullcontext() as writer:
            for frame in bar:
                heads = video(frame)
                if writer:
                    writer.put(frame.image, heads)
                record.frame(name, frame, heads)
                if passed is not None:
                    passed(frame, heads)
    seconds = time.perf_counter() - start
    people = video.tracker.begun
    print(
        f"{name}: {reader.decoded} frames, {people} {'person' if people == 1 else 'people'}, "
        f"{reader.decoded / seconds:.1f} frames/s"
    )
    if reader.failed:
        print(f"{reader.failed} of {reader.decoded + reader.failed} frames could not be decoded")
    if target and reader.decoded:
        print(f"wrote {target}")
    if not reader.decoded:
        raise InputError(f"{name}: not one frame could be decoded; it is damaged")
