"""Heads with neck and shoulders as sprites: people of the head model, from every side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...pose import matrix_to_pose, pose_to_matrix
from ...space.perspective import as_seen
from ..light import Light, sample_tint
from ..material import Material, Painter
from ..mesh import MeshPeople
from ..mesh.looks import BEANIE, Looks
from ..mesh.paint import REST, PersonPainter
from ..mesh.people import sample_body
from ..mesh.scene import MeshScene
from ..people import on_axis
from ..person import linear
from ..rasterize import Camera
from ..scene import SUPERSAMPLING, Mesh, view
from .rendering import SpriteSource
from .sprites import Sprite, cut_out, extremes, headless

SIDE = 224  # of most sprites in pixels
FIELD = 560.0  # mm that a sprite is wide
LARGE = 0.25  # share of the sprites that have twice the side
_PIVOT = (0.5, 0.42)  # where the head's pivot lies in a sprite
_CHIN = (6.19, 1.44)  # height and depth of the chin on the base mesh, dm
_NAPE = 0.36  # dm that the head's lower edge rises for each dm backwards
_HAIR_LOW = 6.1  # dm: hair that hangs lower is no part of the head's box
_LEAST = 20  # pixels of a head
HEADLESS = 0.04  # share of the sprites that show shoulders without a head


class PeopleSprites(SpriteSource):
    """Sprites of people.

    Args:
        mesh: file of the head model.
        environments, seed: see `SpriteSource`.
        count: number of people.
    """

    def __init__(self, mesh: Path, environments: Path | None, seed: tuple[int, ...], count: int):
        super().__init__(environments, seed)
        limits = np.array(((-180, 180), (-50, 50), (-30, 30)), float)
        self.people = MeshPeople(mesh, seed, count, limits)

    def draw(self, number: int) -> Sprite:
        """Sprite `number`."""
        rng = np.random.default_rng((*self.seed, 21, number))
        side = SIDE * (2 if rng.random() < LARGE else 1)
        scene, camera = self._scene(number, rng)
        light = scene.sample_light(rng)
        mesh = scene.mesh()
        if rng.random() < HEADLESS:
            corners = _on_head(mesh.material, mesh.attributes[:, REST].T)
            mesh.triangles = mesh.triangles[:, ~corners[mesh.triangles].any(axis=0)]
        return _rendered(scene, mesh, light, camera, side)

    def _scene(self, number: int, rng: np.random.Generator) -> tuple[MeshScene, Camera]:
        """A person in the pose that a camera sees, and that camera, for images of side 1."""
        upright = np.array(
            (self.people.seen[number, 0], rng.normal(0, 14), rng.normal(0, 9)), np.float32
        )
        upright[1:] = np.clip(upright[1:], -45, 45)
        body = sample_body(rng, upright)
        elevation = float(np.clip(rng.normal(8, 16), -30, 65))  # the camera looks down
        camera = pose_to_matrix(np.array((0, -elevation, 0), np.float32))
        turn = camera @ pose_to_matrix(upright)
        pose = np.asarray(matrix_to_pose(turn[None], full_yaw=True))[0]
        identity, expression = self.people.weights(np.array([number]))
        scene = _Dressed(
            self.people.head,
            identity[0],
            expression[0],
            _dressed(self.people.looks(number), rng),
            pose.astype(np.float32),
            (camera @ body).astype(np.float32),
            np.clip(rng.normal(0, (11, 6)), (-32, -16), (32, 16)),
            self.environments,
            rng,
        )
        distance = float(np.exp(rng.uniform(np.log(600), np.log(6000))))
        return scene, Camera(distance, 1 / FIELD, _PIVOT)


@dataclass(frozen=True)
class _Dressed(MeshScene):
    """A person who may wear what no part of the mesh is.

    Attributes:
        chance: random numbers that choose it; see `_cover`.
    """

    chance: np.random.Generator

    def painter(self) -> Painter:
        return _Covered(self.looks, self.gaze, self.chance)


class _Covered(PersonPainter):
    """Paints over what `PersonPainter` has painted."""

    def __init__(self, looks: Looks, gaze: np.ndarray, chance: np.random.Generator):
        super().__init__(looks, gaze)
        self.chance = chance

    def paint(self, material: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        albedo, gloss = super().paint(material, attributes)
        _cover(material, attributes[REST], albedo, gloss, self.looks, self.chance)
        return albedo, gloss


def _rendered(scene: MeshScene, mesh: Mesh, light: Light, camera: Camera, side: int) -> Sprite:
    large = round(side * SUPERSAMPLING)
    seen = view(scene, mesh, light, camera.sized(large), large)
    pixels = np.zeros((large * large, 3), np.uint8)
    pixels[seen.pixel] = seen.colour.T.astype(np.uint8)
    opaque = np.zeros(large * large, bool)
    opaque[seen.pixel] = True
    cut = cut_out(pixels.reshape(large, large, 3), opaque.reshape(large, large), (side, side))
    head = seen.pixel[_on_head(seen.material, seen.attributes[REST])]
    if len(head) < _LEAST:
        return headless(cut)
    # Pixels ascend row by row, so a row's first and last ones bound it.
    row, column = np.divmod(head, large)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    last = np.append(first[1:], len(row)) - 1
    left = np.stack((column[first], row[first]), -1)
    right = np.stack((column[last] + 1, row[last]), -1)
    below = np.array((0, 1))
    corners = np.concatenate((left, left + below, right, right + below))
    points = scene.head.landmarks_of(scene.identity, scene.expression)
    turned = points @ np.asarray(pose_to_matrix(scene.pose)).T
    landmarks = camera.sized(side).project(turned)[:, :2]
    outline = extremes(corners) * np.float32(side / large)
    pose = as_seen(scene.pose, on_axis(camera.distance)).astype(np.float32)
    return Sprite(cut, outline, landmarks, pose)


def _on_head(material: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(P,) whether places (3, P) are parts of the head as its box is labelled.

    The head goes down to the chin, and behind to the nape; hair that hangs lower is left out.
    """
    height, depth = rest[1], rest[2]
    above = height > _CHIN[0] - 0.03 + _NAPE * (_CHIN[1] - depth)
    on_head = (material == Material.SKIN) & above
    on_head |= (material == Material.HAIR) & (height > _HAIR_LOW)
    whole = (Material.EYE, Material.TEETH, Material.HAT, Material.FRAME, Material.LENS)
    return on_head | np.isin(material, whole)


