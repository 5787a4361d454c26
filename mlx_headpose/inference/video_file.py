"""A video file from its first frame to its last: followed, recorded and drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import InputError
from .draw import draw_heads
from .estimator import Head
from .table import frame_result, zone_seconds
from .video import Frame, VideoEstimator, VideoReader, VideoWriter


def follow_video(
    reader: VideoReader,
    target: Path | None,
    video: VideoEstimator,
    style: str,
    results: list[dict[str, Any]],
    passed: Callable[[Frame, list[Head]], None] | None = None,
) -> None:
    """Follow the heads through a video, and say what was found.

    Args:
        reader: of the file.
        target: the drawn video, or None for none.
        video: what follows the heads.
        style: one of `draw.STYLES`.
        results: takes the result, frame by frame, so that it is there even if the user stops.
        passed: called with every frame and its heads.

    Raises:
        InputError: the video cannot be read or written, or not one frame could be decoded.
    """
    name = str(reader.source)
    frames: list[dict[str, Any]] = []
    start = time.perf_counter()
    with reader:
        result = {"file": name, "fps": reader.fps, "undecoded_frames": 0, "frames": frames}
        results.append(result)
        bar = tqdm(
            reader, Path(name).name, total=reader.announced or None, unit="frame", disable=None
        )
        drawn = target and VideoWriter(target, reader.fps, lambda i, h: draw_heads(i, h, style))
        with drawn or nullcontext() as writer:
            for frame in bar:
                heads = video(frame)
                if writer:
                    writer.put(frame.image, heads)
                frames.append(frame_result(frame, heads))
                if passed is not None:
                    passed(frame, heads)
                if video.zones:
                    result["zones"] = zone_seconds(video.attention)
    seconds = time.perf_counter() - start
    people = video.tracker.begun
    print(
        f"{name}: {reader.decoded} frames, {people} {'person' if people == 1 else 'people'}, "
        f"{reader.decoded / seconds:.1f} frames/s"
    )
    missing = result["undecoded_frames"] = max(reader.failed, reader.announced - reader.decoded)
    if missing:
        print(f"{missing} of {reader.announced} frames could not be decoded")
    if target and reader.decoded:
        print(f"wrote {target}")
    if not reader.decoded:
        raise InputError(f"{name}: not one frame could be decoded; it is damaged")
