"""A set of samples of a head model: identities, expressions, poses and cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from ...pose import matrix_to_pose, pose_to_matrix
from ...space.perspective import as_placed
from ..environments import Environments
from ..people import Cameras, People, on_axis
from .identity import EXPRESSION_COLUMNS, Identities, rows_of
from .looks import Looks, sample_looks
from .model import load_head
from .scene import MeshScene

_VIEW_COLUMNS = 12
_NECK = 80.0  # degrees that a neck bends at most
_TO_CAMERA = 120.0  # yaw in degrees beyond which nobody turns the shoulders to the camera


class MeshPeople(People):
    """N samples of the head model in a file; a person follows from (seed, person's number).

    Attributes:
        person: (N,) number of each sample's person.

    Args:
        path: the head model's file.
        seed: random seed of the set and its split.
        count: N.
        limits: (3, 2) lowest and highest yaw, pitch and roll.
        identities: number of people; None means another one for each sample.
        natural: whether poses are denser where people's heads are, instead of uniform.
        tilted: whether half of the samples are seen from above or below and a third by a turned
            camera, or lie.
        environments: places that light every second sample, or None.
    """

    hair_margin = 12.0
    picture_stream = 14

    def __init__(
        self,
        path: Path,
        seed: tuple[int, ...],
        count: int,
        limits: np.ndarray,
        identities: int | None = None,
        natural: bool = False,
        tilted: bool = False,
        environments: Environments | None = None,
    ):
        self.head = load_head(path)
        self.environments = environments
        self.seed = seed
        self.identities = Identities(self.head.targets)
        self.people_rows = rows_of(np.random.SeedSequence((*seed, 11)), self.identities.columns)
        columns = EXPRESSION_COLUMNS + _VIEW_COLUMNS
        self.sample_rows = rows_of(np.random.SeedSequence((*seed, 12)), columns)
        views = self.sample_rows(0, count)[:, EXPRESSION_COLUMNS:]
        upright = np.clip(limits[1:], -50, 50) if tilted else limits[1:]
        self.seen = sample_poses(views[:, :6], np.concatenate((limits[:1], upright)), natural)
        self.tilts = np.zeros((count, 2))
        if tilted:
            rows = rows_of(np.random.SeedSequence((*seed, 15)), 4)(0, count)
            self.seen, self.tilts = tilt(rows, self.seen, limits)
        self.person = np.arange(count)
        if identities is not None:
            self.person = (views[:, 6] * identities).astype(np.intp)
        # As 20 to 100 mm equivalents see a frame of 0.55 to 1.1 m at the head.
        focal = 20 * 5 ** views[:, 7]
        self.cameras = Cameras(
            focal / 36 * (550 * 2 ** views[:, 8]),
            0.0024 + 0.0014 * views[:, 9],
            0.43 + 0.14 * views[:, 10:12],
        )
        places = on_axis(self.cameras.distances)
        self.poses = as_placed(self.seen, places).astype(np.float32)

    def weights(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) sample numbers → (n, T) weights of identity and of expression."""
        who = np.concatenate([self.people_rows(int(p), 1) for p in self.person[numbers]])
        mood = np.concatenate([self.sample_rows(int(i), 1) for i in numbers])
        mood = mood[:, :EXPRESSION_COLUMNS]
        return self.identities.weights(who), self.identities.expressions(mood)

    def landmarks(self, numbers: np.ndarray) -> np.ndarray:
        return self.head.landmarks_of(*self.weights(numbers))

    points_68 = landmarks

    def outline(self, numbers: np.ndarray) -> np.ndarray:
        return _skull(self.landmarks(numbers))

    def looks(self, number: int) -> Looks:
        """The looks of sample `number`'s person."""
        person = int(self.person[number])
        u = self.people_rows(person, 1)
        return sample_looks(
            self.stream(person, 13),
            self.head.assets,
            float(self.identities.feminine(u)[0]),
            float(self.identities.ages(u)[0]),
            float(self.identities.origins(u)[0, 0]),
        )

    def frontal_landmarks(self, number: int) -> np.ndarray:
        identity, expression = self.weights(np.array([number]))
        return self.head.landmarks_of(identity, 0 * expression)[0]

    def scene(self, number: int, pose: np.ndarray, rng: np.random.Generator) -> MeshScene:
        identity, expression = self.weights(np.array([number]))
        if self.tilts[number].any():
            # Shoulders are upright in the room, not in the image.
            turn = _tilts(self.tilts[number])
            turned = turn.T @ pose_to_matrix(np.asarray(pose, np.float64))
            body = sample_body(rng, np.asarray(matrix_to_pose(turned, full_yaw=True)))
            body = (turn @ body).astype(np.float32)
        else:
            body = sample_body(rng, pose)
        return MeshScene(
            self.head,
            identity[0],
            expression[0],
            self.looks(number),
            pose,
            body,
            np.clip(rng.normal(0, (11, 6)), (-32, -16), (32, 16)),
            self.environments,
        )


def sample_poses(u: np.ndarray, limits: np.ndarray, natural: bool) -> np.ndarray:
    """(N, 6) uniform numbers → (N, 3) float32 yaw, pitch, roll in degrees.

    Args:
        u: the numbers.
        limits: (3, 2) lowest and highest.
        natural: a mixture: half of the yaws near the front, a quarter within ±95° and a quarter
            anywhere; two thirds of pitch and roll near upright and the others anywhere.
    """
    low, high = limits.T
    poses = low + u[:, :3] * (high - low)
    if natural:
        usual = ndtri(0.001 + 0.998 * u[:, :3]) * (28, 13, 10) - (0, 3, 0)
        kind = u[:, 3:]
        wide = -95 + 190 * u[:, 0]
        yaw = np.where(
            kind[:, 0] < 0.5, usual[:, 0], np.where(kind[:, 0] < 0.75, wide, poses[:, 0])
        )
        poses[:, 0] = yaw
        poses[:, 1:] = np.where(kind[:, 1:] < 0.66, usual[:, 1:], poses[:, 1:])
        poses = np.clip(poses, low, high)
    return poses.astype(np.float32)


def _tilts(angles: np.ndarray) -> np.ndarray:
    """(..., 2) elevations and rolls of a camera in degrees → (..., 3, 3) how they turn a head."""
    elevation, roll = np.moveaxis(angles, -1, 0)
    zero = np.zeros_like(elevation)
    up = pose_to_matrix(np.stack((zero, elevation, zero), -1))
    return np.asarray(pose_to_matrix(np.stack((zero, zero, roll), -1)) @ up)


def tilt(u: np.ndarray, poses: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses as tilted cameras see them.

    Args:
        u: (N, 4) uniform numbers.
        poses: (N, 3) as an upright camera sees them.
        limits: (3, 2) lowest and highest yaw, pitch and roll; what would leave them stays upright.

    Returns:
        (N, 3) float32 poses, and (N, 2) elevations and rolls of the cameras in degrees.
    """
    elevation = (u[:, 0] < 0.5) * np.clip(ndtri(0.001 + 0.998 * u[:, 1]) * 22, -65, 65)
    roll = (u[:, 2] < 0.35) * (limits[2, 0] + u[:, 3] * (limits[2, 1] - limits[2, 0]))
    tilts = np.stack((elevation, roll), -1)
    turned = _tilts(tilts) @ np.asarray(pose_to_matrix(poses.astype(np.float64)))
    seen = np.asarray(matrix_to_pose(turned, full_yaw=True))
    inside = np.all((seen >= limits[:, 0]) & (seen <= limits[:, 1]), axis=1)[:, None]
    return np.where(inside, seen, poses).astype(np.float32), np.where(inside, tilts, 0)


def sample_body(rng: np.random.Generator, pose: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of the shoulders below a head in a (3,) pose.

    They are upright and turned less than the head or more, unless the neck would have to bend
    further than necks do: then the body leans as well. Of people whom the camera sees from the
    front or the side, half have turned their shoulders towards it, so that these tell little of
    where the head turns.
    """
    yaw = float(pose[0])
    turned = rng.normal(0, 26)
    if abs(yaw) < _TO_CAMERA and rng.random() < 0.5:
        turned += rng.uniform(0.3, 1) * yaw
    upright = np.array((yaw - turned, rng.normal(0, 6), rng.normal(0, 5)))
    head, body = pose_to_matrix(np.stack((pose, upright)).astype(np.float64))
    neck = Rotation.from_matrix(head.T @ body)
    bent = np.degrees(neck.magnitude())
    most = rng.uniform(50, _NECK)
    if bent > most:
        neck = Rotation.from_rotvec(neck.as_rotvec() * (most / bent))
    return (head @ neck.as_matrix()).astype(np.float32)


def _skull(points: np.ndarray) -> np.ndarray:
    """(n, 68, 3) landmarks → landmarks and points of the bald head's outline."""
    ears = (points[:, 0] + points[:, 16]) / 2
    width = np.linalg.norm(points[:, 16] - points[:, 0], axis=1)[:, None]
    more = []
    for across, up, back in (
        (0, 0.93, 0.05), (0, 0.85, -0.3), (0, 0.55, -0.62), (0, 0.1, -0.7), (0, 0.77, 0.3),
        (0.4, 0.7, 0), (-0.4, 0.7, 0), (0.56, 0.2, 0), (-0.56, 0.2, 0), (0.45, 0.2, -0.45),
        (-0.45, 0.2, -0.45), (0, 0.45, 0.62), (0, -0.25, -0.55),
    ):  # fmt: skip
        more.append(ears + width * np.array((across, -up, back)))
    return np.concatenate((points, np.stack(more, axis=1)), axis=1)
