"""The head pose of everyone in a picture: detect, crop, estimate, in one object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from .. import weights
from ..core.crop import Crop, Margins
from ..core.inputs import Landmarker
from ..detection.heads.detector import SurroundHeadDetector
from ..detection.heads.network import Config as HeadDetectorConfig
from ..detection.yolo import HeadDetector
from ..detection.yunet import DEFAULT_MIN_SCORE, Detections, FaceDetector, at_hand
from ..errors import InputError
from ..methods import SUGGESTION, Estimator
from ..readers.safetensors_file import read_config
from ..weights import from_pretrained
from .pictures import Picture, open_picture

WEIGHTS = Path("weights")
BUNDLED_NAME = "bundled"  # the head detector that comes with the package
# What can be iterated over and is one thing all the same.
ONE_PICTURE = (str, bytes, os.PathLike, Image.Image, np.ndarray, mx.array)
# Crops that go through the network at once.
BATCH = 64

Detector = FaceDetector | HeadDetector | SurroundHeadDetector


@dataclass(frozen=True)
class Head:
    """One head of a picture.

    Attributes:
        box: x_min, y_min, x_max, y_max of the face in pixels of the upright picture.
        yaw, pitch, roll: degrees. Positive yaw turns the nose to the picture's left, positive
            pitch up, positive roll tilts the head clockwise as the picture shows it.
        confidence: chance in 0..1 that the three angles are right within 10° on average, as
            calibrated on AFLW2000, or, from networks that know nothing of the kind, a value in
            0..1 that is higher where they are surer; None where the network cannot tell.
        score: the detector's score in 0..1; None where the box was given.
        track: number of the person in a video; None in pictures.
    """

    box: tuple[float, float, float, float]
    yaw: float
    pitch: float
    roll: float
    confidence: float | None = None
    score: float | None = None
    track: int | None = None

    @property
    def pose(self) -> np.ndarray:
        """(3,) yaw, pitch, roll in degrees."""
        return np.array([self.yaw, self.pitch, self.roll])

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON can hold them."""
        return {**dataclasses.asdict(self), "box": list(self.box)}


