"""A camera, watched until somebody ends it: its window, streams, a recording, a zero by key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..inference.draw import draw_heads
from ..inference.estimator import Head
from ..inference.loop import Seen, follow, largest_pose
from ..inference.video import Frame, VideoReader, require_opencv
from ..inference.video_estimator import VideoEstimator
from ..space.zero import Calibration, Zero
from .hud import draw_hud
from .recording import Recorder
from .streams import Stream

TITLE = "mlx-headpose (q quits, c calibrates)"
QUIT, CALIBRATE = ord("q"), ord("c")
HINT = "look in one direction and keep still"


@dataclass
class Watched:
    """What was seen of a camera: frames, those dropped, frames per second, and latencies.

    The rate is a running mean, the latencies are the last ones, in seconds.
    """

    frames: int = 0
    dropped: int = 0
    rate: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def add(self, seen: Seen, interval: float) -> None:
        """Take in a frame that came `interval` seconds after the one before."""
        rate = 1 / max(interval, 1e-6)
        self.rate = 0.9 * self.rate + 0.1 * rate if self.frames > 1 else rate
        self.frames += 1
        self.dropped = seen.dropped
        self.latencies = [*self.latencies[-999:], seen.latency or 0.0]

    def __str__(self) -> str:
        if not self.frames:
            return "no frames"
        middle, slow = 1000 * np.percentile(self.latencies, (50, 95))
        return (
            f"{self.frames} frames, {self.dropped} dropped, {self.rate:.1f} frames/s, latency"
            f" {middle:.0f} ms (95 % within {slow:.0f} ms)"
        )


class Watch:
    """Follows a camera's heads, and passes on what is seen.

    Args:
        video: what follows the heads.
        keep: called with every frame; a camera may run for days, and nothing else is kept of it.
        streams: where heads go.
        recorder: takes the frames.
        zero_path: file that a zero calibrated by key is saved in.
    """

    def __init__(
        self,
        video: VideoEstimator,
        keep: Callable[[Frame, list[Head]], None] | None = None,
        streams: Sequence[Stream] = (),
        recorder: Recorder | None = None,
        zero_path: str | Path | None = None,
    ):
        self.video = video
        self.keep = keep
        self.streams = streams
        self.recorder = recorder
        self.zero_path = zero_path
        self.watched = Watched()
        self.note = ""
        self._calibration: Calibration | None = None
        self._before: Zero | None = None  # the zero that a failed calibration leaves

    def run(self, reader: VideoReader, seconds: float | None = None, show: Any = None) -> Watched:
        """Watch a camera.

        Args:
            reader: reader of it.
            seconds: for so long; None means until it ends.
            show: called with every `Seen`; returns the key that was pressed, or None to end.

        Raises:
            InputError: the camera delivers nothing more.
        """
        last = time.perf_counter()
        frames: Iterable[Seen] = follow(self.video, reader)
        for seen in frames:
            now = time.perf_counter()
            self.watched.add(seen, now - last)
            last = now
            for stream in self.streams:
                stream.send(seen.frame.index, seen.frame.time, seen.heads)
            if self.keep is not None:
                self.keep(seen.frame, seen.heads)
            changed = self._calibrate(seen)
            key = show(seen) if show else -1
            if key == CALIBRATE:
                if self._calibration is None:
                    self._before = self.video.estimator.zero
                self._calibration, self.note = Calibration(), HINT
                self.video.estimator.zero, changed = None, True
            if self.recorder is not None:
                self.recorder.put(seen.frame, self.video.estimator.zero, changed)
            if key is None or (seconds is not None and seen.frame.time >= seconds):
                break
        return self.watched

    def _calibrate(self, seen: Seen) -> bool:
        """Go on with a calibration; returns whether the zero changed."""
        if self._calibration is None:
            return False
        try:
            zero = self._calibration.add(seen.frame.time, largest_pose(seen.heads))
        except InputError as error:
            self._calibration, self.note = None, f"not calibrated: {error}"
            self.video.estimator.zero = self._before
            return True
        if zero is None:
            return False
        self._calibration, self.note = None, f"zero set: {zero.spread:.1f}° of movement"
        self.video.estimator.zero = zero
        if self.zero_path:
            try:
                zero.save(self.zero_path)
            except InputError as error:  # the camera goes on with it
                self.note = f"zero set, but not saved: {error}"
        return True


def show_camera(
    watch: Watch, reader: VideoReader, style: str, seconds: float | None = None
) -> Watched:
    """Show a camera's picture until q is pressed or the window is closed.

    Args:
        watch: what is done with its frames.
        reader: reader of the camera.
        style: one of `draw.STYLES`, or "none".
        seconds: for so long at most.

    Raises:
        InputError: the camera cannot be read, or OpenCV is not here or cannot open windows.
    """
    cv2 = require_opencv()

    def show(seen: Seen) -> int | None:
        image = seen.frame.image
        if style != "none":
            image = draw_heads(image, seen.heads, style)
        watched = watch.watched
        image = draw_hud(
            image, seen.heads, watched.rate, seen.latency or 0.0, seen.dropped, watch.note
        )
        cv2.imshow(TITLE, np.ascontiguousarray(image[:, :, ::-1]))
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        return None if closed or key == QUIT else key

    try:
        watched = watch.run(reader, seconds, show)
        cv2.destroyAllWindows()
    except cv2.error as error:
        raise InputError(
            "this OpenCV cannot open windows; run `pip uninstall opencv-python-headless` and "
            "`pip install opencv-python`, or do without by --no_window "
            f"({str(error).splitlines()[0]})"
        ) from None
    return watched
