"""How well a detector finds the heads of scenes: recall over false boxes, by view and size."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.scene import HEAD, IGNORE
from ..cpu.shards import shards_on_cores
from ..data import Dataset
from ..detection.heads.boxes import intersections
from ..methods import Estimator

WORKERS = 2
MIN_OVERLAP = 0.4  # intersection over union from which a box finds a head
# Overlap with a head from which a box shows it; below the second it shows none, if no more of the
# head or of the box than the third is shared.
SAME, OTHER, MOST_SHARED = 0.45, 0.2, 0.3
MIN_SCORE = 0.02
FALSE_PER_SCENE = 0.25
VIEWS = {"front": (0.0, 60.0), "side": (60.0, 120.0), "back": (120.0, 180.1)}  # |yaw| in degrees
RATES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of false boxes a scene, in tables
SIZES = (0, 24, 48, 96, 10_000)  # longer side in pixels


@dataclass
class Detection:
    """A detector's boxes on scenes, compared with the true ones.

    Attributes:
        scores: (B,) of all boxes that found a head or are false, of all scenes.
        found: (B,) number of the head that a box found, −1 if it is false.
        yaw: (H,) absolute yaw of every head in degrees.
        side: (H,) longer side of every head in pixels.
        scenes: number of scenes.
    """

    scores: np.ndarray
    found: np.ndarray
    yaw: np.ndarray
    side: np.ndarray
    scenes: int

    def threshold(self, false_per_scene: float = FALSE_PER_SCENE) -> float:
        """The lowest score at which there are no more false boxes a scene than given."""
        false = np.sort(self.scores[self.found < 0])[::-1]
        allowed = int(false_per_scene * self.scenes)
        return float(false[allowed]) + 1e-6 if allowed < len(false) else MIN_SCORE

    def hit(self, threshold: float) -> np.ndarray:
        """(H,) whether each head is found at a threshold."""
        hit = np.zeros(len(self.yaw), bool)
        hit[self.found[(self.found >= 0) & (self.scores >= threshold)]] = True
        return hit

    def false(self, threshold: float) -> float:
        """False boxes a scene at a threshold."""
        return float(((self.found < 0) & (self.scores >= threshold)).sum() / self.scenes)

    def recall(self, threshold: float) -> dict[str, float]:
        """Recall of all heads, by view and by size, in 0..1; NaN where there are none."""
        hit = self.hit(threshold)
        groups = {"all": np.ones(len(hit), bool)}
        groups |= {k: (self.yaw >= a) & (self.yaw < b) for k, (a, b) in VIEWS.items()}
        for low, high in pairwise(SIZES):
            name = f"{low}-{high} px" if high < SIZES[-1] else f"from {low} px"
            groups[name] = (self.side >= low) & (self.side < high)
        return {k: float(hit[g].mean()) if g.any() else float("nan") for k, g in groups.items()}

    def figures(self) -> dict[str, float]:
        """Percentages of heads missed, of all and by view, at `FALSE_PER_SCENE`; the threshold."""
        threshold = self.threshold()
        recall = self.recall(threshold)
        missed = {"missed": 100 * (1 - recall["all"])}
        missed |= {name: 100 * (1 - recall[name]) for name in VIEWS}
        return {**missed, "threshold": 100 * threshold}


def table(detection: Detection) -> list[str]:
    """Lines of recall by view and size over false boxes a scene."""
    columns = list(detection.recall(1.0))
    lines = ["false/scene  score  " + "".join(f"{name:>11}" for name in columns)]
    for rate in RATES:
        threshold = detection.threshold(rate)
        recall = detection.recall(threshold)
        values = "".join(f"{recall[name]:11.3f}" for name in columns)
        lines.append(f"{detection.false(threshold):11.3f}  {threshold:5.2f}  {values}")
    return lines


def overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) intersection over union of boxes, and intersection as a share of the first."""
    shared = intersections(boxes, others)
    area, other_area = (np.maximum(b[:, 2:] - b[:, :2], 1e-6).prod(-1) for b in (boxes, others))
    return shared / (area[:, None] + other_area - shared), shared / area[:, None]


