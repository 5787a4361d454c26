"""Which detector finds the heads: from a file, or the one to take where nobody names one."""

from __future__ import annotations

from pathlib import Path

from ..detection.heads.detector import BUNDLED_DETECTOR, HeadFinder, SurroundHeadDetector
from ..detection.heads.network import Config as HeadDetectorConfig
from ..detection.yolo import HeadDetector
from ..detection.yunet import FaceDetector, at_hand
from ..methods import Estimator
from ..readers.safetensors_file import read_config
from ..space.position import Ellipsoid
from ..weights import BUNDLED, from_pretrained
from .verified import VerifiedHeadDetector

BUNDLED_NAME = "bundled"  # the bundled head detector

Detector = FaceDetector | HeadDetector | SurroundHeadDetector | VerifiedHeadDetector


def load_detector(source: str | Path, bundled: Estimator | None = None) -> Detector:
    """The detector in a file: ours, YuNet, or whatever head detector an ONNX file holds.

    Args:
        source: the file, or `BUNDLED_NAME`.
        bundled: the bundled pose network where it is loaded already; our own detector needs it.

    Raises:
        InputError: the file is missing, damaged, or no detector.
    """
    if str(source) == BUNDLED_NAME:
        return _head_detector(BUNDLED_DETECTOR, bundled)
    if Path(source).suffix == ".onnx":
        from ..detection.yunet_checkpoint import is_yunet

        if not is_yunet(source):
            return HeadDetector(source)
    elif read_config(source).get("model_type") == HeadDetectorConfig.model_type:
        return _head_detector(source, bundled)
    return FaceDetector.from_pretrained(source)


def default_detector(bundled: Estimator | None = None) -> Detector:
    """YuNet where its file is at hand, which still finds more faces; else the bundled detector.

    Args:
        bundled: see `load_detector`.
    """
    if at_hand():
        return FaceDetector.from_pretrained()
    return _head_detector(BUNDLED_DETECTOR, bundled)


def bounded(detector: Detector) -> str | Ellipsoid:
    """What a detector's boxes bound, for `space.position.head_position`."""
    numbers = detector.outline if isinstance(detector, HeadFinder) else ()
    return Ellipsoid.of(numbers) if numbers else detector.finds


def _head_detector(
    source: str | Path, bundled: Estimator | None
) -> SurroundHeadDetector | VerifiedHeadDetector:
    """Our own detector, with the bundled pose network if the file holds verification weights."""
    detector = SurroundHeadDetector.from_pretrained(source)
    numbers = detector.config.verification
    if not numbers:
        return detector
    if bundled is None:
        bundled = from_pretrained(BUNDLED)
    return VerifiedHeadDetector(detector, bundled, numbers)
