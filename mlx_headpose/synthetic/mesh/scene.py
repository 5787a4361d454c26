"""A person of the head model as a source of a mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ...pose import pose_to_matrix
from ..environments import Environments
from ..grid import smoothstep
from ..light import Finish, Light, sample_lamps, sample_light
from ..material import Material, Painter
from ..scene import Mesh, Part, Scene, joined
from ..sky import shadows, sky
from .looks import BEANIE, CURLY, Looks
from .model import HeadMesh, Surface
from .paint import PersonPainter
from .wear import beanie, spectacles, styled

_BENDS = 17  # steps in which the neck turns from the head's rotation to the shoulders'
_LIPS_APART = 4.0  # mm between the middles of the lips, beyond which teeth are seen
_CROWN = np.array((0, -40, -10), np.float32)  # middle of the skull from the pivot, mm
# How much nearer than they are (mm) parts are taken to be, so that what they lie on stays hidden.
_NEARER = {Material.CLOTH: 14.0, Material.HAIR: 2.0, Material.HAT: 12.0, Material.TEETH: -6.0}
_FINISH = Finish(
    cosine=1, wrap=0.06, spread=(0.24, 0.12, 0.09), crevice=0.35, glint=0.3, rim=2,
    rim_hidden=True, sheen=0.035, metering=0.8, shoulder=0.65,
)  # fmt: skip


def _parts(head: HeadMesh, looks: Looks, open_mouth: bool) -> list[tuple[Material, Surface]]:
    parts = [(Material.SKIN, head.skin)]
    wanted = [(Material.EYE, "eyes", None), (Material.CLOTH, "clothes", looks.clothes)]
    wanted.append((Material.HAIR, "hair", looks.hair))
    wanted.append((Material.HAT, "clothes", looks.hat))
    if open_mouth:
        wanted.append((Material.TEETH, "teeth", None))
    for material, kind, name in wanted:
        assets = head.assets.get(kind, {})
        if material in (Material.EYE, Material.TEETH):
            name = next(iter(assets), None)
        if name in assets:
            parts.append((material, assets[name]))
    return parts


@lru_cache(maxsize=64)
def _sky(head: HeadMesh, hair: str | None, hat: str | None) -> dict[int, np.ndarray]:
    """Share of the sky of each part's corners, by the part's id, with the average head."""
    surfaces = [head.skin, *head.assets.get("eyes", {}).values()]
    surfaces += [head.assets["hair"][hair]] if hair else []
    surfaces += [head.assets["clothes"][hat]] if hat else []
    vertices, normals, triangles, first = [], [], [], 0
    middle = head.base[head.landmarks].mean(axis=0) + np.array((0, -20, -90))
    for surface in surfaces:
        own = surface.vertices(head.base)
        normals.append(surface.normals_of(own)[surface.corners])
        vertices.append(own[surface.corners] - middle)
        triangles.append(surface.triangles + first)
        first += len(surface.corners)
    seen = sky(np.concatenate(vertices), np.concatenate(normals), np.concatenate(triangles, 1))
    ends = np.cumsum([len(surface.corners) for surface in surfaces])[:-1]
    return {id(s): part for s, part in zip(surfaces, np.split(seen, ends), strict=True)}


def _stays(material: Material, rest: np.ndarray) -> np.ndarray:
    """(V,) 0 where a place follows the head … 1 where it follows the shoulders."""
    if material == Material.SKIN:
        return smoothstep(6.5, 5.75, rest[:, 1] + 0.35 * (rest[:, 2] - 0.35))
    if material == Material.CLOTH:
        return np.maximum(smoothstep(6.5, 5.75, rest[:, 1] + 0.35 * (rest[:, 2] - 0.35)), 0.8)
    if material == Material.HAIR:
        return 0.85 * smoothstep(6.0, 4.9, rest[:, 1])
    return np.zeros(len(rest), np.float32)


def _bends(turn: np.ndarray, body: np.ndarray) -> np.ndarray:
    """(_BENDS, 3, 3) rotations of the neck from the head's `turn` to the shoulders' `body`."""
    between = Slerp((0, 1), Rotation.from_matrix(np.stack((turn, body))))
    return between(np.linspace(0, 1, _BENDS)).as_matrix().astype(np.float32)


def _posed(
    points: np.ndarray, stays: np.ndarray, bends: np.ndarray, joint: np.ndarray
) -> np.ndarray:
    """Points (V, 3) of the head at pose 0, turned with the head, the shoulders or between them."""
    turn = bends[0]
    placed = points @ turn.T
    moving = np.flatnonzero(stays > 0)
    turns = bends[np.rint(stays[moving] * (_BENDS - 1)).astype(np.intp)]
    placed[moving] = np.einsum("vij,vj->vi", turns, points[moving] - joint) + turn @ joint
    return placed


@dataclass(frozen=True)
class MeshScene(Scene):
    """A person of the head model.

    Attributes:
        head: head model.
        identity, expression: (T,) weights of the targets.
        looks: looks of the person.
        pose: (3,) yaw, pitch, roll of the head in degrees.
        body: (3, 3) float32 rotation of the shoulders.
        gaze: (2,) degrees, see `PersonPainter`.
        environments: places whose light every second person is in; None means lamps alone.
    """

    head: HeadMesh
    identity: np.ndarray
    expression: np.ndarray
    looks: Looks
    pose: np.ndarray
    body: np.ndarray
    gaze: np.ndarray
    environments: Environments | None
    finish = _FINISH
    two_sided = (Material.CLOTH, Material.HAIR, Material.HAT)

    @property
    def skin(self) -> np.ndarray:
        return self.looks.person.skin

    def sample_light(self, rng: np.random.Generator) -> Light:
        if self.environments is not None and rng.random() < 0.5:
            light = self.environments.light(rng)
        else:
            light = sample_light(rng)
            light = replace(light, exposure=float(np.clip(light.exposure, 0.6, 1.5)))
        return replace(light, others=sample_lamps(rng, light))

    def painter(self) -> Painter:
        return PersonPainter(self.looks, self.gaze)

    def shadows(self, mesh: Mesh, direction: np.ndarray) -> np.ndarray:
        return shadows(mesh.vertices, mesh.triangles, direction)

    def mesh(self, rng: np.random.Generator | None = None) -> Mesh:
        head, looks = self.head, self.looks
        base = head.deform(self.identity + self.expression)
        pivot, frontal = head.placement(self.identity)
        turn = pose_to_matrix(np.asarray(self.pose, np.float32))
        frontal = frontal.astype(np.float32)
        joint = frontal @ (base[head.neck].mean(axis=0) - pivot).astype(np.float32)
        bends = _bends(turn, self.body)
        baked = _sky(head, looks.hair, None if looks.hat == BEANIE else looks.hat)
        points = base[head.landmarks]
        lips_apart = np.linalg.norm(points[66] - points[62]) > _LIPS_APART
        parts: list[Part] = []
        for kind, surface in _parts(head, looks, bool(lips_apart)):
            own = surface.vertices(base)
            triangles = surface.triangles
            if kind == Material.HAIR:
                own, triangles = styled(surface, own, looks)
            own = (own - pivot.astype(np.float32)) @ frontal.T
            rest = np.empty((len(own), 3), np.float32)
            rest[surface.corners] = surface.rest
            own = _posed(own, _stays(kind, rest), bends, joint)
            columns = np.empty((len(surface.corners), 10), np.float32)
            columns[:, :3] = surface.normals_of(own)[surface.corners]
            columns[:, 3] = baked.get(id(surface), 0.45 if kind == Material.TEETH else 0.9)
            columns[:, 5:8] = surface.rest
            columns[:, 8:] = surface.uv
            if kind == Material.HAIR and str(looks.hair).startswith(CURLY):
                # A mass of curls is round, whatever its cards are.
                columns[:, :3] = own[surface.corners] - turn @ _CROWN
                columns[:, 3] = 0.55 + 0.35 * columns[:, 3]
            parts.append(Part(kind, own[surface.corners], columns, triangles))
            if kind == Material.SKIN and looks.hat == BEANIE:
                parts.append(beanie(surface, own, columns, looks))
        if looks.person.glasses:
            parts += spectacles(looks, (points - pivot) @ frontal.T, turn)
        return joined(parts, _NEARER)
