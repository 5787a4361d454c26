"""Pictures of `predict.py`, several at a time: decoded ahead, looked at, drawn and written behind.

Threads decode and write, which PIL does without Python's lock; networks compute in the thread that
asks, since what MLX computes belongs to the thread that began it. A few pictures wait on either
side, however many there are.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.loader import read_ahead
from ..errors import InputError
from ..files import atomic_path
from ..inference.draw import draw_heads
from ..inference.estimator import Head
from ..inference.pictures import open_picture
from ..readers.pictures import frame_count

READERS = 2
AHEAD = 2  # decoded pictures that wait for the network
BEHIND = 2  # looked at, and not yet written
QUALITY = 95

Opened = tuple[np.ndarray, int] | InputError
Step = Callable[[], Any]


def decoded(names: Iterable[str]) -> Generator[Opened, None, None]:
    """Each picture's pixels and number of frames, or why it cannot be read, in order."""
    return read_ahead(_open, names, READERS, AHEAD)


def _open(name: str) -> Opened:
    try:
        image = open_picture(name)
    except InputError as error:  # one that is raised would end all reading
        return error
    try:
        return image, frame_count(Path(name)) if Path(name).is_file() else 1
    except InputError:  # a later page is damaged, and only the first is read
        return image, 1


class Drawings:
    """Draws and writes pictures in a thread of its own; a context manager.

    Args:
        style: how heads are drawn.
    """

    def __init__(self, style: str):
        self.style = style
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def __enter__(self) -> Drawings:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def write(self, target: Path, image: np.ndarray, heads: list[Head]) -> Future[None]:
        """Begin to draw heads and to write the image, atomically."""
        return self._pool.submit(self._write, target, image, heads)

    def _write(self, target: Path, image: np.ndarray, heads: list[Head]) -> None:
        with atomic_path(target) as temporary:
            drawn = Image.fromarray(draw_heads(image, heads, self.style))
            try:
                drawn.save(temporary, quality=QUALITY)
            except (ValueError, OSError) as error:  # such as a WebP of over 16383 pixels a side
                if getattr(error, "errno", None) is not None:  # the disk's
                    raise
                raise InputError(
                    f"{target}: cannot be written ({error}); save it as .png"
                ) from None


class Inputs:
    """Looks at one input after the other; a context manager, which ends what was begun.

    Of several inputs those that cannot be used are named and counted, and the others go on.

    Args:
        several: whether there are several.

    Attributes:
        unread: inputs so far that could not be used.
    """

    def __init__(self, several: bool):
        self.several = several
        self.unread = 0
        self._begun: deque[Step] = deque()

    def __enter__(self) -> Inputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    def look(self, step: Callable[[], Step | None]) -> None:
        """Look at an input.

        Args:
            step: what looks at it, and returns what is left to do when that is done, if anything.

        Raises:
            InputError: it cannot be used, and is the only one.
        """
        while len(self._begun) >= BEHIND:
            self._attempt(self._begun.popleft())
        if (rest := self._attempt(step)) is not None:
            self._begun.append(rest)

    def settle(self) -> None:
        """Wait for what was begun."""
        while self._begun:
            self._attempt(self._begun.popleft())

    def _attempt(self, step: Step) -> Any:
        try:
            return step()
        except InputError as error:
            if not self.several:
                raise
            print(f"error: {error}", file=sys.stderr)
            self.unread += 1
            return None
