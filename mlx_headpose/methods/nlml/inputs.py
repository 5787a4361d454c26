"""Landmarks as a network's input."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ...core.crop import Margins
from ...core.inputs import HeadReader, Input, Landmarker
from ...data import Dataset
from ...data.landmarks import face_mesh, with_landmarks


class LandmarkInput(Input):
    """(N, L, 3) float32 landmarks of faces in image axes.

    Args:
        count: L.
    """

    def __init__(self, count: int):
        self.landmarks = count

    def __str__(self) -> str:
        return f"{self.landmarks} landmarks of a face"

    def open(self, dataset: Dataset, train: bool = False, skip_bad: bool = False) -> Dataset:
        """The set with its own landmarks, or those that MediaPipe finds in its photos."""
        return with_landmarks(dataset, self.landmarks, skip_bad)

    def sample(self, dataset: Dataset, index: int) -> np.ndarray:
        """(L, 3) float32; see `Dataset.landmarks`."""
        return dataset.landmarks(index)

    def head_reader(self, margins: Margins, landmarker: Landmarker | None) -> HeadReader:
        """The landmarker, which takes the face's box without margins."""
        found = landmarker

        def read(image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
            nonlocal found
            if found is None:
                found = face_mesh(self.landmarks)
            return found(image, box)

        return read

    def example(self, batch: int) -> mx.array:
        """(batch, L, 3) float32 noise."""
        rng = np.random.default_rng(0)
        return mx.array(rng.standard_normal((batch, self.landmarks, 3)).astype(np.float32))