def match(
    boxes: np.ndarray, scores: np.ndarray, heads: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which head each box of one image finds.

    Best score first, each box takes the free head that it overlaps most, if by `MIN_OVERLAP`.

    Args:
        boxes: (N, 4); scores: (N,).
        heads: (H, 4) true boxes.
        ignored: (I, 4) regions; a box counts as none if half of it, or its middle, lies in one.

    Returns:
        Indices of the boxes that count, and the head of each, −1 if it is false.
    """
    free = np.ones(len(heads), bool)
    union = overlaps(boxes, heads)[0]
    share = overlaps(boxes, ignored)[1].max(1, initial=0)
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    centred = ((middle >= ignored[None, :, :2]) & (middle <= ignored[None, :, 2:])).all(2)
    excused = (share >= 0.5) | centred.max(1, initial=False)
    counted, found = [], []
    for index in np.argsort(-scores, kind="stable"):
        values = np.where(free, union[index], -1)
        best = int(values.argmax()) if len(values) else -1
        if best >= 0 and values[best] >= MIN_OVERLAP:
            free[best] = False
            counted.append(index)
            found.append(best)
        elif not excused[index]:
            counted.append(index)
            found.append(-1)
    return np.array(counted, np.intp), np.array(found, np.intp)


def shown(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What boxes in a scene show.

    Args:
        boxes: (N, 4) of heads.
        targets: (M, 11) of the scene, see `core.scene`.

    Returns:
        (N,) row of the head that each shows, −1 where it shows none, −2 where neither is clear.
    """
    there = targets[:, 10] != 0
    shares, of_box = (np.where(there, each, 0.0) for each in overlaps(boxes, targets[:, :4]))
    of_head = np.where(there, overlaps(targets[:, :4], boxes)[1].T, 0.0)
    best, most = shares.argmax(1), shares.max(1)
    clear = (most >= SAME) & (targets[best, 10] == HEAD)
    none = (most < OTHER) & (np.maximum(of_box, of_head).max(1) <= MOST_SHARED)
    return np.where(clear, best, np.where(none, -1, -2))


def evaluate_scenes(model: Estimator, dataset: Dataset, batch_size: int = 16) -> Detection:
    """How well a network finds the heads of scenes.

    Args:
        model: a head detector, in evaluation mode.
        dataset: the scenes.
        batch_size: scenes in one forward pass.
    """

    def find(images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        heads = model.head.heads(model(mx.array(np.stack(images))), MIN_SCORE)
        return [(own[:, 1:5], own[:, 0]) for own in heads]

    with shards_on_cores(batch_size):
        return evaluate_finder(find, dataset, batch_size)


def evaluate_finder(
    find: Callable[[list[np.ndarray]], list[tuple[np.ndarray, np.ndarray]]],
    dataset: Dataset,
    batch_size: int = 1,
) -> Detection:
    """How well a function finds the heads of scenes.

    Args:
        find: images (H, W, 3) uint8 → boxes (N, 4) and scores (N,) of each.
        dataset: the scenes.
        batch_size: scenes that the function gets at once.
    """
    parts: dict[str, list[Any]] = {k: [] for k in ("scores", "found", "yaw", "side")}
    heads = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(dataset), batch_size):
            numbers = range(start, min(start + batch_size, len(dataset)))
            scenes = list(pool.map(dataset.scene, numbers))
            found_in = find([image for image, _ in scenes])
            for (boxes, scores), (_, targets) in zip(found_in, scenes, strict=True):
                true = targets[targets[:, 10] == HEAD]
                ignored = targets[targets[:, 10] == IGNORE, :4]
                counted, found = match(boxes, scores, true[:, :4], ignored)
                parts["scores"].append(scores[counted])
                parts["found"].append(np.where(found >= 0, found + heads, -1))
                parts["yaw"].append(np.degrees(np.abs(np.arctan2(true[:, 9], true[:, 8]))))
                parts["side"].append((true[:, 2:4] - true[:, :2]).max(1, initial=0))
                heads += len(true)
    return Detection(
        **{name: np.concatenate(values) for name, values in parts.items()}, scenes=len(dataset)
    )
