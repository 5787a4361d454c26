"""A camera that is none: a rendered head that looks around, for trying things without a webcam."""

from __future__ import annotations

import time

import numpy as np

from ..space.intrinsics import DEFAULT_FOV, Camera
from .film import Actor, Film, Placed

WIDTH, HEIGHT, FPS = 640, 480, 30.0
PERSON = 11  # one without hat, glasses or hair over the face


class Demo:
    """What the demonstration shows.

    Args:
        person: number of the built-in head.
        noise: standard deviation of the pixels' noise, of 255.
    """

    def __init__(self, person: int = PERSON, noise: float = 2.0):
        self.camera = Camera.from_fov(DEFAULT_FOV, WIDTH, HEIGHT)
        self.film = Film(self.camera, [Actor(person)], person, noise)

    def truth(self, seconds: float) -> Placed:
        """Where the head is, and how it is turned, at a time."""
        t = 2 * np.pi * seconds
        # The turns are held at their ends for a while, as people look at things.
        yaw = 38 * np.tanh(2.5 * np.sin(t / 7)) + 3 * np.sin(t / 2.3)
        pose = np.array([yaw, 9 * np.sin(t / 4.1 + 1) - 3, 6 * np.sin(t / 5.7)])
        place = np.array([0.05 * np.sin(t / 9), 0.02 * np.sin(t / 6), 0.65 + 0.1 * np.sin(t / 13)])
        return Placed(pose, place)

    def frame(self, seconds: float) -> np.ndarray:
        """(H, W, 3) uint8 RGB at a time."""
        return self.film.frame([self.truth(seconds)])


class DemoCapture:
    """The demonstration with the methods of `cv2.VideoCapture` that `VideoReader` calls.

    Args:
        demo: what it shows.
        frames: how many there are; None means no end.
    """

    def __init__(self, demo: Demo, frames: int | None = None):
        self.demo = demo
        self.frames = frames
        self.count = 0
        self._start: float | None = None

    def isOpened(self) -> bool:
        """True."""
        return True

    def get(self, property_: int) -> float:
        """`cv2.CAP_PROP_FRAME_WIDTH`, 3, `cv2.CAP_PROP_FRAME_HEIGHT`, 4, `cv2.CAP_PROP_FPS`, 5."""
        return {3: WIDTH, 4: HEIGHT, 5: FPS}.get(property_, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        """The next frame, blue-green-red, when its time has come."""
        if self.frames is not None and self.count >= self.frames:
            return False, None
        now = time.perf_counter()
        if self._start is None:
            self._start = now
        due = self._start + self.count / FPS
        if now < due:
            time.sleep(due - now)
        self.count += 1
        image = self.demo.frame(time.perf_counter() - self._start)
        return True, np.ascontiguousarray(image[..., ::-1])

    def release(self) -> None:
        """Nothing is held."""