class HeadPoseEstimator:
    """Estimates the pose of every head in a picture.

    Args:
        model: a network; None loads the one that comes with the package.
        detector: what finds the faces or heads; None takes `default_detector` when it is first
            needed.
        crop_margin: margin k around a detected face; None means the method's own.
        landmarker: finds the landmarks of a face, for networks that read landmarks; None takes
            MediaPipe's face mesh when it is first needed.

    Raises:
        InputError: no model is given, and the package has come without one.
    """

    def __init__(
        self,
        model: Estimator | None = None,
        detector: Detector | None = None,
        crop_margin: float | None = None,
        landmarker: Landmarker | None = None,
    ):
        if isinstance(model, str | Path) or isinstance(detector, str | Path):
            raise InputError("for files of networks use HeadPoseEstimator.from_pretrained")
        if model is None:
            model = from_pretrained(find_network())
        self.model = model
        self._detector = detector
        self._crop_margin, self._landmarker = crop_margin, landmarker
        # Around boxes that a user gives, and around those that the detector finds.
        self.margins = self._margins("faces" if detector is None else detector.finds)
        self.read_head = model.config.inputs.head_reader(self.margins, landmarker)
        self._read_found = self.read_head

    @classmethod
    def from_pretrained(
        cls, source: str | Path | None = None, detector: str | Path | None = None, **options: Any
    ) -> HeadPoseEstimator:
        """Load a network.

        Args:
            source: see `find_network`.
            detector: file of a detector (see `load_detector`); None takes `default_detector` when
                it is first needed.
            **options: of the constructor.

        Raises:
            InputError: the network or the detector is missing or damaged.
        """
        found = None if detector is None else load_detector(detector)
        return cls(from_pretrained(find_network(source)), found, **options)

    @property
    def detector(self) -> Detector:
        """What finds the faces or heads."""
        if self._detector is None:
            self._detector = default_detector()
            margins = self._margins(self._detector.finds)
            self._read_found = self.model.config.inputs.head_reader(margins, self._landmarker)
        return self._detector

    def _margins(self, finds: str) -> Margins:
        return margins_around(self.model.config.preprocessing.crop, finds, self._crop_margin)

    def __call__(
        self,
        pictures: Picture | Sequence[Picture],
        boxes: Any = None,
        min_score: float = DEFAULT_MIN_SCORE,
        max_heads: int | None = None,
    ) -> Any:
        """Estimate every head's pose.

        Args:
            pictures: a path, a PIL image or an array (see `pictures.open_picture`), or a list.
            boxes: (N, 4) face boxes x_min, y_min, x_max, y_max instead of detection; for a list of
                pictures a list of such.
            min_score: faces that the detector scores below this are left out.
            max_heads: keep only as many faces of a picture, the largest. Like `min_score` it says
                nothing of given boxes.

        Returns:
            A list of `Head`, largest first (in the order of `boxes`, if given); for a list of
            pictures a list of such lists.

        Raises:
            InputError: a picture cannot be read, or there is no face detector.
        """
        # What is no list of pictures is one, if only to be refused as such.
        single = isinstance(pictures, ONE_PICTURE) or not isinstance(pictures, Iterable)
        several: Any = [pictures] if single else pictures
        images = [open_picture(picture) for picture in several]
        if boxes is None:
            found = self.detector(images, min_score)
            found = [largest(faces, max_heads) for faces in found]
        else:
            given = [boxes] if single or not isinstance(boxes, Iterable) else list(boxes)
            found = [_given(b) for b in given]
            if len(found) != len(images):
                raise InputError(f"{len(images)} pictures need as many lists of boxes")
        estimated = self.estimate(images, found, given=boxes is not None)
        heads = [[head for head in those if head] for those in estimated]
        return heads[0] if single else heads

    def estimate(
        self, images: Sequence[np.ndarray], faces: Sequence[Detections], given: bool = False
    ) -> list[list[Head | None]]:
        """The poses of known faces, those of all pictures in one batch.

        Args:
            images: (H, W, 3) uint8 RGB each.
            faces: those of each picture; scores of NaN mean that nobody scored them.
            given: whether the boxes are a user's instead of the detector's.

        Returns:
            For each picture one `Head` per face, or None where a landmarker found no landmarks.
        """
        inputs: list[np.ndarray] = []
        where: list[tuple[int, int]] = []
        reader = self.read_head if given else self._read_found
        for index, (image, those) in enumerate(zip(images, faces, strict=True)):
            for face, box in enumerate(those.boxes):
                value = reader(image, box)
                if value is not None:
                    inputs.append(value)
                    where.append((index, face))
        poses, confidences = self._run(inputs)
        heads: list[list[Head | None]] = [[None] * len(those) for those in faces]
        for (index, face), pose, confidence in zip(where, poses, confidences, strict=True):
            x_min, y_min, x_max, y_max = faces[index].boxes[face].tolist()
            yaw, pitch, roll = pose.tolist()
            score = float(faces[index].scores[face])
            heads[index][face] = Head(
                (x_min, y_min, x_max, y_max),
                yaw,
                pitch,
                roll,
                confidence=None if np.isnan(confidence) else float(confidence),
                score=None if np.isnan(score) else score,
            )
        return heads

    def _run(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Inputs → (N, 3) poses in degrees and (N,) confidences, NaN where there are none."""
        poses, confidences = [np.zeros((0, 3))], [np.zeros(0)]
        for start in range(0, len(inputs), BATCH):
            outputs = self.model(mx.array(np.stack(inputs[start : start + BATCH])))
            pose, confidence = self.model.decode(outputs), self.model.confidence(outputs)
            poses.append(np.array(pose, np.float64))
            confidences.append(
                np.full(len(pose), np.nan)
                if confidence is None
                else np.array(confidence, np.float64)
            )
        return np.concatenate(poses), np.concatenate(confidences)


def load_detector(source: str | Path) -> Detector:
    """The detector in a file: ours, YuNet, or whatever head detector an ONNX file holds.

    Args:
        source: the file, or `BUNDLED_NAME`.

    Raises:
        InputError: the file is missing, damaged, or no detector.
    """
    if str(source) == BUNDLED_NAME:
        return SurroundHeadDetector.from_pretrained()
    if Path(source).suffix == ".onnx":
        from ..detection.yunet_checkpoint import is_yunet

        if not is_yunet(source):
            return HeadDetector(source)
    elif read_config(source).get("model_type") == HeadDetectorConfig.model_type:
        return SurroundHeadDetector.from_pretrained(source)
    return FaceDetector.from_pretrained(source)


def default_detector() -> Detector:
    """YuNet where its file is at hand, which still finds more faces; else the bundled detector."""
    return FaceDetector.from_pretrained() if at_hand() else SurroundHeadDetector.from_pretrained()


def margins_around(crop: Crop, finds: str, k: float | None = None) -> Margins:
    """Margins around a detector's boxes.

    Args:
        crop: the network's.
        finds: what the boxes bound: "faces" as YuNet has them, "heads", or "landmarks".
        k: margin in place of the network's own.
    """
    if finds == "landmarks":
        return crop.around("the detector", ("landmarks",), train=False, k=k).margins
    return crop.head if finds == "heads" and k is None else crop.face.with_k(k)


def find_network(source: str | Path | None = None) -> str | Path:
    """Which network a user means.

    Args:
        source: a `.safetensors` file, a folder, a hub id, or the name of a file in weights/
            without its ending; None takes the network that comes with the package.

    Raises:
        InputError: it is not there; the message says which command makes or fetches it.
    """
    if source is None:
        if not weights.BUNDLED.is_file():
            raise InputError(
                f"{weights.BUNDLED}: this copy comes without a network of its own; run `python "
                f"convert.py --weight {SUGGESTION}` and give `--snapshot {SUGGESTION}`"
            )
        return weights.BUNDLED
    if Path(source).exists():
        return source
    named = WEIGHTS / f"{source}.safetensors"
    if named.is_file():
        return named
    from ..convert.published import PUBLISHED

    if str(source) in PUBLISHED:
        raise InputError(
            f"{source}: not here yet; run `python convert.py --weight {source}` to fetch it"
        )
    return source


def largest(faces: Detections, count: int | None = None) -> Detections:
    """The `count` largest faces (None: all), largest first."""
    area = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(1)
    order = np.argsort(-area, kind="stable")[:count]
    return Detections(faces.boxes[order], faces.scores[order])


def _given(boxes: Any) -> Detections:
    """Boxes that a user gives, checked."""
    try:
        values = np.asarray(boxes, np.float32)
    except (TypeError, ValueError):
        raise InputError("boxes must be (N, 4) numbers") from None
    values = values.reshape(0, 4) if values.size == 0 else np.atleast_2d(values)
    if values.ndim != 2 or values.shape[1] != 4 or not np.isfinite(values).all():
        raise InputError(f"boxes must be (N, 4) numbers, not {values.shape}")
    if (values[:, 2:] <= values[:, :2]).any():
        raise InputError("a box must have x_max > x_min and y_max > y_min")
    return Detections(values, np.full(len(values), np.nan))
