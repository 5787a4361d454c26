"""The bundled head detector, each of its boxes confirmed by the bundled pose network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..detection.finder import Detections
from ..detection.heads.detector import HeadFinder, SurroundHeadDetector
from ..methods import Estimator
from ..pose import sigmoid
from ..predictor import Predictor
from ..process import in_lasting_thread

# Of the detector's score: what it doubts more is not looked at again. On rendered scenes that
# leaves four boxes each, and changes recall at no rate of false boxes up to one in two scenes.
LEAST = 0.3
# Side of a head in pixels at which the confidence counts as much as `b` says, and the factor beyond
# which smaller or larger heads make no more difference.
SIDE, MOST = 48.0, 4.5
_EDGE = 1e-4  # nearest that a chance comes to 0 and 1
_UNSEEN = 0.02  # score of a look that sees nothing


class VerifiedHeadDetector(HeadFinder):
    """The heads that a detector sees and a pose network confirms.

    A pose network that was trained on nothing but heads is unsure of everything else, so its
    confidence tells heads from shoulders, balls and shadows, which a detector confuses more often.
    And what is a head at one scale and none at another seldom is one. `joint` makes one score of
    all.

    Args:
        detector: finds the boxes.
        model: a pose network that knows its confidence.
        numbers: of `joint`, fitted with these two networks (`bench/accuracy/verification.py`).
    """

    @in_lasting_thread
    def __init__(
        self, detector: SurroundHeadDetector, model: Estimator, numbers: tuple[float, ...]
    ):
        self.plain, self.numbers = detector, numbers
        margins = model.config.preprocessing.crop.around_detected(self.finds)
        self._read = model.config.inputs.head_reader(margins, None)
        self._predictor = Predictor(model)

    @property
    def outline(self) -> tuple[float, ...]:
        """See `HeadFinder.outline`."""
        return self.plain.outline

    @property
    def detect_size(self) -> int | None:
        """See `HeadFinder`."""
        return self.plain.detect_size

    @detect_size.setter
    def detect_size(self, size: int | None) -> None:
        self.plain.detect_size = size

    @in_lasting_thread
    def search(
        self, images: Sequence[np.ndarray], size: int | None, min_score: float
    ) -> list[Detections]:
        """See `HeadFinder.search`."""
        found = self.plain.search(images, size, LEAST)
        return [
            self._kept(those, evidence, min_score)
            for those, evidence in zip(found, self.evidence(images, found), strict=True)
        ]

    def evidence(
        self, images: Sequence[np.ndarray], found: Sequence[Detections]
    ) -> list[np.ndarray]:
        """What speaks for each box of some images.

        Returns:
            For each image (N, 5): the logits of score and confidence, the logarithm of the head's
            side over `SIDE`, whether several looks of the detector are for heads of this size (0
            or 1), and if so the logit of the least sure one's score, else 0.
        """
        crops = [
            crop
            for image, those in zip(images, found, strict=True)
            for box in those.boxes
            if (crop := self._read(image, box)) is not None
        ]
        _, confidences = self._predictor.many(crops)
        parts = np.split(confidences, np.cumsum([len(those) for those in found]))[:-1]
        evidence = []
        for those, confidence in zip(found, parts, strict=True):
            assert those.heads is not None
            side = np.maximum((those.heads[:, 2:] - those.heads[:, :2]).max(1, initial=1.0), 1.0)
            size = np.clip(np.log(side / SIDE), -np.log(MOST), np.log(MOST))
            several, least = _least_sure(those)
            columns = [_logit(those.scores), _logit(confidence), size, several, least]
            evidence.append(np.stack(columns, 1))
        return evidence

    def _kept(self, found: Detections, evidence: np.ndarray, min_score: float) -> Detections:
        """The heads that reach a score by all evidence, best first."""
        assert found.heads is not None
        scores = sigmoid(joint(evidence, self.numbers)).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= min_score]
        return Detections(found.boxes[order], scores[order], found.heads[order])


def joint(evidence: np.ndarray, numbers: Sequence[float]) -> np.ndarray:
    """(N, 5) evidence → (N,) logits of a score.

    Of evidence (s, p, z, m, q) it is a·s + max(0, b + c·z)·p + d + e·m + (f + g·z)·q.

    Logistic regression, but that weights change with the head's size: of a small one the pose
    network is never sure.
    """
    score, confidence, size, several, least = evidence.T
    a, b, c, d, e, f, g = numbers
    return (
        a * score
        + np.maximum(0.0, b + c * size) * confidence
        + d
        + e * several
        + (f + g * size) * least
    )


def _least_sure(found: Detections) -> tuple[np.ndarray, np.ndarray]:
    """(N,) whether several looks are for a head, and (N,) the least logit of those, else 0."""
    if found.looks is None:
        return np.zeros(len(found)), np.zeros(len(found))
    several = np.isfinite(found.looks).sum(1) > 1
    least = np.where(np.isfinite(found.looks), found.looks, 1.0).min(1, initial=1.0)
    return several.astype(np.float64), np.where(several, _logit(np.maximum(least, _UNSEEN)), 0.0)


def _logit(chance: np.ndarray) -> np.ndarray:
    chance = np.clip(np.asarray(chance, np.float64), _EDGE, 1 - _EDGE)
    return np.log(chance / (1 - chance))
