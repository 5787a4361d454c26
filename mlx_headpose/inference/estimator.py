"""The head pose of everyone in a picture: detect, crop, estimate, in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from .. import weights
from ..core.crop import Margins
from ..core.inputs import Landmarker
from ..data.protocols import find_demo
from ..detection import DEFAULT_MIN_SCORE
from ..detection.finder import Detections
from ..errors import InputError
from ..methods import SUGGESTION, Estimator
from ..places import command, find_weights
from ..predictor import Predictor
from ..process import in_lasting_thread
from ..quantization.tree import sharing_copy_of
from ..space.intrinsics import DEFAULT_FOV, Camera
from ..space.perspective import as_placed, straightened
from ..space.position import HEAD_SIZE, head_position
from ..space.zero import Zero
from ..weights import from_pretrained
from .detectors import Detector, bounded, default_detector, load_detector
from .pictures import Picture, is_one_picture, open_picture

if TYPE_CHECKING:
    from .loop import Seen

# Circumferences in mm of heads that there are, from the newborn's on.
MIN_HEAD_SIZE, MAX_HEAD_SIZE = 300, 750
# Sizes of images whose cameras are kept.
MANY_SIZES = 100


@dataclass(frozen=True)
class Head:
    """One head of a picture.

    Attributes:
        box: x_min, y_min, x_max, y_max of the face in pixels of the upright picture.
        yaw, pitch, roll: degrees. Positive yaw turns the nose to the picture's left, positive
            pitch up, positive roll tilts the head clockwise as the picture shows it.
        confidence: chance in 0..1 that the three angles are right within 10° on average, as
            calibrated on AFLW2000 (the bundled network's on rendered heads), or, from networks
            that know nothing of the kind, a value in 0..1 that is higher where they are surer;
            None where the network cannot tell.
        score: the detector's score in 0..1; None where the box was given, and in videos for a
            head that is carried along without a face.
        track: number of the person in a video; None in pictures.
        position: x, y, z of the head's centre in metres: to the image's right, down, and away from
            the camera; None where nobody asked for it.
        facing: name of the zone that the head faces; None where it faces none.
        seen: (yaw, pitch, roll) relative to the ray through the face, as the image shows the head,
            where the angles are relative to something else; what is drawn.
    """

    box: tuple[float, float, float, float]
    yaw: float
    pitch: float
    roll: float
    confidence: float | None = None
    score: float | None = None
    track: int | None = None
    position: tuple[float, float, float] | None = None
    facing: str | None = None
    seen: tuple[float, float, float] | None = dataclasses.field(
        default=None, repr=False, compare=False
    )

    @property
    def pose(self) -> np.ndarray:
        """(3,) yaw, pitch, roll in degrees."""
        return np.array([self.yaw, self.pitch, self.roll])

    def turned(self, pose: np.ndarray) -> Head:
        """The same head in a (3,) pose."""
        yaw, pitch, roll = pose.tolist()
        return dataclasses.replace(self, yaw=yaw, pitch=pitch, roll=roll)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON can hold them."""
        position = None if self.position is None else list(self.position)
        values = {**dataclasses.asdict(self), "box": list(self.box), "position": position}
        del values["seen"]
        return values


class HeadPoseEstimator:
    """Estimates the pose of every head in a picture.

    Args:
        model: a network; None loads the bundled one. It is prepared when it is first needed (see
            `Predictor`), and changes of its weights after that have no effect.
        detector: what finds the faces or heads; None takes `default_detector` when it is first
            needed.
        crop_margin: margin k around a detected face or head; None means the method's own.
        landmarker: finds the landmarks of a face, for networks that read landmarks; None takes
            MediaPipe's face mesh when it is first needed.
        crop_of: name of the published demo (`data.protocols.DEMOS`) whose crop, resize and order of
            colours replace the network's own.
        camera: intrinsics, or degrees that the longer side of images spans. With a camera, angles
            are relative to it. None takes `DEFAULT_FOV` for positions, and leaves angles
            relative to the ray through the face, as the network sees it.
        perspective: False leaves angles as they are seen even with a camera.
        head_size: circumference of heads above the brows in mm, for positions.
        zero: what angles are relative to.

    Raises:
        InputError: no model is given and the package has come without one, there is no such camera
            or head, or the network has no use for the margin.
    """

    def __init__(
        self,
        model: Estimator | None = None,
        detector: Detector | None = None,
        crop_margin: float | None = None,
        landmarker: Landmarker | None = None,
        crop_of: str | None = None,
        camera: Camera | float | None = None,
        perspective: bool = True,
        head_size: float = HEAD_SIZE,
        zero: Zero | None = None,
    ):
        if isinstance(model, str | Path) or isinstance(detector, str | Path):
            raise InputError("for files of networks use HeadPoseEstimator.from_pretrained")
        # For the detector, which verifies heads with it whatever becomes of the network.
        self._bundled: Estimator | None = None
        if model is None:
            model = from_pretrained(find_network())
            self._bundled = sharing_copy_of(model)
        if crop_of is not None:
            if model.config.inputs.landmarks:
                raise InputError(f"{crop_of} is for networks that read images, not landmarks")
            cut = find_demo(crop_of)
            model = model.with_preprocessing(cut.apply(model.config.preprocessing))
        if not MIN_HEAD_SIZE <= head_size <= MAX_HEAD_SIZE:
            raise InputError(
                f"a head of {head_size:g} mm around is not between {MIN_HEAD_SIZE} and"
                f" {MAX_HEAD_SIZE} mm"
            )
        self.model = model
        self._name = "the network"  # for errors
        self._predictor: Predictor | None = None
        self._prepared: Estimator | None = None  # what the predictor was made of
        self.camera = camera
        self.perspective = perspective
        self.head_size = head_size
        if zero is not None and not callable(zero):
            raise InputError(f"a zero of {zero!r} is none; read a file with Zero.load")
        self.zero = zero
        self._detector = detector
        if crop_margin is not None and model.config.inputs.landmarks:
            raise InputError("crop_margin is for networks that read images; leave it out")
        self._crop_margin, self._landmarker = crop_margin, landmarker
        # What the boxes that a user gives bound; those that the detector finds may bound another.
        self.given = "faces" if detector is None else detector.finds
        self._given_shape = "faces" if detector is None else bounded(detector)
        self.margins = self._margins(self.given)
        self.read_head = model.config.inputs.head_reader(self.margins, landmarker)
        self._read_found = self.read_head

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        detector: str | Path | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> HeadPoseEstimator:
        """Load a network.

        Args:
            source: see `find_network`.
            detector: file of a detector (see `load_detector`); None takes `default_detector` when
                it is first needed.
            revision: branch, tag or commit of a network on the hub.
            **options: of the constructor.

        Raises:
            InputError: the network or the detector is missing or damaged.
        """
        network = find_network(source)
        model = from_pretrained(network, revision)
        bundled = sharing_copy_of(model) if network == weights.BUNDLED else None
        found = None if detector is None else load_detector(detector, bundled)
        estimator = cls(model, found, **options)
        estimator._bundled, estimator._name = bundled, str(network)
        return estimator

    @property
    def camera(self) -> Camera | float | None:
        """Intrinsics, or degrees that the longer side of images spans; None if not known.

        Raises:
            InputError: it is set to what is no field of view.
        """
        return self._camera

    @camera.setter
    def camera(self, camera: Camera | float | None) -> None:
        if isinstance(camera, int | float):
            Camera.from_fov(camera, 640, 480)  # refuses what is no field of view
        elif not isinstance(camera, Camera | None):
            raise InputError(
                f"a camera of {camera!r} is neither a Camera nor degrees; see read_camera for files"
            )
        self._camera = camera
        self._cameras: dict[tuple[int, int], Camera] = {}  # by the size of images

    @property
    def detector(self) -> Detector:
        """What finds the faces or heads."""
        if self._detector is None:
            detector = default_detector(self._bundled)
            margins = self._margins(detector.finds)
            self._read_found = self.model.config.inputs.head_reader(margins, self._landmarker)
            self._detector = detector
        return self._detector

    @property
    def min_confidence(self) -> float:
        """Confidence below which the network hardly ever sees a head."""
        return self.model.head.min_confidence

    def _margins(self, finds: str) -> Margins:
        crop = self.model.config.preprocessing.crop
        margins = crop.around_detected(finds, self._crop_margin)
        if self._crop_margin and not any(margins.factors):
            raise InputError(
                f"crop_margin changes nothing: this crop has no margins around {finds}; leave it "
                "out"
            )
        return margins

    def __call__(
        self,
        pictures: Picture | Sequence[Picture],
        boxes: Any = None,
        min_score: float = DEFAULT_MIN_SCORE,
        max_heads: int | None = None,
    ) -> Any:
        """Estimate every head's pose.

        Args:
            pictures: a path, bytes, an open file, a PIL image or an array (see
                `pictures.open_picture`), or a list.
            boxes: (N, 4) x_min, y_min, x_max, y_max instead of detection: of faces, or of what the
                detector finds that the estimator was made with; for a list of pictures a list of
                such.
            min_score: faces that the detector scores below this are left out.
            max_heads: keep only as many faces of a picture, the largest. Like `min_score` it says
                nothing of given boxes.

        Returns:
            A list of `Head`, largest first (in the order of `boxes`, if given); for a list of
            pictures a list of such lists.

        Raises:
            InputError: a picture cannot be read, a box lies outside of it, or there is no face
                detector.
        """
        if max_heads is not None and max_heads < 0:
            raise InputError(f"max_heads of {max_heads} is below 0")
        # What is no list of pictures is one, if only to be refused as such.
        single = is_one_picture(pictures) or not isinstance(pictures, Iterable)
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
            for image, those in zip(images, found, strict=True):
                require_inside(those.boxes, image)
        estimated = self.estimate(images, found, given=boxes is not None)
        heads = [
            self.zeroed(
                self.placed([h for h in those if h], image.shape[1::-1], given=boxes is not None)
            )
            for image, those in zip(images, estimated, strict=True)
        ]
        return heads[0] if single else heads

    def stream(self, source: Any, **options: Any) -> Iterator[Seen]:
        """Heads of a camera or a video, frame by frame, until it ends or the loop is left.

        Args:
            source: number of a camera, path of a video, or "demo".
            **options: see `loop.stream`.
        """
        from .loop import stream

        return stream(self, source, **options)

    def calibrate(self, source: Any, **options: Any) -> Zero:
        """Make the direction that a person looks in the zero of all later poses.

        Args:
            source: see `stream`; the largest head in it looks in that direction for a second.
            **options: see `loop.calibrate`.

        Returns:
            The zero, which is also `self.zero` now.
        """
        from .loop import calibrate

        return calibrate(self, source, **options)

    def camera_of(self, size: tuple[int, int]) -> Camera:
        """The camera of images of a width and height."""
        if size not in self._cameras:
            if isinstance(self.camera, Camera):
                camera = self.camera.resized(*size)
            else:
                fov = DEFAULT_FOV if self.camera is None else float(self.camera)
                camera = Camera.from_fov(fov, *size)
            if len(self._cameras) > MANY_SIZES:
                self._cameras.clear()
            self._cameras[size] = camera
        return self._cameras[size]

    def placed(
        self, heads: Sequence[Head], size: tuple[int, int], given: bool = False
    ) -> list[Head]:
        """Heads with positions, relative to the camera if one is known.

        Args:
            heads: of one image.
            size: its width and height.
            given: whether a user gave the boxes.
        """
        if not heads:
            return []
        boxes = np.array([head.box for head in heads])
        poses = np.array([head.pose for head in heads])
        kind = self._given_shape if given else bounded(self.detector)
        places = head_position(boxes, poses, self.camera_of(size), kind, self.head_size)
        if self.camera is not None and self.perspective:
            poses = as_placed(poses, places)
        return [
            dataclasses.replace(
                head.turned(pose), position=tuple(place.tolist()), seen=tuple(head.pose.tolist())
            )
            for head, pose, place in zip(heads, poses, places, strict=True)
        ]

    def zeroed(self, heads: Sequence[Head]) -> list[Head]:
        """Heads with angles relative to the zero, if there is one."""
        if self.zero is None:
            return list(heads)
        return [head.turned(self.zero(head.pose)) for head in heads]

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
            camera = self._straightens(image.shape)
            for face, box in enumerate(those.boxes):
                seen = image, box
                if camera is not None:
                    seen = straightened(image, box.astype(np.float64), camera)
                value = reader(*seen)
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

    def _straightens(self, shape: tuple[int, ...]) -> Camera | None:
        """The camera whose stretch off the axis is undone before heads are cut out."""
        if self.camera is None or not self.perspective or self.model.config.inputs.landmarks:
            return None
        return self.camera_of((shape[1], shape[0]))

    @in_lasting_thread
    def _run(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Inputs → (N, 3) poses in degrees and (N,) confidences, NaN where there are none."""
        if self._predictor is None or self._prepared is not self.model:
            self._predictor, self._prepared = Predictor(self.model), self.model
        poses, confidences = [np.zeros((0, 3))], [np.zeros(0)]
        # Some demos do not make their crops square, so that not all have one shape.
        shapes = sorted({value.shape for value in inputs})
        order = [i for shape in shapes for i, value in enumerate(inputs) if value.shape == shape]
        for _, group in groupby(order, lambda i: inputs[i].shape):
            pose, confidence = self._predictor.many([inputs[i] for i in group])
            poses.append(pose)
            confidences.append(confidence)
        back = np.argsort(order)
        found = np.concatenate(poses)[back]
        if not np.isfinite(found).all():
            raise InputError(self._without_numbers())
        return found, np.concatenate(confidences)[back]

    def _without_numbers(self) -> str:
        """Why the network predicts NaN; looking at all weights is too slow to do it before."""
        broken = [
            name
            for name, value in weights.tensors_of(self.model).items()
            if not np.isfinite(np.array(value.astype(mx.float32))).all()
        ]
        where = f", for its weights {', '.join(broken[:3])} are none either" if broken else ""
        return f"{self._name}: predicts angles that are no numbers{where}; get it again"


def find_network(source: str | Path | None = None) -> str | Path:
    """Which network a user means.

    Args:
        source: a `.safetensors` file, a folder, a hub id, or the name of a file in weights/
            without its ending; None takes the bundled network.

    Raises:
        InputError: it is not there; the message says which command makes or fetches it.
    """
    if source is None:
        if not weights.BUNDLED.is_file():
            raise InputError(
                f"{weights.BUNDLED}: this copy comes without a network of its own; run "
                f"`{command(f'convert --weight {SUGGESTION}')}` and give `--snapshot {SUGGESTION}`"
            )
        return weights.BUNDLED
    if Path(source).exists():
        return source
    if (named := find_weights(f"{source}.safetensors")) is not None:
        return named
    from ..convert.published import PUBLISHED

    if str(source) in PUBLISHED:
        raise InputError(
            f"{source}: not here yet; run `{command(f'convert --weight {source}')}` to fetch it"
        )
    return source


def largest(faces: Detections, count: int | None = None) -> Detections:
    """The `count` largest faces (None: all), largest first."""
    area = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(1)
    order = np.argsort(-area, kind="stable")[:count]
    return Detections(faces.boxes[order], faces.scores[order])


def require_inside(boxes: np.ndarray, image: np.ndarray) -> None:
    """Refuse (N, 4) boxes of which one shows nothing of an image.

    Raises:
        InputError: one lies wholly outside.
    """
    height, width = image.shape[:2]
    outside = (boxes[:, :2] >= (width, height)).any(1) | (boxes[:, 2:] <= 0).any(1)
    if outside.any():
        box = ", ".join(f"{value:g}" for value in boxes[outside][0])
        raise InputError(f"the box {box} lies outside the image of {width}×{height} pixels")


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
