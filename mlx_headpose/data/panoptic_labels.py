"""Head poses and boxes of CMU Panoptic recordings, made as WHENet's authors describe.

A reference head is aligned to the 3D face keypoints that the panoptic toolbox offers
(`hdFace3d`), and seen through each calibrated camera: its rotation relative to the camera is the
pose, and the projection of a sphere around it, a helmet, is the head box. So a head seen from
behind, where the camera sees no keypoint, has a label too (Zhou and Gregson 2020, section 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files import read_json, visible
from ..pose import matrix_to_pose, wrap
from ..readers.pictures import open_upright

# Keypoint of the face (of 70, in OpenPose's order) → its place on the authors' reference head,
# which is the 58-point anthropometric model: x to the head's left, y up, z out of the face, in cm.
REFERENCE_HEAD = {
    17: (-6.825897, 6.760612, 4.402142),  # right eyebrow, outer end
    21: (-1.330353, 7.122144, 6.903745),  # right eyebrow, inner end
    26: (6.825897, 6.760612, 4.402142),
    22: (1.330353, 7.122144, 6.903745),
    45: (5.311432, 5.485328, 3.987654),  # left eye, outer corner
    42: (1.789930, 5.393625, 4.413414),  # left eye, inner corner
    39: (-1.789930, 5.393625, 4.413414),
    36: (-5.311432, 5.485328, 3.987654),
    35: (1.930245, 0.424351, 5.914376),  # left nostril
    31: (-1.930245, 0.424351, 5.914376),
    54: (2.774015, -2.080775, 5.048531),  # left corner of the mouth
    48: (-2.774015, -2.080775, 5.048531),
    57: (0.0, -3.116408, 6.097667),  # lower lip
    8: (0.0, -7.415691, 4.070434),  # chin
}
KEYPOINTS = np.array(list(REFERENCE_HEAD))
REFERENCE_POINTS = np.array(list(REFERENCE_HEAD.values()))
FACE_POINTS = 70
MIN_CONFIDENCE = 0.1
MIN_POINTS = 7
HELMET_RADIUS = 22.0
HELMET_CENTRE = (0.0, 5.0, -5.0)
MAX_ASPECT = 2.0
# Room around the box in the saved picture, as a fraction of its size.
CONTEXT = 0.25

# Head axes (x left, y up, z out of the face) to a frontal head in camera axes (x right, y down,
# z away), then to our image axes (z towards the viewer).
_FRONTAL = np.diag([1.0, -1.0, -1.0])
_TO_IMAGE = np.diag([1.0, 1.0, -1.0])


@dataclass(frozen=True)
class Camera:
    """A calibrated camera of `calibration_*.json`: x = K · distort(R · X + t).

    Attributes:
        name: such as "00_07", panel and node.
        size: width and height in pixels.
        k: (3, 3) intrinsics.
        distortion: k1, k2, p1, p2, k3 (Brown's model, as in OpenCV).
        rotation: (3, 3) world → camera.
        translation: (3,) in cm.
    """

    name: str
    size: tuple[int, int]
    k: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) world → (N, 3): x and y in pixels, and depth in cm."""
        x, y, depth = self.rotation @ points.T + self.translation[:, None]
        x, y = x / depth, y / depth
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        distorted = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y),
                np.ones_like(x),
            ]
        )
        pixels = self.k @ distorted
        return np.stack([pixels[0], pixels[1], depth], axis=1)


