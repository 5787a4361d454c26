"""Heads in video: reading, network and writing side by side."""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import atomic_path
from .estimator import Head

# Frames that may wait between two threads.
QUEUE = 8
# Larger frames than 8K are refused; what waits to be looked at takes no more than this, whatever
# size the file claims.
MAX_FRAME_PIXELS = 36_000_000
MAX_WAITING_BYTES = 256 << 20
# Frames in a row that fail to decode before a video counts as ended.
MAX_FAILURES = 50
# For files and cameras that do not say their rate; rates beyond these are no rates.
DEFAULT_FPS = 30.0
FPS_RANGE = (0.1, 1000.0)
SHORTEST_S = 1e-6  # between two frames
LATEST_S = 1e9  # no video is that long
LAST_CAMERA = 2**31 - 1
RESTART_S = 1.0  # by which timestamps go back only where two files were joined
# Cameras deliver nothing at first, and lose their connection; it is waited for so long, then the
# camera is opened anew and waited for once more.
CAMERA_WAIT_S = 4.0
CAMERA_RETRY_S = 0.05


def require_opencv() -> Any:
    """OpenCV, which reads, writes and shows video.

    Raises:
        InputError: it is not installed, or cannot be loaded.
    """
    try:
        import cv2
    except ModuleNotFoundError:
        raise InputError(
            "video needs OpenCV; run `pip install opencv-python` (photos do without)"
        ) from None
    except ImportError as error:  # such as a missing library of the system
        raise InputError(f"OpenCV is installed and cannot be loaded ({error})") from None
    return cv2


@dataclass(frozen=True)
class Frame:
    """One frame: its number from 0, its time in seconds, and (H, W, 3) uint8 RGB pixels."""

    index: int
    time: float
    image: np.ndarray


class Clock:
    """Timestamps of a file's frames as seconds that never go back.

    Some files have no timestamps, or begin again at zero where two recordings were joined: there
    the time goes on by the nominal interval.

    Args:
        fps: nominal rate.
    """

    def __init__(self, fps: float):
        self.interval = 1 / fps
        self.now: float | None = None
        self._stamp = 0.0
        self._offset = 0.0

    def __call__(self, stamp: float, missing: int = 0) -> float:
        """The time of the next frame.

        Args:
            stamp: its timestamp in seconds, perhaps none.
            missing: frames between the last one and this one.
        """
        missing_stamp = not abs(stamp) < LATEST_S  # NaN too
        if self.now is None:
            self.now = 0.0 if missing_stamp else max(stamp, 0.0)
            self._stamp = self.now
            return self.now
        expected = self.now + (missing + 1) * self.interval
        if missing_stamp or stamp == self._stamp:
            self.now = expected
            return expected
        if stamp < self._stamp - RESTART_S:
            self._offset = expected - stamp
        self._stamp = stamp
        self.now = max(stamp + self._offset, self.now + SHORTEST_S)
        return self.now


def continued(stamps: np.ndarray, interval: float) -> np.ndarray:
    """(N,) timestamps in seconds that go on, by an interval, where they begin again.

    Frames are stored in the order of decoding, so that small steps back are none.
    """
    stamps = stamps.copy()
    for start in np.flatnonzero(np.diff(stamps) < -RESTART_S) + 1:
        stamps[start:] += stamps[:start].max() + interval - stamps[start]
    return stamps


