"""One image: a person in a pose, under some light, before some background, through a camera."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .light import Finish, Light, shade
from .material import Material, Painter
from .photo import PLAIN, Photo
from .rasterize import Camera, facing, rasterize

# The head is rendered this much larger than asked for and scaled down, against jagged edges.
SUPERSAMPLING = 1.4
LAMP = 4  # the attribute that `view` fills in
COVERED = 8.0  # mm that something lies before a point that it hides


@dataclass
class Part:
    """A surface of one material.

    Attributes:
        material: material of the whole part.
        vertices: (V, 3) float32 mm.
        attributes: (V, C) float32, see `Mesh`.
        triangles: (3, T) vertex numbers.
    """

    material: Material
    vertices: np.ndarray
    attributes: np.ndarray
    triangles: np.ndarray


@dataclass
class Mesh:
    """All parts as one list of triangles, in the scene's axes: the head's pivot is the origin.

    Attributes:
        vertices: (V, 3) float32 mm.
        attributes: (V, C) float32: normal, share of the sky and share of the lamp's light that a
            vertex sees, and further columns that the scene's painter reads.
        material: (V,) uint8 `Material`.
        triangles: (3, T) vertex numbers, anticlockwise as the viewer sees their front.
        nearer: (V,) float32 mm added to z where it is decided what hides what.
    """

    vertices: np.ndarray
    attributes: np.ndarray
    material: np.ndarray
    triangles: np.ndarray
    nearer: np.ndarray


def joined(parts: Sequence[Part], nearer: Mapping[Material, float] | None = None) -> Mesh:
    """Parts as one mesh; `nearer` says by how many mm which materials come forward."""
    counts = [len(part.vertices) for part in parts]
    firsts = np.cumsum([0, *counts[:-1]])
    ahead = np.array([(nearer or {}).get(part.material, 0.0) for part in parts], np.float32)
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.attributes for part in parts]),
        np.repeat(np.array([part.material for part in parts], np.uint8), counts),
        np.concatenate([p.triangles + first for p, first in zip(parts, firsts, strict=True)], 1),
        np.repeat(ahead, counts),
    )


class Scene(ABC):
    """A person in a pose: what a source of heads offers to `render`.

    Attributes:
        finish: how the surfaces take light.
        two_sided: materials whose triangles are seen from both sides.
    """

    finish: ClassVar[Finish]
    two_sided: ClassVar[tuple[Material, ...]] = ()

    @property
    @abstractmethod
    def skin(self) -> np.ndarray:
        """(3,) albedo, for hands before the head."""

    @abstractmethod
    def sample_light(self, rng: np.random.Generator) -> Light:
        """Random light that suits the source."""

    @abstractmethod
    def mesh(self, rng: np.random.Generator) -> Mesh:
        """The person's surfaces; `rng` shapes what the pose has no part in."""

    @abstractmethod
    def shadows(self, mesh: Mesh, direction: np.ndarray) -> np.ndarray:
        """(V,) share of the lamp in the (3,) direction that reaches each vertex."""

    @abstractmethod
    def painter(self) -> Painter:
        """What gives the surfaces their colours."""


@dataclass(frozen=True)
class View:
    """What a camera sees of a mesh: one entry per covered pixel.

    Attributes:
        pixel: (P,) index into the flattened image, ascending.
        colour: (3, P) float32, 0..255.
        material: (P,) uint8 `Material`.
        attributes: (C, P) float32, see `Mesh`.
        height: (P,) float32 mm of z.
    """

    pixel: np.ndarray
    colour: np.ndarray
    material: np.ndarray
    attributes: np.ndarray
    height: np.ndarray


def view(scene: Scene, mesh: Mesh, light: Light, camera: Camera, side: int) -> View:
    """A lit person without surroundings.

    Args:
        scene: person and pose.
        mesh: mesh of the scene, perhaps with triangles left out. Changed in place.
        light: what shines.
        camera: camera for images of `side` pixels.
        side: side of the square image in pixels.
    """
    projected = camera.project(mesh.vertices)
    both = np.isin(mesh.material, scene.two_sided)
    turned = both[mesh.triangles[0]]
    mesh.triangles[:, turned] = facing(mesh.triangles[:, turned], projected)
    depth = np.maximum(camera.distance - mesh.vertices[:, 2] - mesh.nearer, 1.0)
    projected[:, 2] = camera.distance / depth
    mesh.attributes[:, LAMP] = scene.shadows(mesh, light.direction)
    fragments = rasterize(projected, mesh.triangles, side, side)
    attributes = np.ascontiguousarray(fragments.interpolate(mesh.attributes).T)
    first = fragments.corners[0]
    attributes[:3, both[first] & (attributes[2] < 0)] *= -1
    material = mesh.material[first]
    albedo, gloss = scene.painter().paint(material, attributes)
    colour = shade(attributes, albedo, gloss, material, light, scene.finish)
    height = fragments.interpolate(mesh.vertices[:, 2:])[:, 0]
    return View(fragments.pixel, colour, material, attributes, height)


def render(
    scene: Scene,
    camera: Camera,
    side: int,
    rng: np.random.Generator,
    photo: Photo = PLAIN,
    points: np.ndarray | None = None,
) -> tuple[Image.Image, np.ndarray]:
    """An image of a person, and which of some points of the head it shows.

    Args:
        scene: person and pose.
        camera: camera for images of side 1.
        side: side of the square image in pixels.
        rng: source of light, background and what else the pose has no part in.
        photo: background, what is before the head, and what the camera does.
        points: (L, 3) mm from the head's pivot, turned with the head.

    Returns:
        The image, and (L, 3) float32 of each point: x and y in its pixels, and 1 where the point
        is seen or 0 where it lies outside of the image or behind something. Without `points`, L
        is 0.
    """
    light = scene.sample_light(rng)
    large = round(side * SUPERSAMPLING)
    canvas = photo.background(large, rng)
    camera = camera.sized(large)
    seen = view(scene, scene.mesh(rng), light, camera, large)
    pixels = np.array(canvas)
    pixels.reshape(-1, 3)[seen.pixel] = seen.colour.T.astype(np.uint8)
    image = Image.fromarray(pixels)
    photo.occlude(image, scene.skin, rng)
    shown = np.zeros((0, 3), np.float32)
    if points is not None:
        height = np.full((large, large), -np.inf, np.float32)
        height.ravel()[seen.pixel] = seen.height
        height[(np.asarray(image) != pixels).any(axis=-1)] = np.inf  # a hand or a thing
        shown = camera.project(points)
        place = np.floor(shown[:, :2]).astype(np.intp)
        inside = ((place >= 0) & (place < large)).all(axis=1)
        column, row = np.clip(place, 0, large - 1).T
        shown[:, 2] = inside & (height[row, column] < points[:, 2] + COVERED)
        shown[:, :2] *= side / large
    return photo.develop(image, side, rng), shown