def _dressed(looks: Looks, rng: np.random.Generator) -> Looks:
    """Some people wear more on their heads than portraits show: helmets, hoods, scarves."""
    kind = rng.random()
    if kind < 0.06:  # a helmet
        return replace(
            looks,
            hat=BEANIE,
            brim=float(rng.uniform(-0.25, 0.1)),
            hat_thickness=float(rng.uniform(28, 48)),
        )
    if kind < 0.11:  # a hood or a scarf: a cap that leaves the face free
        return replace(
            looks,
            hat=BEANIE,
            brim=float(rng.uniform(-0.9, -0.3)),
            hat_thickness=float(rng.uniform(10, 30)),
        )
    return looks


def _cover(
    material: np.ndarray,
    rest: np.ndarray,
    albedo: np.ndarray,
    gloss: np.ndarray,
    looks: Looks,
    rng: np.random.Generator,
) -> None:
    """Paint what no part of the mesh is: surgical masks, scarves over hair, hard hats, gloves."""
    if rng.random() < 0.08:  # a mask over mouth and nose
        x, y, z = rest
        edge = rng.uniform(6.85, 7.12)
        worn = (material == Material.SKIN) & (z > 0.55) & (y > 6.1) & (y < edge - 0.25 * np.abs(x))
        colour = linear(
            ((235, 238, 240), (120, 170, 200), (35, 35, 38), rng.uniform(20, 240, 3))[
                int(rng.integers(4))
            ]
        )
        folds = 0.85 + 0.15 * np.cos(y[worn] * rng.uniform(40, 90))
        albedo[:, worn] = np.asarray(colour, np.float32)[:, None] * folds
        gloss[worn] = 0.02
        material[worn] = Material.CLOTH
    if looks.hat == BEANIE and (looks.hat_thickness > 27 or rng.random() < 0.2):
        hard = material == Material.HAT  # a helmet's shell is plain and shines
        colour = linear(rng.uniform(0, 255, 3) if rng.random() < 0.7 else np.full(3, 240.0))
        albedo[:, hard] = np.asarray(colour, np.float32)[:, None]
        if rng.random() < 0.4:
            stripe = hard & (np.abs(rest[0] + rng.uniform(-0.3, 0.3)) < rng.uniform(0.05, 0.2))
            albedo[:, stripe] = np.asarray(linear(rng.uniform(0, 255, 3)), np.float32)[:, None]
        gloss[hard] = rng.uniform(0, 0.6)
    if rng.random() < 0.06:  # a scarf in the place of the hair
        cloth = material == Material.HAIR
        base = np.asarray(linear(rng.uniform(10, 240, 3)), np.float32)
        u, v = rest[0, cloth] * rng.uniform(2, 12), rest[1, cloth] * rng.uniform(2, 12)
        albedo[:, cloth] = base[:, None] * (1 + 0.25 * np.sin(u) * np.cos(v))
        gloss[cloth] = 0.0
        material[cloth] = Material.HAT
    elif rng.random() < 0.05:  # dyed hair
        hair = material == Material.HAIR
        albedo[:, hair] *= (2.0 * sample_tint(rng, 0.5) * rng.uniform(0.4, 1.6))[:, None]
