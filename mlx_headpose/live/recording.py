"""Recordings that give the same numbers when they are replayed.

Pixels are kept exactly, by a lossless codec, and beside the video lies a JSON file with what else
the numbers depend on: when each frame was captured, and which zero was set when.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import InputError
from ..files import read_json, require_writable, write_json
from ..inference.video import FPS_RANGE, Frame, VideoReader, VideoWriter
from ..space.zero import Zero

SUFFIXES = (".avi", ".mp4", ".mkv", ".mov")
FPS = 30.0  # that players show it at
MAX_FRAMES = 10_000_000


def sidecar(path: str | Path) -> Path:
    """The file beside a recording."""
    return Path(f"{path}.json")


class Recorder:
    """Writes a camera's frames; use it as a context manager.

    Args:
        path: path of the video. In .avi files they are written four times as fast as in others.

    Raises:
        InputError: it is no video's name, or cannot be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise InputError(f"--record {path}: no video format; end it in .avi or .mp4")
        require_writable(sidecar(path))
        self.frames: list[tuple[int, float]] = []  # numbers and times
        self.zeros: list[dict[str, Any]] = []
        self._writer = VideoWriter(self.path, FPS, lambda image, _: image, lossless=True)

    def __enter__(self) -> Recorder:
        self._writer.__enter__()
        return self

    def put(self, frame: Frame, zero: Zero | None = None, changed: bool = False) -> None:
        """Record a frame.

        Args:
            frame: the next one.
            zero: that the heads of later frames are relative to.
            changed: whether it is another one than before.
        """
        self._writer.put(frame.image, [])
        self.frames.append((frame.index, frame.time))
        if changed:
            self.zeros.append({"frame": frame.index, "zero": zero and zero.to_dict()})

    def begin(self, zero: Zero | None) -> None:
        """Note the zero that the first frames' heads are relative to."""
        self.zeros.append({"frame": -1, "zero": zero and zero.to_dict()})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was recorded until the camera vanished or a stream's reader ended is whole.
        if kind is not None and issubclass(kind, InputError | BrokenPipeError):
            kind = error = trace = None
        try:
            self._writer.__exit__(kind, error, trace)
        finally:
            if self._writer.kept:
                frames = self.frames[: self._writer.written]
                write_json(
                    sidecar(self.path),
                    {"mlx-headpose": __version__, "frames": frames, "zeros": self.zeros},
                )


class Replay(VideoReader):
    """Frames of a recording, with the times at which they were captured.

    Attributes:
        zeros: frame's number, −1 for the beginning → the zero that was set after it, or None.

    Raises:
        InputError: there is no such recording, or the file beside it is missing or damaged.
    """

    def __init__(self, path: str | Path):
        super().__init__(str(path))
        self.of_camera = True
        beside = sidecar(path)
        values = read_json(
            beside, "a recording is replayed with the file that was written beside it; copy both"
        )
        frames = values.get("frames") if isinstance(values, dict) else None
        if not isinstance(frames, list) or not 0 < len(frames) <= MAX_FRAMES:
            raise InputError(f"{beside}: was not written by --record")
        try:
            numbers = np.array(frames, np.float64).reshape(-1, 2)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{beside}: its frames are not numbers and times") from None
        steps = np.diff(numbers, axis=0)
        if not np.isfinite(numbers).all() or (steps[:, 0] <= 0).any() or (steps[:, 1] < 0).any():
            raise InputError(f"{beside}: its frames are not in order")
        self.frames = numbers
        self.zeros: dict[int, Zero | None] = {}
        zeros = values.get("zeros") or []
        for entry in zeros if isinstance(zeros, list) else [zeros]:
            if not isinstance(entry, dict) or not isinstance(entry.get("frame"), int):
                raise InputError(f"{beside}: its zeros are damaged")
            zero = entry.get("zero")
            self.zeros[entry["frame"]] = None if zero is None else Zero.from_dict(zero, beside)

    @property
    def fps(self) -> float:
        """Frames per second of the camera; the file itself announces another rate."""
        seconds = float(self.frames[-1, 1] - self.frames[0, 1])
        rate = (len(self.frames) - 1) / seconds if seconds > 0 else 0.0
        return rate if FPS_RANGE[0] <= rate <= FPS_RANGE[1] else self._nominal_fps

    def _deliver(self, pixels: np.ndarray, now: float) -> None:
        number = min(self.decoded + self.failed, len(self.frames) - 1)
        self.decoded += 1
        index, time = self.frames[number].tolist()
        self._put(Frame(int(index), time, np.ascontiguousarray(pixels[:, :, ::-1])))
