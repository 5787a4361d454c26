"""Runs a page's Python lines with what the page takes for given.

    python -m support.given PAGE FILE

Nothing but what another program or a camera would bring is given: its results, its package.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

YAW, PITCH, ROLL = 20.0, -10.0, 5.0


def _live() -> dict[str, Any]:
    """Somebody who leaves the demonstration after a few frames, and looks into a camera."""
    from mlx_headpose import HeadPoseEstimator
    from mlx_headpose.space import zero

    endless = HeadPoseEstimator.stream

    def stream(*arguments: Any, **options: Any) -> Iterator[Any]:
        with closing(endless(*arguments, **options)) as frames:
            yield from islice(frames, 3)

    def calibrate(self: HeadPoseEstimator, _source: int) -> zero.Zero:
        self.zero = zero.calibrate([np.zeros(3)] * zero.MIN_POSES)
        return self.zero

    HeadPoseEstimator.stream, HeadPoseEstimator.calibrate = stream, calibrate
    return {}


def _migrating() -> dict[str, Any]:
    """Results of the other programs, for one head that looks (YAW, PITCH, ROLL)."""

    class SixDRepNet:
        def predict(self, crop: np.ndarray) -> tuple[np.ndarray, ...]:
            assert crop.dtype == np.uint8
            return tuple(np.array([angle], np.float32) for angle in (PITCH, YAW, ROLL))

    package = ModuleType("sixdrepnet")
    package.SixDRepNet = SixDRepNet
    sys.modules["sixdrepnet"] = package
    radians = dict(zip(("yaw", "pitch", "roll"), np.deg2rad([YAW, PITCH, ROLL]), strict=True))
    return {
        "crop": np.zeros((224, 224, 3), np.uint8),
        "yaw": YAW,
        "pitch": PITCH,
        "roll": ROLL,
        "result": SimpleNamespace(facial_transformation_matrixes=[np.eye(4)]),
        "face": SimpleNamespace(**{k: lambda v=v: v for k, v in radians.items()}),
    }


# Page → what makes the names that its lines take for given.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/live.md": _live,
    "docs/migrating.md": _migrating,
}


if __name__ == "__main__":
    page, file = sys.argv[1:]
    runpy.run_path(file, init_globals=GIVEN[page]() if page in GIVEN else None)
