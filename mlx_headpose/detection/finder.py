"""What detectors share: what they find, and the finer searches of large images, in tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image

from . import DEFAULT_MIN_SCORE


@dataclass(frozen=True)
class Detections:
    """Faces of one picture, best first, in its pixels.

    Attributes:
        boxes: (N, 4) float32 x_min, y_min, x_max, y_max.
        scores: (N,) float32 in 0..1.
        heads: (N, 4) float32 boxes of the whole heads, where the detector tells; else None.
        looks: (N, L) scores of the same heads in each of the detector's looks at the image, NaN in
            a look that is for heads of other sizes; None from detectors that look once.
    """

    boxes: np.ndarray
    scores: np.ndarray
    heads: np.ndarray | None = None
    looks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def largest_boxes(self) -> np.ndarray:
        """(N, 4) the boxes of the heads, or, where the detector does not tell, of the faces."""
        return self.boxes if self.heads is None else self.heads

    def chosen(self, which: np.ndarray) -> Detections:
        """Those at some indices, or where a (N,) mask is true."""
        more = (None if part is None else part[which] for part in (self.heads, self.looks))
        return Detections(self.boxes[which], self.scores[which], *more)

    def placed(self, corner: tuple[int, int], scale: float) -> Detections:
        """Those of a part of a picture in the picture's pixels.

        Args:
            corner: x and y of the part in the scaled picture.
            scale: of that to the picture.
        """
        shift = np.tile(np.array(corner, np.float32), 2)
        heads = None if self.heads is None else ((self.heads + shift) / scale).astype(np.float32)
        boxes = ((self.boxes + shift) / scale).astype(np.float32)
        return Detections(boxes, self.scores, heads, self.looks)


def joined(several: Sequence[Detections]) -> Detections:
    """What searches of one picture by one detector found, one after the other."""
    boxes, scores, heads, looks = (
        None if parts[0] is None else np.concatenate(parts)
        for parts in zip(*((d.boxes, d.scores, d.heads, d.looks) for d in several), strict=True)
    )
    assert boxes is not None
    assert scores is not None
    return Detections(boxes, scores, heads, looks)


@dataclass(frozen=True)
class Tiling:
    """How large images are searched again.

    Attributes:
        first: longer side of an image at the first search, which is of the whole.
        worth: a further search is at least so many times as fine as the one before.
        tile: longest side of a tile.
        overlap: of two tiles at least.
        largest: longer side of what is taken from a tile, in its pixels; less than the overlap.
        small: where a search finds nothing below this longer side in its pixels, it is the last.
        doubt: by which the logit of a score is lowered for each doubling of the first search's
            size, because more places are searched.
    """

    first: int
    worth: float
    tile: int
    overlap: int
    largest: int
    small: int
    doubt: float = 0.0


class Finder:
    """A detector that searches images whole, and large ones again at growing sizes, in tiles.

    An image that is large enough is searched a second time whatever the first search finds, for
    there may be small heads behind a large one. The size doubles from search to search, and in the
    last step grows to the image's own, by up to 2.6 times. The searches end early where one finds
    nothing small, unless a size to reach is given.
    """

    tiling: ClassVar[Tiling]

    def search(self, images: Sequence[np.ndarray], size: int, min_score: float) -> list[Detections]:
        """What is found in images that are scaled down to a longer side of `size`."""
        raise NotImplementedError

    def distinct(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Indices of the boxes (N, 4) that are not another's of a better score, best first."""
        raise NotImplementedError

    def finer(
        self, image: np.ndarray, found: Detections, min_score: float, most: int | None = None
    ) -> Detections:
        """What a first search of an image found together with what finer ones find.

        Args:
            image: (H, W, 3) uint8 RGB.
            found: the first search's.
            min_score: what is scored lower is left out.
            most: size of the last search; None goes on as what comes up asks for.
        """
        longer = max(image.shape[:2])
        last = min(longer, most or longer)
        side = self.tiling.first
        searches = [found]
        while self.tiling.worth * side < last:
            # Rather one larger step than a last one that is hardly worth it.
            side = 2 * side if 2.6 * side < last else last
            searches.append(self._in_tiles(image, side, min_score))
            if most is None and not self._has_small(searches[-1], side / longer):
                break
        if len(searches) == 1:
            return found
        every = joined(searches)
        return every.chosen(self.distinct(every.largest_boxes, every.scores))

    def _in_tiles(self, image: np.ndarray, side: int, min_score: float) -> Detections:
        """What is small in an image scaled down to a longer side, searched piece by piece."""
        height, width = image.shape[:2]
        scale = min(1.0, side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        scaled = image
        if scale < 1:
            scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        (columns, tile_width), (rows, tile_height) = (tiles(n, self.tiling) for n in size)
        tile = np.array([tile_width, tile_height])
        corners = [(x, y) for y in rows for x in columns]
        pieces = [scaled[y : y + tile_height, x : x + tile_width] for x, y in corners]
        parts = []
        for corner, part in zip(
            corners, self.search(pieces, self.tiling.tile, min_score), strict=True
        ):
            low, high = part.largest_boxes[:, :2], part.largest_boxes[:, 2:]
            whole = (high - low).max(1, initial=0) <= self.tiling.largest
            # What an inner edge cuts is whole in the next tile.
            cut_low = (low < 1) & (np.array(corner) > 0)
            cut_high = (high > tile - 1) & (np.array(corner) + tile < size)
            whole &= ~(cut_low | cut_high).any(1)
            parts.append(part.chosen(whole).placed(corner, scale))
        found = joined(parts)
        if not self.tiling.doubt:
            return found
        odds = np.exp(self.tiling.doubt * np.log2(side / self.tiling.first))
        scores = found.scores / (found.scores + (1 - found.scores) * odds)
        found = replace(found, scores=scores.astype(np.float32))
        return found.chosen(scores >= min_score)

    def _has_small(self, found: Detections, scale: float) -> bool:
        """Whether likely boxes are so small at a scale that smaller ones may have been missed."""
        boxes = found.largest_boxes
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) * scale
        return bool((sides[found.scores >= DEFAULT_MIN_SCORE] < self.tiling.small).any())


def tiles(length: int, tiling: Tiling) -> tuple[list[int], int]:
    """As few tiles as cover a length, evenly: where they begin, and how long each is."""
    count = max(1, -(-(length - tiling.overlap) // (tiling.tile - tiling.overlap)))
    side = -(-(length + (count - 1) * tiling.overlap) // count)
    starts = [round(i * (length - side) / max(1, count - 1)) for i in range(count)]
    return starts, side
