"""Heads with neck and shoulders as sprites: people of the head model, from every side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...pose import matrix_to_pose, pose_to_matrix
from ..light import Light, draw_light, draw_tint
from ..mesh import MeshPeople
from ..mesh.looks import BEANIE, Looks
from ..mesh.occlusion import facing
from ..mesh.paint import DOUBLE, Material, Painter
from ..mesh.people import draw_body
from ..mesh.scene import Sample, Scene, build_scene
from ..mesh.shade import Lamps, draw_lamps, shade, shadows
from ..person import linear
from ..rasterize import Camera, rasterize
from .environments import Environments
from .sprites import Sprite, cut_out, extremes

SIDE = 224  # of most sprites in pixels
FIELD = 560.0  # mm that a sprite is wide
LARGE = 0.25  # share of the sprites that have twice the side
SUPERSAMPLING = 1.4
_PIVOT = (0.5, 0.42)  # where the head's pivot lies in a sprite
_CHIN = (6.19, 1.44)  # height and depth of the chin on the base mesh, dm
_NAPE = 0.36  # dm that the head's lower edge rises for each dm backwards
_HAIR_LOW = 6.1  # dm: hair that hangs lower is no part of the head's box
HEADLESS = 0.04  # share of the sprites that show shoulders without a head


class PeopleSprites:
    """Sprites of people, each from its number alone.

    Args:
        mesh: file of the head model.
        environments: light of real places, or None.
        seed: of everything.
        count: how many there are.
    """

    def __init__(
        self, mesh: Path, environments: Environments | None, seed: tuple[int, ...], count: int
    ):
        limits = np.array(((-180, 180), (-50, 50), (-30, 30)), float)
        self.people = MeshPeople(mesh, seed, count, limits)
        self.environments = environments
        self.seed = seed
        self.count = count

    def __len__(self) -> int:
        return self.count

    def draw(self, number: int) -> Sprite:
        """Sprite `number`."""
        rng = np.random.default_rng((*self.seed, 21, number))
        side = SIDE * (2 if rng.random() < LARGE else 1)
        pose, sample = self._sample(number, side, rng)
        light = self._light(rng)
        lamps = draw_lamps(rng, light)
        scene = build_scene(self.people.head, sample, pose)
        if rng.random() < HEADLESS:
            corners = _on_head(scene.material, scene.attributes[:, 5:8].T)
            scene.triangles = scene.triangles[:, ~corners[scene.triangles].any(axis=0)]
        return self._render(sample, scene, pose, side, light, lamps, rng)

    def _sample(
        self, number: int, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Sample]:
        """The (3,) pose of a head as its camera sees it, and what to draw."""
        upright = np.array(
            (self.people.poses[number, 0], rng.normal(0, 14), rng.normal(0, 9)), np.float32
        )
        upright[1:] = np.clip(upright[1:], -45, 45)
        body = draw_body(rng, upright)
        elevation = float(np.clip(rng.normal(8, 16), -30, 65))  # the camera looks down
        camera = pose_to_matrix(np.array((0, -elevation, 0), np.float32))
        turn = camera @ pose_to_matrix(upright)
        pose = np.asarray(matrix_to_pose(turn[None], full_yaw=True))[0]
        identity, expression = self.people.weights(np.array([number]))
        sample = Sample(
            identity[0],
            expression[0],
            _dressed(self.people.looks(number), rng),
            (camera @ body).astype(np.float32),
            np.clip(rng.normal(0, (11, 6)), (-32, -16), (32, 16)),
            Camera(
                float(np.exp(rng.uniform(np.log(600), np.log(6000)))),
                side / FIELD,
                (_PIVOT[0] * side, _PIVOT[1] * side),
            ),
        )
        return pose.astype(np.float32), sample

    def _light(self, rng: np.random.Generator) -> Light:
        if self.environments is not None and rng.random() < 0.5:
            return self.environments.light(rng)
        light = draw_light(rng)
        return replace(light, exposure=float(np.clip(light.exposure, 0.6, 1.5)))

    def _render(
        self,
        sample: Sample,
        scene: Scene,
        pose: np.ndarray,
        side: int,
        light: Light,
        lamps: Lamps,
        rng: np.random.Generator,
    ) -> Sprite:
        large = round(side * SUPERSAMPLING)
        scale = large / side
        place = sample.camera.centre
        camera = Camera(
            sample.camera.distance,
            sample.camera.scale * scale,
            (place[0] * scale, place[1] * scale),
        )
        projected = camera.project(scene.vertices)
        both = np.isin(scene.material, DOUBLE)[scene.triangles[0]]
        scene.triangles[:, both] = facing(scene.triangles[:, both], projected)
        depth = np.maximum(camera.distance - scene.vertices[:, 2] - scene.nearer, 1.0)
        projected[:, 2] = camera.distance / depth
        scene.attributes[:, 4] = shadows(scene.vertices, scene.triangles, light.direction)
        fragments = rasterize(projected, scene.triangles, large, large)
        attributes = np.ascontiguousarray(fragments.interpolate(scene.attributes).T)
        material = scene.material[fragments.corners[0]]
        rest = attributes[5:8]
        painter = Painter(sample.looks, sample.gaze)
        albedo, gloss = painter.paint(material, attributes[3], rest, attributes[8:])
        _cover(material, rest, albedo, gloss, sample.looks, rng)
        colour = shade(attributes, albedo, gloss, material, light, lamps)
        pixels = np.zeros((large * large, 3), np.uint8)
        pixels[fragments.pixel] = colour.T.astype(np.uint8)
        opaque = np.zeros(large * large, bool)
        opaque[fragments.pixel] = True
        cut = cut_out(pixels.reshape(large, large, 3), opaque.reshape(large, large), (side, side))
        sprite = Sprite(cut, *self._truth(sample, pose))
        head = fragments.pixel[_on_head(material, rest)]
        if len(head) < 20:  # a headless one
            sprite.outline[:], sprite.landmarks[:], sprite.pose[:] = np.nan, np.nan, np.nan
            return sprite
        # Pixels ascend row by row, so a row's first and last ones bound it.
        row, column = np.divmod(head, large)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        last = np.append(first[1:], len(row)) - 1
        left = np.stack((column[first], row[first]), -1)
        right = np.stack((column[last] + 1, row[last]), -1)
        below = np.array((0, 1))
        corners = np.concatenate((left, left + below, right, right + below))
        sprite.outline[:] = extremes(corners) / np.float32(scale)
        return sprite

    def _truth(self, sample: Sample, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An outline to be filled in, the landmarks in the picture, and the pose."""
        head = self.people.head
        points = head.landmarks_of(sample.identity, sample.expression)
        turned = points @ np.asarray(pose_to_matrix(pose)).T
        flat = sample.camera.project(turned)[:, :2]
        return np.zeros((32, 2), np.float32), flat.astype(np.float32), pose.copy()


def make_people(
    mesh: Path, environments: Path | None, seed: tuple[int, ...], count: int
) -> PeopleSprites:
    """People's sprites, in the light of a folder of panoramas if there is one."""
    light = None if environments is None else Environments(environments)
    return PeopleSprites(mesh, light, seed, count)


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
        albedo[:, hair] *= (2.0 * draw_tint(rng, 0.5) * rng.uniform(0.4, 1.6))[:, None]
