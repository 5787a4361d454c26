"""A set of people in poses before cameras: what the two sources of heads have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..pose import pose_to_matrix
from .photo import PLAIN, Photo
from .rasterize import Camera
from .scene import Scene, render

# How much further out a loose box's x_min, y_min, x_max, y_max may lie, of its size.
LOOSE = np.array((-0.8, -0.25, 0.8, 0.5))
_CHUNK = 512


def on_axis(distances: np.ndarray | float) -> np.ndarray:
    """(..., 3) places in metres of heads whose centre is on the optical axis, (...) mm away."""
    away = np.asarray(distances, np.float64)[..., None] / 1000
    return away * np.array((0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Cameras:
    """The cameras of N samples, for pictures of side 1.

    Attributes:
        distances: (N,) from camera to head in mm.
        scales: (N,) sides of the picture per mm at the head.
        shifts: (N, 2) place of the head's pivot in the picture.
    """

    distances: np.ndarray
    scales: np.ndarray
    shifts: np.ndarray

    def __getitem__(self, number: int) -> Camera:
        x, y = self.shifts[number]
        return Camera(
            float(self.distances[number]), float(self.scales[number]), (float(x), float(y))
        )

    def boxes(
        self, points: Callable[[np.ndarray], np.ndarray], poses: np.ndarray, margin: float = 0
    ) -> np.ndarray:
        """(N, 4) float64 boxes of projected points in pictures of side 1.

        Args:
            points: sample numbers (n,) → (n, L, 3) mm from the pivot, at pose 0.
            poses: (N, 3) of the heads.
            margin: mm that the surface lies outside of the points.
        """
        turns = np.asarray(pose_to_matrix(poses.astype(np.float64)))
        boxes = np.empty((len(poses), 4))
        for start in range(0, len(poses), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(poses)))
            places = points(part) @ np.swapaxes(turns[part], 1, 2)
            distance, scale = self.distances[part, None], self.scales[part, None]
            near = distance / (distance - places[..., 2])
            flat = places[..., :2] * (near * scale)[..., None] + self.shifts[part][:, None]
            boxes[part, :2] = flat.min(axis=1) - margin * scale
            boxes[part, 2:] = flat.max(axis=1) + margin * scale
        return boxes


class People(ABC):
    """N samples. Everything of sample i follows from (seed, i), whatever N.

    Attributes:
        seed: random seed of the set and its split.
        seen: (N, 3) float32 yaw, pitch, roll in degrees, relative to the ray through the face.
        poses: (N, 3) float32 the same relative to the camera, whose axis goes through the pivot.
        cameras: cameras of the samples.
    """

    seed: tuple[int, ...]
    seen: np.ndarray
    poses: np.ndarray
    cameras: Cameras
    hair_margin: float  # mm of hair around the bald head in the head's box
    picture_stream: int  # number of the random stream of `picture`

    @abstractmethod
    def landmarks(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) sample numbers → (n, L, 3) float32 mm from the pivot at pose 0, with expression."""

    @abstractmethod
    def frontal_landmarks(self, number: int) -> np.ndarray:
        """(L, 3) float32 mm of sample `number`'s person at pose 0, without expression."""

    @abstractmethod
    def points_68(self, numbers: np.ndarray) -> np.ndarray:
        """(n, 68, 3) float32 300W's landmarks at pose 0, with expression."""

    @abstractmethod
    def outline(self, numbers: np.ndarray) -> np.ndarray:
        """(n, L, 3) points all over the bald heads at pose 0."""

    @abstractmethod
    def scene(self, number: int, pose: np.ndarray, rng: np.random.Generator) -> Scene:
        """Sample `number` in a (3,) pose; `rng` is the picture's."""

    def boxes(self, whole_head: bool) -> np.ndarray:
        """(N, 4) float64 boxes in pictures of side 1, around 300W's landmarks or the whole head."""
        if whole_head:
            return self.cameras.boxes(self.outline, self.poses, self.hair_margin)
        return self.cameras.boxes(self.points_68, self.poses)

    def picture(
        self, number: int, pose: np.ndarray, side: int, photo: Photo = PLAIN
    ) -> tuple[Image.Image, np.ndarray]:
        """Sample `number` in a (3,) pose, as an image of `side` pixels.

        Returns:
            The image, and (68, 3) float32 300W's landmarks in it, see `scene.render`.
        """
        rng = self.stream(number, self.picture_stream)
        scene = self.scene(number, pose, rng)
        turn = np.asarray(pose_to_matrix(np.asarray(pose, np.float64)))
        points = self.points_68(np.array([number]))[0] @ turn.T
        return render(scene, self.cameras[number], side, rng, photo, points)

    def stream(self, number: int, purpose: int) -> np.random.Generator:
        """Random numbers of their own for something of sample (or person) `number`."""
        return np.random.Generator(
            np.random.PCG64(np.random.SeedSequence((*self.seed, purpose, number)))
        )


def disturbed(boxes: np.ndarray, seed: tuple[int, ...], jitter: float, loose: float) -> np.ndarray:
    """(N, 4) boxes as face detectors and published sets place them: not quite around the face.

    Args:
        boxes: (N, 4) exact ones.
        seed: random seed; box i is the same whatever their number.
        jitter: standard deviation of the sides, relative to the box's size.
        loose: share of the boxes whose sides lie further out, by up to `LOOSE` of their size.
    """
    extent = np.tile(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), 2)
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*seed, 1))))
    boxes = boxes + jitter * noise.standard_normal(boxes.shape) * extent
    loosened = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*seed, 5))))
    chance, growth = np.split(loosened.random((len(boxes), 5)), (1,), axis=1)
    return boxes + (chance < loose) * growth * LOOSE * extent
