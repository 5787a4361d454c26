"""Landmarks of one face from a file, and their pose."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from ..data.annotated import read_annotation
from ..errors import InputError
from ..methods import Estimator
from ..readers.npy import read_array
from ..readers.numbers import MAX_COORDINATE

MAX_BYTES = 1 << 20  # no face has that many landmarks


def read_landmarks(path: str | Path) -> np.ndarray:
    """(L, 3) float32 landmarks in image axes: x right, y down, z towards the viewer, one unit.

    Args:
        path: a NumPy `.npy` or a text file (`.csv`, `.txt`) of L rows of x, y, z, or an AFLW2000
            `.mat` with `pt3d_68`.

    Raises:
        InputError: the file is missing, damaged, or holds no such array.
    """
    path = Path(path)
    if path.suffix == ".mat":
        points = read_annotation(path, "pt3d_68")["pt3d_68"].T
    else:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path}: too large for the landmarks of one face")
            if path.suffix == ".npy":
                points = read_array(path)
            else:
                lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
                rows = [line.split() for line in lines if line.strip()]
                points = np.array([[float(word) for word in row] for row in rows])
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check --landmarks") from None
        except (OSError, ValueError, EOFError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: no readable landmarks ({error})") from None
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise InputError(f"{path}: landmarks must be rows of x, y, z, not {points.shape}")
    if not (np.isfinite(points).all() and np.abs(points).max(initial=0) <= MAX_COORDINATE):
        raise InputError(f"{path}: some of its landmarks are no numbers, or far out")
    return points.astype(np.float32)


def pose_of_landmarks(model: Estimator, points: np.ndarray, source: str | Path) -> np.ndarray:
    """(3,) yaw, pitch, roll in degrees.

    Args:
        model: a network that reads landmarks.
        points: (L, 3), see `read_landmarks`.
        source: named in errors.
    """
    count = model.config.inputs.landmarks
    if not count:
        raise InputError(
            f"{model.config.model_type} reads images, not landmarks; give it an image, or name a "
            "network that reads landmarks"
        )
    if len(points) != count:
        raise InputError(f"{source}: has {len(points)} landmarks, the network reads {count}")
    return np.array(model.decode(model(mx.array(points[None]))))[0]
