"""Stand-ins for a detector and a network, of videos in which white squares are faces."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mlx_headpose.detection.finder import Detections
from mlx_headpose.inference.estimator import Head

DT = 1 / 30


def faces(*boxes: tuple[float, ...], score: float = 0.9) -> Detections:
    count = len(boxes)
    values = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(values, np.full(count, score))


def square(x: float, y: float = 100, side: float = 80) -> tuple[float, ...]:
    return (x, y, x + side, y + side)


class FakeDetector:
    """Takes white squares for faces, whatever is in them."""

    finds = "faces"

    def __call__(self, images: list[np.ndarray], min_score: float) -> list[Detections]:
        found = []
        for image in images:
            labels, count = ndimage.label(image[:, :, 0] > 128)
            slices = ndimage.find_objects(labels)[:count]
            found.append(faces(*((x.start, y.start, x.stop, y.stop) for y, x in slices)))
        return found


class FakeEstimator:
    """Takes a white square for a face, its left edge for the yaw, and anything grey for a head."""

    min_confidence = 0.5

    def __init__(self) -> None:
        self.detector = FakeDetector()

    def placed(self, heads: list[Head], size: tuple[int, int]) -> list[Head]:
        return heads

    def zeroed(self, heads: list[Head]) -> list[Head]:
        return heads

    def estimate(self, images: list[np.ndarray], known: list[Detections]) -> list[list[Head]]:
        return [
            [
                Head(
                    tuple(box),
                    float(box[0]),
                    0.0,
                    0.0,
                    confidence=self.confidence(image, box),
                    score=None if np.isnan(score) else float(score),
                )
                for box, score in zip(those.boxes, those.scores, strict=True)
            ]
            for image, those in zip(images, known, strict=True)
        ]

    def confidence(self, image: np.ndarray, box: np.ndarray) -> float | None:
        x_min, y_min, x_max, y_max = np.maximum(box, 0).astype(int)
        return 0.9 if (image[y_min:y_max, x_min:x_max, 0] > 60).mean() > 0.5 else 0.1