class VideoReader:
    """Frames of a file or a camera, decoded in a thread of their own.

    Use it as a context manager and iterate over it. A camera's frames are dropped while the
    network is busy, so that what is seen is always the latest; a file's frames wait.

    A frame's time is its own timestamp in the file, or, from a camera, the seconds since it was
    opened. Times never go back.

    Args:
        source: path of a video, number of a camera, or what makes an object like OpenCV's
            `VideoCapture` that stands for a camera.

    Attributes:
        live: whether it is a camera.
        of_camera: whether it is a camera or was one, as in a recording.
        started: of a camera, the clock (`time.perf_counter`) when its frames' times began.
        dropped: frames of a camera that nobody took before the next one came.
        announced: frames that the file says it has, often an estimate; 0 where it does not say.
        decoded: frames read so far.
        failed: frames so far that could not be decoded and that good ones followed.

    Raises:
        InputError: there is no such video or camera, or it cannot be read. While iterating: a
            camera delivers nothing, or nothing more.
    """

    def __init__(self, source: str | Path | int | Callable[[], Any]):
        cv2 = require_opencv()
        self.source = source
        self.live = self.of_camera = isinstance(source, int) or callable(source)
        self.started = 0.0
        self.dropped = 0
        if not self.live and not Path(source).is_file():  # type: ignore[arg-type]
            raise InputError(f"{source}: no such video; check the path")
        self._capture = self._open()
        if not self._capture.isOpened():
            raise InputError(
                f"camera {source} cannot be opened; check its number and this program's permission"
                if self.live
                else f"{source}: no video that OpenCV can read"
            )
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        pixels = math.prod(int(self._capture.get(side)) for side in sides)
        if pixels > MAX_FRAME_PIXELS:
            self._capture.release()
            raise InputError(
                f"{source}: frames of over {MAX_FRAME_PIXELS // 1_000_000} megapixels; scale them"
                " down"
            )
        waiting = max(1, min(QUEUE, MAX_WAITING_BYTES // max(3 * pixels, 1)))
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self._nominal_fps = fps if FPS_RANGE[0] <= fps <= FPS_RANGE[1] else DEFAULT_FPS
        self.announced = (
            0 if self.live else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        )
        self.decoded = 0
        self.failed = 0
        self._times: list[float] = []  # of the first and the last frame
        self._ended = False  # the reading, and
        self._over = False  # what takes its frames
        self._error: InputError | None = None
        self._queue: queue.Queue[Frame | None] = queue.Queue(1 if self.live else waiting)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    @cached_property
    def fps(self) -> float:
        """Frames per second, on average over a file's timestamps.

        The rate that a container announces is often the shortest interval's, or no rate at all.
        """
        if self.live:
            return self._nominal_fps
        times = np.array(self._times) if self._ended else self._timestamps()
        if len(times) > 1 and times.max() > times.min():
            count = self.decoded + self.failed if self._ended else len(times)
            fps = round((count - 1) / float(times.max() - times.min()), 6)
            if FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
                return fps
        return self._nominal_fps

    def _timestamps(self) -> np.ndarray:
        """(N,) seconds of all frames, unordered, read without decoding; empty if that fails."""
        cv2 = require_opencv()
        capture = self._open()
        times = array("d")
        if capture.isOpened() and capture.set(cv2.CAP_PROP_FORMAT, -1):
            while capture.grab():
                times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        capture.release()
        seconds = np.array(times)
        return continued(seconds[np.abs(seconds) < LATEST_S], 1 / self._nominal_fps)

    def _open(self) -> Any:
        source = self.source
        if callable(source):
            return source()
        if not isinstance(source, int):
            source = _for_opencv(source)
        elif source > LAST_CAMERA:
            raise InputError(f"{source}: no such camera, video or folder; check the path")
        return require_opencv().VideoCapture(source)

    def __enter__(self) -> VideoReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        if not self._thread.is_alive():  # else a camera stalls, and is let go where it goes on
            self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        if self._thread.ident is None:
            raise InputError(f"{self.source}: is not open; read it in a with statement")
        if self._over:
            raise InputError(f"{self.source}: was read to its end; open it again")
        while (frame := self._queue.get()) is not None:
            yield frame
        self._over = True
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            if self.live:
                self._read_camera()
            else:
                self._read_file()
        except Exception as error:  # it must reach the thread that waits for us
            self._error = InputError(f"{self.source}: OpenCV fails to read it ({error})")
        finally:
            self._ended = True
            self._put(None)
            if self._stop.is_set():  # nobody else may be left to do so
                self._capture.release()

    def _read_file(self) -> None:
        position = require_opencv().CAP_PROP_POS_MSEC
        clock = Clock(self._nominal_fps)
        failed = 0  # in a row: a broken frame if a good one follows, else the end of the file
        while not self._stop.is_set() and failed < MAX_FAILURES:
            good, pixels = self._capture.read()
            if not good:
                failed += 1
                continue
            self.failed += failed
            now = clock(self._capture.get(position) / 1000, failed)
            self._deliver(pixels, now)
            failed = 0

    def _read_camera(self) -> None:
        start = since = self.started = time.perf_counter()
        reopened = False
        while not self._stop.is_set():
            good, pixels = self._capture.read()
            now = time.perf_counter()
            if good:
                self._deliver(pixels, now - start)
                since, reopened = now, False
            elif now - since < CAMERA_WAIT_S:
                self._stop.wait(CAMERA_RETRY_S)
            elif not reopened and not self._stop.is_set():
                self._capture.release()
                self._capture = self._open()
                since, reopened = time.perf_counter(), True
            else:
                self._error = InputError(
                    f"camera {self.source}: delivers no {'more ' * (self.decoded > 0)}pictures; "
                    "check its cable and whether another program uses it"
                )
                return

    def _deliver(self, pixels: np.ndarray, now: float) -> None:
        self.decoded += 1
        self._times[1:] = [now]
        index = self.decoded + self.failed - 1
        self._put(Frame(index, now, np.ascontiguousarray(pixels[:, :, ::-1])))

    def _put(self, frame: Frame | None) -> None:
        if self.live:
            with contextlib.suppress(queue.Empty):
                # The network has not taken the last one: too late.
                self.dropped += self._queue.get_nowait() is not None
        while True:
            try:
                self._queue.put(frame, timeout=0.1)
                return
            except queue.Full:
                if self._stop.is_set():
                    return


class VideoWriter:
    """Writes frames in a thread of its own; the file appears whole, when it is closed.

    Use it as a context manager.

    Args:
        path: path of the video, .mp4 or whatever OpenCV can write.
        fps: frames per second.
        draw: (image, heads) → image, called in the thread.
        lossless: whether the pixels stay exactly as they are.

    Attributes:
        written: frames so far.
        kept: whether the file is there, once it is closed.

    Raises:
        InputError: the video cannot be written, or its frames differ in size.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        draw: Callable[[np.ndarray, list[Head]], np.ndarray],
        lossless: bool = False,
    ):
        self.path = Path(path)
        self.lossless = lossless
        self.fps = fps
        self.draw = draw
        self._queue: queue.Queue[tuple[np.ndarray, list[Head]] | None] = queue.Queue(QUEUE)
        self._error: Exception | None = None
        self.written = 0
        self.kept = False
        self._file = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> VideoWriter:
        self._temporary = self._file.enter_context(atomic_path(self.path))
        self._thread.start()
        return self

    def put(self, image: np.ndarray, heads: list[Head]) -> None:
        """Write the next frame."""
        self._raise()
        self._queue.put((image, heads))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        # What was written until Ctrl-C or an error is a proper video: keep it, but for an error
        # give up no whole one.
        whole = self._error is None and kind in (None, KeyboardInterrupt)
        if self.written and (whole or not self.path.exists()):
            self._file.close()
            self.kept = True
        else:
            nothing = InputError(f"{self.path}: no frame")
            self._file.__exit__(InputError, nothing, None)
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise InputError(f"{self.path}: cannot be written ({self._error})")

    def _write(self) -> None:
        cv2 = require_opencv()
        writer = None
        first: tuple[int, ...] = ()  # shape of the first frame
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue  # keep taking frames, so that nobody waits for a full queue
            try:
                pixels = self.draw(*item)
                first = first or pixels.shape
                if pixels.shape != first:  # OpenCV would leave it out
                    raise InputError(
                        f"a frame of {_size(pixels)} pixels after {first[1]}×{first[0]}"
                    )
                # Most codecs want even sides.
                width, height = pixels.shape[1] // 2 * 2, pixels.shape[0] // 2 * 2
                if self.lossless and (height, width) != first[:2]:
                    raise InputError(f"frames of {_size(pixels)} pixels, which are not even")
                pixels = pixels[:height, :width]
                if writer is None:
                    writer = _open_writer(
                        cv2, self._temporary, self.fps, (width, height), self.lossless
                    )
                # Before OpenCV 5 it answers None, whatever happens.
                if writer.write(np.ascontiguousarray(pixels[:, :, ::-1])) is False:
                    raise InputError("the disk may be full")
                self.written += 1
            except Exception as error:  # it must reach the thread that waits for us
                self._error = error
        if writer is not None:
            writer.release()


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"


def _for_opencv(path: str | Path) -> str:
    """A path as OpenCV takes it.

    Raises:
        InputError: it is no UTF-8; OpenCV ends the process at such names.
    """
    # FFmpeg takes what is before a colon, as in 14:05:33.mp4, for a protocol.
    whole = str(Path(path).absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: OpenCV opens no name that is not UTF-8; rename it") from None
    return whole


def _open_writer(
    cv2: Any, path: Path, fps: float, size: tuple[int, int], lossless: bool = False
) -> Any:
    # H.264 plays everywhere, but OpenCV's Linux wheels cannot write it.
    codec = "avc1" if sys.platform == "darwin" else "mp4v"
    if path.suffix.lower() == ".avi":
        codec = "HFYU" if lossless else "MJPG"
    elif lossless:
        codec = "FFV1"
    backend = cv2.CAP_FFMPEG if lossless else cv2.CAP_ANY  # AVFoundation knows no lossless ones
    writer = cv2.VideoWriter(_for_opencv(path), backend, cv2.VideoWriter_fourcc(*codec), fps, size)
    if not writer.isOpened():
        raise InputError(f"OpenCV cannot write {path.suffix} video here; try .mp4 or .avi")
    return writer
