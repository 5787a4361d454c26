"""Built-in heads before one camera: people at known places and poses, frame after frame.

`scene` renders one head with the optical axis through it. Here heads are anywhere in an image of
any proportions, as the camera's intrinsics say, and keep their looks and light while they move.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..pose import pose_to_matrix
from ..space.intrinsics import Camera
from ..space.perspective import IMAGE_TO_CAMERA, as_placed, as_seen, relative_to_camera
from .builtin.people import BuiltInPeople
from .builtin.shape import head_model
from .dataset import SPLITS
from .photo import PLAIN
from .rasterize import Camera as Pinhole
from .scene import view

MILLIMETRES = 1000.0
# Height in the template's axes where a tape measures a head, in mm.
ABOVE_BROWS = -35.0
ANY_POSE = np.array(((-1.0, 1.0),) * 3)


@dataclass(frozen=True)
class Placed:
    """A head before the camera.

    Attributes:
        pose: (3,) yaw, pitch, roll in degrees, relative to the camera.
        position: (3,) of the head's centre in metres, in camera axes.
    """

    pose: np.ndarray
    position: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """(3,) the pose relative to the ray through the face, which a network sees."""
        return as_seen(self.pose, self.position)


def facing_camera(pose: np.ndarray, position: np.ndarray) -> Placed:
    """A head at (3,) `position` whose (3,) pose is relative to the ray through its face."""
    return Placed(as_placed(pose, position), position)


@dataclass(frozen=True)
class _Lens(Pinhole):
    """A camera with a head anywhere before it, for the renderer.

    Attributes:
        camera: with distortion, for images of `factor` times its size.
        position: (3,) of the head in mm.
    """

    camera: Camera
    position: np.ndarray
    factor: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """See `Pinhole.project`."""
        places = points * IMAGE_TO_CAMERA + self.position
        places[..., 2] = np.maximum(places[..., 2], 1.0)
        projected = np.empty(points.shape, np.float32)
        projected[..., :2] = self.camera.project(places) * self.factor
        projected[..., 2] = self.distance / places[..., 2]
        return projected


class Actor:
    """One person of the built-in heads.

    Args:
        number: sample of the built-in heads.
        split: "train" or "val"; no person is in both.
    """

    def __init__(self, number: int, split: str = "val"):
        self.number = number
        self.people = BuiltInPeople((0, SPLITS[split]), number + 1, ANY_POSE)
        self.scene = self.people.scene(number, np.zeros(3), self.people.stream(number, 0))
        self.light = self.scene.sample_light(np.random.default_rng((number, 7)))

    @property
    def head_size(self) -> float:
        """Circumference above the brows in mm."""
        surface = head_model().surface(self.people.shapes[self.number])  # (R, C, 3)
        height = surface[..., 1].mean(1)
        ring = surface[int(np.abs(height - ABOVE_BROWS).argmin())][:, (0, 2)]
        return float(np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1).sum())

    def render(self, placed: Placed, camera: Camera, factor: float, pixels: np.ndarray) -> None:
        """Render the person into (S, S, 3) uint8 RGB `pixels`, in which they are nearest."""
        # The shoulders face the camera.
        body = relative_to_camera(np.zeros(3), placed.position)
        scene = dataclasses.replace(
            self.scene,
            pose=np.asarray(placed.pose, np.float32),
            shot=dataclasses.replace(self.scene.shot, body=body),
        )
        position = MILLIMETRES * np.asarray(placed.position, np.float64)
        lens = _Lens(float(position[2]), 1.0, (0.0, 0.0), camera, position, factor)
        mesh = scene.mesh(self.people.stream(self.number, 1))  # the same hair in every frame
        seen = view(scene, mesh, self.light, lens, len(pixels))
        pixels.reshape(-1, 3)[seen.pixel] = seen.colour.T.astype(np.uint8)


class Film:
    """A camera, and what is behind the people.

    Args:
        camera: with its image's size.
        actors: the people, each with their own light.
        seed: random seed of the background.
        noise: standard deviation of the pixels' noise, of 255.
        supersampling: the people are rendered this much larger and scaled down.
    """

    def __init__(
        self,
        camera: Camera,
        actors: Sequence[Actor],
        seed: int = 0,
        noise: float = 0.0,
        supersampling: float = 1.0,
    ):
        self.camera = camera
        self.actors = actors
        self.noise = noise
        self.rng = np.random.default_rng((seed, 1))
        self.size = camera.width, camera.height
        self.factor = supersampling
        # The renderer's images are square; what is below or beside the frame is cut off.
        self.side = round(max(self.size) * supersampling)
        background = PLAIN.background(self.side, np.random.default_rng((seed, 0)))
        self.background = np.asarray(background)

    def frame(self, placed: Sequence[Placed | None]) -> np.ndarray:
        """(H, W, 3) uint8 RGB; of actors with None nothing shows."""
        pixels = self.background.copy()
        there = [(head, actor) for head, actor in zip(placed, self.actors, strict=True) if head]
        for head, actor in sorted(there, key=lambda pair: -pair[0].position[2]):
            actor.render(head, self.camera, self.factor, pixels)
        if self.factor != 1:
            image = Image.fromarray(pixels)
            square = (max(self.size), max(self.size))
            pixels = np.asarray(image.resize(square, Image.Resampling.BILINEAR))
        width, height = self.size
        pixels = pixels[:height, :width]
        if self.noise:
            grain = self.rng.normal(0, self.noise, pixels.shape[:2])[..., None]
            pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels)

    def box(self, placed: Placed, actor: Actor, kind: str = "head") -> np.ndarray:
        """(4,) x_min, y_min, x_max, y_max of a head in pixels.

        Args:
            placed: where it is.
            actor: whose it is.
            kind: "head" for the whole head with hair, "face" for 300W's 68 landmarks.
        """
        people, numbers = actor.people, np.array([actor.number])
        if kind == "head":
            points, margin = people.outline(numbers)[0], people.hair_margin
        else:
            points, margin = people.points_68(numbers)[0], 0.0
        turned = points @ np.asarray(pose_to_matrix(placed.pose)).T
        position = MILLIMETRES * np.asarray(placed.position)
        flat = self.camera.project(turned * IMAGE_TO_CAMERA + position)
        grown = margin * np.array([self.camera.fx, self.camera.fy]) / position[2]
        return np.concatenate([flat.min(0) - grown, flat.max(0) + grown])