@dataclass(frozen=True)
class Head:
    """The reference head in the world: X = scale · rotation · x + translation.

    Attributes:
        person: the toolbox's number of the person.
        rotation: (3, 3) head axes → world.
        translation: (3,) in cm.
        scale: size relative to the reference head.
    """

    person: int
    rotation: np.ndarray
    translation: np.ndarray
    scale: float

    def place(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) on the reference head → (N, 3) in the world."""
        return self.scale * points @ self.rotation.T + self.translation


def align_head(keypoints: np.ndarray, confidence: np.ndarray, person: int = 0) -> Head | None:
    """Fit the reference head to face keypoints: the least-squares similarity (Horn 1987).

    Args:
        keypoints: (70, 3) world coordinates in cm.
        confidence: (70,).
        person: kept in the result.

    Returns:
        The head; None where fewer than seven keypoints have a confidence above 0.1.
    """
    from scipy.spatial.transform import Rotation  # slow to import, and `--help` needs none

    sure = (confidence[KEYPOINTS] > MIN_CONFIDENCE) & np.isfinite(keypoints[KEYPOINTS]).all(1)
    if sure.sum() < MIN_POINTS:
        return None
    model, data = REFERENCE_POINTS[sure], keypoints[KEYPOINTS[sure]]
    model_mean, data_mean = model.mean(0), data.mean(0)
    rotation = Rotation.align_vectors(data - data_mean, model - model_mean)[0].as_matrix()
    turned = (model - model_mean) @ rotation.T
    scale = float((turned * (data - data_mean)).sum() / np.square(turned).sum())
    return Head(person, rotation, data_mean - scale * rotation @ model_mean, scale)


def head_pose(head: Head, camera: Camera) -> np.ndarray | None:
    """(3,) yaw, pitch, roll in degrees relative to the camera; None where the rule refuses them.

    Of the two triples that give the same rotation the one with pitch and roll within ±90° is taken,
    so that yaw covers the full circle; where none has both, there is no label.
    """
    matrix = _TO_IMAGE @ camera.rotation @ head.rotation @ _FRONTAL @ _TO_IMAGE
    pose = np.asarray(matrix_to_pose(matrix, full_yaw=True))
    return pose if (np.abs(pose[1:]) < 90).all() else None


def helmet() -> np.ndarray:
    """(N, 3) points of the sphere around the reference head."""
    azimuth, polar = np.meshgrid(
        np.radians(np.arange(0, 360, 10)), np.radians(np.arange(0, 181, 10)), indexing="ij"
    )
    sphere = np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=-1
    )
    return HELMET_RADIUS * sphere.reshape(-1, 3) + HELMET_CENTRE


def head_box(head: Head, camera: Camera) -> tuple[int, int, int, int] | None:
    """x_min, y_min, x_max, y_max around the projected helmet, within the picture.

    None where the head is not in front of the camera, or its visible part is a sliver.
    """
    x, y, depth = camera.project(head.place(helmet())).T
    if depth.min() <= 0:
        return None
    width, height = camera.size
    left, right = int(np.clip(x.min(), 0, width)), int(np.clip(x.max(), 0, width))
    top, bottom = int(np.clip(y.min(), 0, height)), int(np.clip(y.max(), 0, height))
    if left >= right or top >= bottom or right - left >= width:
        return None
    aspect = (right - left) / (bottom - top)
    return (left, top, right, bottom) if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else None


@dataclass(frozen=True)
class Label:
    """One head in one picture.

    Attributes:
        camera: its name.
        frame: number of the frame.
        person: the toolbox's number of the person.
        box: x_min, y_min, x_max, y_max in pixels.
        pose: (3,) yaw, pitch, roll in degrees.
    """

    camera: str
    frame: int
    person: int
    box: tuple[int, int, int, int]
    pose: np.ndarray


class Recording:
    """A sequence in the panoptic toolbox's folders.

    `calibration_<sequence>.json`, `hdFace3d/faceRecon3D_hd<frame>.json`, and pictures as
    `hdImgs/<camera>/<camera>_<frame>.jpg` or videos as `hdVideos/hd_<camera>.mp4`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        found = sorted(folder.glob("calibration_*.json"))
        if not found:
            raise InputError(f"{folder}: has no calibration_*.json; give a sequence's folder")
        self.cameras = read_cameras(found[0])
        self.faces = {}
        for path in visible(folder, "hdFace3d/*.json"):
            number = re.search(r"(\d+)$", path.stem)
            if number:
                self.faces[int(number[1])] = path
        if not self.faces:
            raise InputError(f"{folder}: has no hdFace3d/*.json; unpack hdFace3d.tar there")

    def labels(
        self, camera: Camera, interval: int = 10, min_turn: float = 5.0
    ) -> Iterator[tuple[int, list[Label]]]:
        """Frame by frame, the heads worth keeping.

        Args:
            camera: who sees them.
            interval: take every so many frames.
            min_turn: leave out a person who has turned less than this since the last label, in
                degrees of yaw; neighbouring frames look alike.
        """
        kept: dict[int, float] = {}
        for frame in sorted(self.faces)[::interval]:
            labels = []
            for head in read_heads(self.faces[frame]):
                pose, box = head_pose(head, camera), head_box(head, camera)
                if pose is None or box is None:
                    continue
                last = kept.get(head.person)
                if last is not None and abs(wrap(pose[0] - last)) <= min_turn:
                    continue
                kept[head.person] = float(pose[0])
                labels.append(Label(camera.name, frame, head.person, box, pose))
            if labels:
                yield frame, labels

    def pictures(self, camera: Camera, frames: list[int]) -> Iterator[tuple[int, Image.Image]]:
        """The frames that exist, in rising order, less the one-coloured ones of a lost signal.

        Raises:
            InputError: one has another size than the camera's calibration is for.
        """
        source = self.folder / "hdImgs" / camera.name
        video = self.folder / "hdVideos" / f"hd_{camera.name}.mp4"
        if source.is_dir():
            found = _from_folder(source, camera.name, frames)
        elif video.is_file():
            source, found = video, _from_video(video, frames)
        else:
            return
        for frame, picture in found:
            if picture.size != camera.size:
                (width, height), wanted = picture.size, "×".join(map(str, camera.size))
                raise InputError(
                    f"{source}: frame {frame} has {width}×{height} pixels, and the calibration is "
                    f"for {wanted}; get the frames in that size"
                )
            if np.ptp(np.asarray(picture), axis=(0, 1)).any():
                yield frame, picture


