"""The head detector: from images to heads from every side, with the boxes of their faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image

from ...core.estimator import Estimator
from ...errors import InputError
from ...process import in_lasting_thread
from ...quantization.fold import fold_batch_norms
from ...readers.safetensors_file import read_config
from ...weights import BUNDLED, load_network
from ..batches import in_batches
from ..exposure import brightened
from ..finder import Detections, Finder, Tiling
from .boxes import distinct, merged, select
from .network import STRIDES, Config, DetectionHead

BUNDLED_DETECTOR = BUNDLED.with_name("headdetector.safetensors")
# Weights are stored with their scores shifted so that this is the threshold that was chosen on
# rendered scenes.
DEFAULT_MIN_SCORE = 0.5
# On scenes of 1280 pixels 960 finds 85 % of the heads where 640 finds 74 %, and 1280 no more, at
# 0.25 false boxes a scene with `inference.verified`; videos are searched at 640.
DEFAULT_SIZE, QUICK_SIZE = 960, 640
MIN_SIZE, MAX_SIZE = 64, 8192
# The network trains on scenes of 320 pixels, so it looks at an image again at this share of the
# size, for heads that are larger than those it knows. In images up to `NO_SMALLER` pixels that
# finds no more of them (200 validation scenes each of 224, 320 and 448).
SMALLER, NO_SMALLER = 0.4, 448
# Longer sides in pixels of the heads that a look is for, as it sees them.
KNOWN = (14, 330)
# Chosen on rendered scenes. In 60 of 1920 pixels the finer search finds 93 % of the heads where the
# first finds 78 %, with 0.27 false boxes each instead of 0.23; without doubt it is 0.32. A tile is
# looked at twice, like an image at the first search.
TILING = Tiling(
    first=DEFAULT_SIZE, worth=4 / 3, tile=1120, overlap=160, largest=128, small=64, doubt=0.25
)
FAINT = 0.03  # least score that a look is asked for about another's head


class HeadFinder:
    """Finds heads from every side, seen or hidden faces included.

    Attributes:
        detect_size: longer side in pixels to which images are scaled down for one search; None
            searches large images several times, as finely as the heads that come up ask for.
    """

    name = "head detector"
    finds = "landmarks"  # `Detections.boxes` bound the 68 landmarks of faces, seen or hidden
    detect_size: int | None

    @property
    def outline(self) -> tuple[float, ...]:
        """What its boxes bound in truth, see `Config.outline`."""
        return ()

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
        return self.search(images, self.detect_size, min_score)

    def whole(
        self, images: Sequence[np.ndarray], min_score: float = DEFAULT_MIN_SCORE
    ) -> list[Detections]:
        """As `__call__`, but images of any size are searched once, for frames of videos."""
        return self.search(images, self.detect_size or DEFAULT_SIZE, min_score)

    def quick(
        self, images: Sequence[np.ndarray], min_score: float = DEFAULT_MIN_SCORE
    ) -> list[Detections]:
        """A coarser search than `whole`, for one of many frames, unless `detect_size` is set."""
        return self.search(images, self.detect_size or QUICK_SIZE, min_score)

    def search(
        self, images: Sequence[np.ndarray], size: int | None, min_score: float
    ) -> list[Detections]:
        """As `__call__`, with `size` as `detect_size`."""
        raise NotImplementedError


class SurroundHeadDetector(HeadFinder, Finder):
    """The heads that a network sees, by itself.

    Args:
        network: a trained `headdetector` network, whose batch norms are folded in place.
        size: see `HeadFinder.detect_size`. Heads of 12 pixels or more at that scale can be found.

    Raises:
        InputError: the network is of another method, or the size is impossible.
    """

    tiling = TILING

    def __init__(self, network: Estimator, size: int | None = None):
        if not isinstance(network.config, Config):
            raise InputError(f"a {network.config.model_type} network finds no heads")
        self.network, self.config = network, network.config
        self.detect_size = size
        network.eval()
        fold_batch_norms(network, mx.random.normal((1, 64, 64, 3), key=mx.random.key(0)))

    @property
    def detect_size(self) -> int | None:
        """See `HeadFinder`."""
        return self._size

    @detect_size.setter
    def detect_size(self, size: int | None) -> None:
        if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
            raise InputError(f"detection size {size}: give {MIN_SIZE} to {MAX_SIZE} pixels")
        self._size = size

    @classmethod
    @in_lasting_thread
    def from_pretrained(
        cls, source: str | Path | None = None, size: int | None = None
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

    @property
    def outline(self) -> tuple[float, ...]:
        """See `HeadFinder.outline`."""
        return self.config.outline

    @in_lasting_thread
    def search(
        self, images: Sequence[np.ndarray], size: int | None, min_score: float
    ) -> list[Detections]:
        """See `HeadFinder.search`."""
        if size is None:
            coarse = self.search(images, self.tiling.first, min_score)
            return [self.finer(*pair, min_score) for pair in zip(images, coarse, strict=True)]
        looks = [prepare(image, size) for image in images]
        head = self.network.head
        assert isinstance(head, DetectionHead)
        several = any(len(own) > 1 for own in looks)
        least = min(min_score, FAINT) if several else min_score
        cells = iter(
            in_batches(
                [pixels for own in looks for pixels, _ in own],
                lambda batch: head.likely(self.network(batch), least),
            )
        )
        detections = []
        for image, own in zip(images, looks, strict=True):
            found = [next(cells) for _ in own]
            for likely, (_, factors) in zip(found, own, strict=True):
                likely[:, 1:9] *= np.tile(factors, 4)
            best = select(np.concatenate(found), min_score)
            seen = None
            if len(own) > 1:
                shrunk = np.array([factors.max() for _, factors in own])
                heads = best[:, 1:5]
                best, scores = merged(best, found)
                seen = _looks(heads, scores, shrunk)
            detections.append(_detections(best, image, seen))
        return detections

    def distinct(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """See `Finder.distinct`."""
        return distinct(boxes, scores)


def _looks(heads: np.ndarray, scores: np.ndarray, shrunk: np.ndarray) -> np.ndarray:
    """(H, L) `Detections.looks`.

    Args:
        heads: (H, 4) boxes in the image's pixels.
        scores: (H, L) the best score of each look for the same head.
        shrunk: (L,) by how much the image was shrunk for each look.
    """
    sides = (heads[:, 2:] - heads[:, :2]).max(1, initial=0.0)[:, None]
    known = (sides > KNOWN[0] * shrunk) & (sides < KNOWN[1] * shrunk)
    return np.where(known, scores, np.nan)


def prepare(image: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """An image as the network looks at it: whole, and smaller for heads that fill much of it.

    Returns:
        For each pass (H, W, 3) uint8, padded with a middle grey to multiples of 32; and (2,) the
        factors that take x and y back to the image.
    """
    longer = max(image.shape[:2])
    side: float = min(size, longer)
    passes = [_scaled(image, side / longer)]
    while side > NO_SMALLER:
        side *= SMALLER
        passes.append(_scaled(image, side / longer))
    return passes


def _scaled(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        image = np.asarray(Image.fromarray(image).resize(scaled, Image.Resampling.BILINEAR))
    multiple = STRIDES[-1]
    shape = (-(-scaled[1] // multiple) * multiple, -(-scaled[0] // multiple) * multiple, 3)
    padded = np.full(shape, 114, np.uint8)
    padded[: scaled[1], : scaled[0]] = brightened(image)
    return padded, np.array([width / scaled[0], height / scaled[1]], np.float32)


def _detections(cells: np.ndarray, image: np.ndarray, looks: np.ndarray | None) -> Detections:
    """(H, 11) cells that are heads of an image → its heads, within it.

    Boxes that are means of several looks, or cut at the image's edge, may be much nearer to each
    other than those that were selected.
    """
    heads = np.clip(cells[:, 1:5], 0, np.tile(image.shape[1::-1], 2)).astype(np.float32)
    found = Detections(cells[:, 5:9], cells[:, 0], heads, looks)
    return found.chosen(distinct(heads, found.scores))
