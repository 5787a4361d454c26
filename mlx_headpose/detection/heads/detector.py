"""The head detector: from images to heads from every side, with the boxes of their faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image

from ...core.estimator import Estimator
from ...errors import InputError
from ...quantization.fold import fold_batch_norms
from ...readers.safetensors_file import read_config
from ...weights import BUNDLED, load_network
from ..yunet import Detections
from .network import STRIDES, Config

BUNDLED_DETECTOR = BUNDLED.with_name("headdetector.safetensors")
# Weights are stored with their scores shifted so that this is the threshold that was chosen on
# rendered scenes.
DEFAULT_MIN_SCORE = 0.5
DEFAULT_SIZE = 640
MIN_SIZE, MAX_SIZE = 64, 8192
GPU_BATCH = 16


class SurroundHeadDetector:
    """Finds heads from every side, seen or hidden faces included.

    Args:
        network: a trained `headdetector` network, whose batch norms are folded in place.
        size: images whose longer side is larger are scaled down to it. Heads of 12 pixels or more
            at that scale can be found.

    Raises:
        InputError: the network is of another method, or the size is impossible.
    """

    finds = "landmarks"  # `Detections.boxes` bound the 68 landmarks of faces, seen or hidden

    def __init__(self, network: Estimator, size: int = DEFAULT_SIZE):
        if not isinstance(network.config, Config):
            raise InputError(f"a {network.config.model_type} network finds no heads")
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise InputError(f"detection size {size}: give {MIN_SIZE} to {MAX_SIZE} pixels")
        self.network = network
        self.size = size
        network.eval()
        fold_batch_norms(network, mx.random.normal((1, 64, 64, 3), key=mx.random.key(0)))

    @classmethod
    def from_pretrained(
        cls, source: str | Path | None = None, size: int = DEFAULT_SIZE
    ) -> SurroundHeadDetector:
        """Load a head detector.

        Args:
            source: a `.safetensors` file; None takes the one that comes with the package.
            size: see the constructor.

        Raises:
            InputError: it is missing, damaged, or no head detector.
        """
        path = BUNDLED_DETECTOR if source is None else Path(source)
        if read_config(path).get("model_type") != Config.model_type:
            raise InputError(f"{path}: holds no head detector; give another file")
        return cls(load_network(path), size)

    def __call__(
        self, images: Sequence[np.ndarray], min_score: float = DEFAULT_MIN_SCORE
    ) -> list[Detections]:
        """Find the heads of some images.

        Args:
            images: (H, W, 3) uint8 RGB each.
            min_score: heads below this score are left out.

        Returns:
            One `Detections` per image: `boxes` of faces, `heads` of whole heads.
        """
        prepared = [prepare(image, self.size) for image in images]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, (pixels, _) in enumerate(prepared):
            by_shape.setdefault(pixels.shape, []).append(index)
        found: dict[int, Detections] = {}
        # A CPU is faster one image at a time: their features stay in its cache.
        batch_size = GPU_BATCH if mx.default_device() == mx.gpu else 1
        for same in by_shape.values():
            for start in range(0, len(same), batch_size):
                indices = same[start : start + batch_size]
                batch = mx.array(np.stack([prepared[i][0] for i in indices]))
                heads = self.network.head.heads(self.network(batch), min_score)
                for index, own in zip(indices, heads, strict=True):
                    found[index] = _detections(own, prepared[index][1], images[index])
        return [found[index] for index in range(len(prepared))]


def prepare(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image as the network wants it.

    Returns:
        (H, W, 3) uint8, padded with a middle grey to multiples of 32; and (2,) the factors that
        take x and y back to the image.
    """
    height, width = image.shape[:2]
    scale = min(1.0, size / max(height, width))
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        image = np.asarray(Image.fromarray(image).resize(scaled, Image.Resampling.BILINEAR))
    multiple = STRIDES[-1]
    shape = (-(-scaled[1] // multiple) * multiple, -(-scaled[0] // multiple) * multiple, 3)
    padded = np.full(shape, 114, np.uint8)
    padded[: scaled[1], : scaled[0]] = image
    return padded, np.array([width / scaled[0], height / scaled[1]], np.float32)


def _detections(cells: np.ndarray, factors: np.ndarray, image: np.ndarray) -> Detections:
    """(H, 11) cells that are heads of one image → its heads, within it."""
    heads, faces = cells[:, 1:5] * np.tile(factors, 2), cells[:, 5:9] * np.tile(factors, 2)
    heads = np.clip(heads, 0, np.tile(image.shape[1::-1], 2)).astype(np.float32)
    return Detections(faces, cells[:, 0], heads)