def _from_folder(folder: Path, name: str, frames: list[int]) -> Iterator[tuple[int, Image.Image]]:
    for frame in frames:
        path = folder / f"{name}_{frame:08d}.jpg"
        if path.is_file():
            yield frame, open_upright(path)


def _from_video(path: Path, frames: list[int]) -> Iterator[tuple[int, Image.Image]]:
    try:
        import cv2
    except ImportError:
        raise InputError(
            f"{path}: reading videos needs OpenCV; run `pip install opencv-python`"
        ) from None
    video = cv2.VideoCapture(str(path))
    try:
        wanted, number = set(frames), 0
        while number <= max(frames, default=-1) and video.grab():
            if number in wanted:
                success, pixels = video.retrieve()
                if success:
                    yield number, Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            number += 1
    finally:
        video.release()


def read_cameras(path: Path) -> dict[str, Camera]:
    """The HD cameras of a `calibration_*.json`, by name."""
    cameras = {}
    content = read_json(path)
    try:
        for entry in content["cameras"]:
            if entry.get("type", "hd") != "hd":
                continue
            name = f"{int(entry['panel']):02d}_{int(entry['node']):02d}"
            width, height = (int(v) for v in entry["resolution"])
            cameras[name] = Camera(
                name,
                (width, height),
                _finite(entry["K"], 9).reshape(3, 3),
                _finite(entry["distCoef"], 5),
                _finite(entry["R"], 9).reshape(3, 3),
                _finite(entry["t"], 3),
            )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: no calibration of the panoptic toolbox ({error!r})") from None
    return cameras


def read_heads(path: Path) -> list[Head]:
    """The heads of one `hdFace3d` frame whose face keypoints are sure enough."""
    heads: list[Head] = []
    content = read_json(path)
    try:
        for person in content["people"]:
            if "face70" not in person:
                continue
            face = person["face70"]
            keypoints = _numbers(face["landmarks"], 3 * FACE_POINTS).reshape(-1, 3)
            confidence = _numbers(face["averageScore"], FACE_POINTS)
            head = align_head(keypoints, confidence, int(person.get("id", len(heads))))
            if head is not None:
                heads.append(head)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: no hdFace3d frame of the panoptic toolbox ({error!r})") from None
    return heads


def _finite(value: Any, count: int) -> np.ndarray:
    array = _numbers(value, count)
    if not np.isfinite(array).all():
        raise ValueError("a value is no number")
    return array


def _numbers(value: Any, count: int) -> np.ndarray:
    array = np.asarray(value, np.float64).ravel()
    if array.size != count:
        raise ValueError(f"{array.size} numbers where {count} are expected")
    return array
