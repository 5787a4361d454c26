"""One picture of the head model: a person in a pose, under some light, through a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation, Slerp

from ...pose import pose_to_matrix
from ..grid import smoothstep
from ..light import draw_light
from ..photo import Photo
from ..rasterize import Camera, rasterize
from .looks import BEANIE, CURLY, Looks
from .model import HeadMesh, Surface
from .occlusion import facing, sky
from .paint import DOUBLE, Material, Painter
from .shade import draw_lamps, shade, shadows
from .wear import Part, beanie, spectacles, styled

# The head is drawn this much larger than asked for and scaled down, against jagged edges.
SUPERSAMPLING = 1.4
_BENDS = 17  # steps in which the neck turns from the head's rotation to the shoulders'
_LIPS_APART = 4.0  # mm between the middles of the lips, beyond which teeth are seen
_CROWN = np.array((0, -40, -10), np.float32)  # middle of the skull from the pivot, mm
# How much nearer than they are (mm) parts are taken to be, so that what they lie on stays hidden.
_NEARER = {Material.CLOTH: 14.0, Material.HAIR: 2.0, Material.HAT: 12.0, Material.TEETH: -6.0}


@dataclass(frozen=True)
class Sample:
    """What is drawn.

    Attributes:
        identity, expression: (T,) weights of the targets.
        looks: of the person.
        body: (3, 3) float32 rotation of the shoulders.
        gaze: (2,) degrees, see `Painter`.
        camera: with the size of the picture.
    """

    identity: np.ndarray
    expression: np.ndarray
    looks: Looks
    body: np.ndarray
    gaze: np.ndarray
    camera: Camera


@dataclass
class Scene:
    """All parts as one list of triangles; see `synthetic.scene.Mesh`.

    Attributes:
        vertices: (V, 3) float32 mm from the head's pivot.
        nearer: (V,) float32 mm added to z where it is decided what hides what.
        attributes: (V, 10) float32: normal, share of the sky and of the lamp's light that a vertex
            sees, place on the base mesh, place on the part's texture.
        material: (V,) uint8 `Material`.
        triangles: (3, T) vertex numbers, their fronts to the viewer.
    """

    vertices: np.ndarray
    nearer: np.ndarray
    attributes: np.ndarray
    material: np.ndarray
    triangles: np.ndarray


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


def build_scene(head: HeadMesh, sample: Sample, pose: np.ndarray) -> Scene:
    """Everything of a person in a (3,) pose, light's share not yet filled in."""
    base = head.deform(sample.identity + sample.expression)
    pivot, frontal = head.placement(sample.identity)
    turn = pose_to_matrix(np.asarray(pose, np.float32))
    frontal = frontal.astype(np.float32)
    joint = frontal @ (base[head.neck].mean(axis=0) - pivot).astype(np.float32)
    bends = _bends(turn, sample.body)
    looks = sample.looks
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
        parts.append((kind, own[surface.corners], columns, triangles))
        if kind == Material.SKIN and looks.hat == BEANIE:
            parts.append(beanie(surface, own, columns, looks))
    if looks.person.glasses:
        face = (points - pivot) @ frontal.T
        parts += spectacles(looks, face, turn)
    return _joined(parts)


def _joined(parts: list[Part]) -> Scene:
    """Parts (material, vertices, attributes, triangles) as one scene."""
    counts = [len(vertices) for _, vertices, _, _ in parts]
    firsts = np.cumsum([0, *counts[:-1]])
    kinds = [kind for kind, _, _, _ in parts]
    return Scene(
        np.concatenate([vertices for _, vertices, _, _ in parts]),
        np.repeat(np.array([_NEARER.get(k, 0.0) for k in kinds], np.float32), counts),
        np.concatenate([columns for _, _, columns, _ in parts]),
        np.repeat(np.array(kinds, np.uint8), counts),
        np.concatenate([t + first for (_, _, _, t), first in zip(parts, firsts, strict=True)], 1),
    )


def render(
    head: HeadMesh,
    sample: Sample,
    pose: np.ndarray,
    side: int,
    rng: np.random.Generator,
    photo: Photo,
) -> Image.Image:
    """Draw a person.

    Args:
        head: the model.
        sample: who, and how.
        pose: (3,) yaw, pitch, roll of the head in degrees.
        side: of the square picture in pixels.
        rng: draws light, background and what else the pose has no part in.
        photo: makes background and camera.
    """
    light = draw_light(rng)
    light = replace(light, exposure=float(np.clip(light.exposure, 0.6, 1.5)))
    lamps = draw_lamps(rng, light)
    large = round(side * SUPERSAMPLING)
    canvas = photo.background(large, rng)
    scene = build_scene(head, sample, pose)
    scale = large / side
    camera = Camera(
        sample.camera.distance,
        sample.camera.scale * scale,
        (sample.camera.centre[0] * scale, sample.camera.centre[1] * scale),
    )
    projected = camera.project(scene.vertices)
    both = np.isin(scene.material, DOUBLE)[scene.triangles[0]]
    scene.triangles[:, both] = facing(scene.triangles[:, both], projected)
    depth = np.maximum(camera.distance - scene.vertices[:, 2] - scene.nearer, 1.0)
    projected[:, 2] = camera.distance / depth
    scene.attributes[:, 4] = shadows(scene.vertices, scene.triangles, light.direction)
    fragments = rasterize(projected, scene.triangles, large, large)
    attributes = np.ascontiguousarray(fragments.interpolate(scene.attributes).T)
    painter = Painter(sample.looks, sample.gaze)
    material = scene.material[fragments.corners[0]]
    albedo, gloss = painter.paint(material, attributes[3], attributes[5:8], attributes[8:])
    colour = shade(attributes, albedo, gloss, material, light, lamps)
    pixels = np.asarray(canvas).reshape(-1, 3).copy()
    pixels[fragments.pixel] = colour.T.astype(np.uint8)
    picture = Image.fromarray(pixels.reshape(large, large, 3))
    photo.occlude(picture, sample.looks.person.skin, rng)
    return photo.develop(picture, side, rng)
