"""One picture: a person in a pose, under some light, before some background, through a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..pose import pose_to_matrix
from .landmarks import mediapipe_placement
from .light import draw_light, shade, shadows
from .paint import Painter
from .parts import (
    NECK_JOINT,
    Part,
    body,
    brim,
    covered_head,
    ears,
    glasses,
    knot,
    long_hair,
    triangles_of,
)
from .person import Person
from .photo import PLAIN, Photo
from .rasterize import Camera, rasterize
from .shape import PIVOT, head_model, tilt

# The head is drawn this much larger than asked for and scaled down, against jagged edges.
SUPERSAMPLING = 1.4


@dataclass(frozen=True)
class Shot:
    """What changes from picture to picture of one person, but for the head's pose.

    Attributes:
        expression: (E,) weights of `shape.EXPRESSIONS`.
        gaze: (2,) see `paint.Painter`.
        eyes_open: 0 closed … 1 open.
        body: (3,) yaw, pitch, roll of the shoulders.
        distance: from camera to head in mm.
        scale: pixels per mm at the head, for a picture of side 1.
        shift: (2,) place of the head's pivot in a picture of side 1.
    """

    expression: np.ndarray
    gaze: np.ndarray
    eyes_open: float
    body: np.ndarray
    distance: float
    scale: float
    shift: np.ndarray


def draw_shot(
    rng: np.random.Generator,
    expression: np.ndarray,
    distance: float,
    scale: float,
    shift: np.ndarray,
) -> Shot:
    """Draw what is not given, without looking at the pose."""
    eyes_open = rng.uniform(0.62, 1.05)
    if rng.random() < 0.07:
        eyes_open = rng.uniform(0, 0.3)
    return Shot(
        expression=expression,
        gaze=np.clip(rng.normal(0, (2.6, 1.0)), (-6, -2), (6, 2)),
        eyes_open=float(eyes_open),
        body=np.array([rng.uniform(-50, 50), rng.normal(0, 6), rng.normal(0, 9)]),
        distance=distance,
        scale=scale,
        shift=shift,
    )


def _parts(person: Person, shot: Shot, rng: np.random.Generator) -> list[Part]:
    """All surfaces in the template's axes, the head first."""
    model = head_model()
    bald = model.surface(person.shape, shot.expression)
    head = covered_head(person, bald, rng)
    parts = [head, body(person)]
    covered = person.style in ("bob", "long")
    if not covered or person.volume < 11:
        row = int(np.searchsorted(model.elevation[:, 0], 1))
        column = int(np.searchsorted(model.azimuth[0], 96))
        parts += ears(person, bald, (row, column))
    if covered:
        parts.append(long_hair(person, rng))
    if person.style in ("bun", "tail"):
        parts.append(knot(person, rng))
    if person.glasses:
        parts += glasses(person, mediapipe_placement().on(bald))
    if person.hat == "cap":
        parts.append(brim(head.vertices, model, rng))
    return parts


@dataclass
class Mesh:
    """All parts as one list of triangles, in the scene's axes: the head's pivot is the origin.

    Attributes:
        vertices: (V, 3) float32 mm.
        attributes: (V, 11) float32: normal, occlusion, share of the lamp's light, and then the
            parts' `uv` and `extra`.
        material: (V,) uint8 `Material`.
        triangles: (3, T) vertex numbers.
    """

    vertices: np.ndarray
    attributes: np.ndarray
    material: np.ndarray
    triangles: np.ndarray


def _assemble(parts: list[Part], turn: np.ndarray, shoulders: np.ndarray) -> Mesh:
    vertices, attributes, material, triangles = [], [], [], []
    offset = 0
    joint = (NECK_JOINT - PIVOT).astype(np.float32)
    for part in parts:
        points = part.vertices.reshape(-1, 3) - PIVOT.astype(np.float32)
        normals = part.normals.reshape(-1, 3)
        placed, turned = points @ turn.T, normals @ turn.T
        if part.stays is not None:
            stays = part.stays.reshape(-1, 1)
            placed += stays * ((points - joint) @ shoulders.T + turn @ joint - placed)
            turned += stays * (normals @ shoulders.T - turned)
        count = len(points)
        columns = np.zeros((count, 11), np.float32)
        columns[:, 3] = part.occlusion.ravel()
        columns[:, 5:7] = part.uv.reshape(-1, 2)
        if part.extra is not None:
            columns[:, 7:] = part.extra.reshape(-1, 4)
        columns[:, :3] = turned
        faces = triangles_of(part)
        for back in (False, True) if part.double else (False,):
            if back:
                columns = columns.copy()
                columns[:, :3] *= -1
                columns[:, 3] *= 0.6
                faces = faces[::-1]
            vertices.append(placed)
            attributes.append(columns)
            material.append(np.full(count, part.material, np.uint8))
            triangles.append(faces + offset)
            offset += count
    return Mesh(
        np.concatenate(vertices),
        np.concatenate(attributes),
        np.concatenate(material),
        np.concatenate(triangles, axis=1),
    )


def build_mesh(person: Person, shot: Shot, pose: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A person with hair, shoulders and what they wear, in a (3,) pose; `rng` shapes the hair."""
    turn, shoulders = pose_to_matrix(np.stack((pose, shot.body)).astype(np.float32))
    return _assemble(_parts(person, shot, rng), turn @ tilt(), shoulders)


def camera(shot: Shot, side: float) -> Camera:
    """The shot's camera for a picture of `side` pixels."""
    return Camera(
        shot.distance, shot.scale * side, (float(shot.shift[0] * side), float(shot.shift[1] * side))
    )


def render(
    person: Person,
    shot: Shot,
    pose: np.ndarray,
    side: int,
    rng: np.random.Generator,
    photo: Photo = PLAIN,
) -> Image.Image:
    """Draw a person.

    Args:
        person, shot: who, and how.
        pose: (3,) yaw, pitch, roll of the head in degrees.
        side: of the square picture in pixels.
        rng: draws light, background and what else the pose has no part in.
        photo: makes background and camera.
    """
    light = draw_light(rng)
    large = round(side * SUPERSAMPLING)
    canvas = photo.background(large, rng)
    mesh = build_mesh(person, shot, pose, rng)
    mesh.attributes[:, 4] = shadows(mesh.vertices, light.direction)
    fragments = rasterize(camera(shot, large).project(mesh.vertices), mesh.triangles, large, large)
    attributes = np.ascontiguousarray(fragments.interpolate(mesh.attributes).T)
    painter = Painter(person, shot.expression, shot.gaze, shot.eyes_open)
    albedo, gloss = painter.paint(
        mesh.material[fragments.corners[0]], attributes[5:7], attributes[7:]
    )
    colour = shade(attributes, albedo, gloss, light)
    pixels = np.asarray(canvas).reshape(-1, 3).copy()
    pixels[fragments.pixel] = colour.T.astype(np.uint8)
    picture = Image.fromarray(pixels.reshape(large, large, 3))
    photo.occlude(picture, person.skin, rng)
    return photo.develop(picture, side, rng)
