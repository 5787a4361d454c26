"""One picture: a person in a pose, under some light, before some background, through a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ...pose import pose_to_matrix
from ..rasterize import Camera, rasterize
from .landmarks import mediapipe_placement
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
from .shape import PIVOT, head_model

# The head is drawn this much larger than asked for and scaled down, against jagged edges.
SUPERSAMPLING = 1.5


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


@dataclass(frozen=True)
class Light:
    """A lamp or sun, and light from all around that changes from above to below.

    Attributes:
        direction: (3,) towards the lamp.
        lamp, above, below: (3,) colours.
        rim: (3,) colour of a light from behind.
        exposure: multiplies everything.
    """

    direction: np.ndarray
    lamp: np.ndarray
    above: np.ndarray
    below: np.ndarray
    rim: np.ndarray
    exposure: float


def _tint(rng: np.random.Generator, strength: float) -> np.ndarray:
    warm = rng.normal(0, strength)
    green = rng.normal(0, strength / 3)
    return np.exp(np.array([warm, green, -warm])).astype(np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw one, anywhere in front of or above the head."""
    azimuth, elevation = np.radians(rng.uniform(-110, 110)), np.radians(rng.uniform(-15, 75))
    direction = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            -np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    ambient = rng.uniform(0.12, 0.7)
    rim = rng.uniform(0, 0.5) if rng.random() < 0.35 else 0.0
    return Light(
        direction.astype(np.float32),
        (1 - 0.6 * ambient) * 1.3 * _tint(rng, 0.09),
        ambient * _tint(rng, 0.09),
        ambient * rng.uniform(0.3, 0.9) * _tint(rng, 0.08),
        rim * _tint(rng, 0.1),
        float(np.exp(rng.normal(0.15, 0.3))),
    )


def _parts(person: Person, shot: Shot, rng: np.random.Generator) -> tuple[list[Part], np.ndarray]:
    """All surfaces in the template's axes, the head first, and the bald head."""
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
    return parts, bald


@dataclass
class _Mesh:
    """All parts as one list of triangles, placed in the scene."""

    vertices: np.ndarray
    attributes: np.ndarray
    material: np.ndarray
    triangles: np.ndarray


def _assemble(parts: list[Part], turn: np.ndarray, shoulders: np.ndarray) -> _Mesh:
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
    return _Mesh(
        np.concatenate(vertices),
        np.concatenate(attributes),
        np.concatenate(material),
        np.concatenate(triangles, axis=1),
    )


def _shadows(vertices: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(V,) share of the lamp that reaches each vertex: seen from the lamp, is another before it?"""
    across = np.cross(direction, np.array([0.0, 1.0, 0.1]))
    across /= np.linalg.norm(across)
    up = np.cross(direction, across)
    axes = np.stack((across, up, direction), -1).astype(np.float32)
    seen = vertices @ axes
    cells = 48
    place = np.clip((seen[:, :2] + 150) * (cells / 300), 0, cells - 1).astype(np.intp)
    cell = place[:, 0] * cells + place[:, 1]
    nearest = np.full(cells * cells, -1e9, np.float32)
    np.maximum.at(nearest, cell, seen[:, 2])
    reached = 1 - np.clip((nearest[cell] - seen[:, 2] - 14) / 12, 0, 1)
    # The head's vertices, which come first, form a grid: soften the shadows' edges over it.
    head = reached[: head_model().occlusion.size].reshape(head_model().occlusion.shape)
    for _ in range(2):
        head[1:-1] = 0.5 * head[1:-1] + 0.25 * (head[2:] + head[:-2])
        head[:, 1:-1] = 0.5 * head[:, 1:-1] + 0.25 * (head[:, 2:] + head[:, :-2])
    return reached


def _shade(mesh_attributes, albedo, gloss, light: Light) -> np.ndarray:
    """(P, 3) float32 colours 0..255 of fragments."""
    normal = mesh_attributes[:, :3]
    normal /= np.sqrt(np.einsum("pk,pk->p", normal, normal))[:, None] + 1e-6
    occlusion, reached = mesh_attributes[:, 3], mesh_attributes[:, 4]
    facing = normal @ light.direction
    lamp = np.clip(facing * 0.9 + 0.1, 0, None) * reached * (0.4 + 0.6 * occlusion)
    sky = 0.5 - 0.5 * normal[:, 1]
    colour = lamp[:, None] * light.lamp
    colour += (sky * occlusion)[:, None] * light.above
    colour += ((1 - sky) * occlusion)[:, None] * light.below
    if light.rim.any():
        edge = np.clip(1 - normal[:, 2], 0, 1)
        colour += (edge * edge * edge)[:, None] * light.rim
    colour *= albedo
    half = light.direction + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half) + 1e-6
    shine = np.clip(normal @ half, 0, 1)
    shine = shine**2
    shine = shine**4
    shine = shine**2
    colour += (shine * reached * gloss)[:, None] * light.lamp
    colour *= light.exposure
    np.sqrt(colour, out=colour)
    # A soft shoulder instead of burnt-out highlights.
    np.minimum(colour, 0.7 + 0.3 * colour, out=colour)
    np.clip(colour, 0, 1, out=colour)
    return colour * np.float32(255)


def _natural(rng: np.random.Generator) -> np.ndarray:
    """A colour 0..255 as backgrounds have it: mostly greyish, at times green, blue or vivid."""
    colour = rng.uniform(0, 255) * np.ones(3)
    if rng.random() < 0.25:
        colour = np.array([[70, 100, 45], [120, 150, 190], [150, 115, 85]])[rng.integers(0, 3)]
        colour = colour * rng.uniform(0.4, 1.6)
    return colour + rng.choice((8, 25, 70), p=(0.5, 0.35, 0.15)) * rng.normal(0, 0.6, 3)


def _background(side: int, rng: np.random.Generator) -> Image.Image:
    """Something behind the head: blurred colours, edges, shapes; never flat."""
    base = _natural(rng)
    spread, chroma = rng.uniform(8, 70), rng.uniform(0, 0.5)
    cells = int(rng.choice((2, 3, 4, 6, 10)))
    light = rng.normal(0, spread, (cells, cells, 1))
    colours = base + light + chroma * rng.normal(0, spread, (cells, cells, 3))
    small = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    smooth = Image.Resampling.BICUBIC if rng.random() < 0.85 else Image.Resampling.NEAREST
    canvas = small.resize((96, 96), smooth)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 9))):
        x, y = rng.uniform(-20, 116, 2)
        w, h = rng.uniform(3, 60, 2)
        other = base + rng.normal(0, 50) if rng.random() < 0.7 else _natural(rng)
        colour = tuple(int(v) for v in np.clip(other, 0, 255))
        kind = rng.integers(0, 3)
        if kind == 0:
            draw.rectangle((x, y, x + w, y + h), fill=colour)
        elif kind == 1:
            draw.ellipse((x, y, x + w, y + w), fill=colour)
        else:
            draw.line((x, y, *rng.uniform(-20, 116, 2)), fill=colour, width=int(rng.integers(1, 9)))
    if rng.random() < 0.35:
        texture = rng.normal(0, rng.uniform(4, 26), (96, 96, 1))
        canvas = Image.fromarray(np.clip(np.asarray(canvas) + texture, 0, 255).astype(np.uint8))
    if rng.random() < 0.7:
        canvas = canvas.filter(ImageFilter.BoxBlur(float(rng.uniform(0.5, 5))))
    return canvas.resize((side, side), Image.Resampling.BILINEAR)


def _occlude(picture: Image.Image, person: Person, rng: np.random.Generator) -> None:
    """At times something lies before the head: a hand's worth of skin, or a thing."""
    if rng.random() > 0.08:
        return
    side = picture.width
    draw = ImageDraw.Draw(picture)
    skin = rng.random() < 0.5
    colour = np.sqrt(person.skin) * 230 if skin else rng.uniform(0, 255, 3)
    fill = tuple(int(v) for v in np.clip(colour, 0, 255))
    x, y = rng.uniform(0.1, 0.9, 2) * side
    angle = rng.uniform(0, np.pi)
    for finger in range(4 if skin else 1):
        length = rng.uniform(0.12, 0.3) * side
        width = max(2, int(side * (0.045 if skin else rng.uniform(0.03, 0.15))))
        px = x + finger * width * np.sin(angle) * 1.1
        py = y - finger * width * np.cos(angle) * 1.1
        draw.line(
            (px, py, px + length * np.cos(angle), py + length * np.sin(angle)),
            fill=fill,
            width=width,
        )


def _develop(picture: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """What lens, sensor and file do: blur, low resolution, contrast, colour, noise."""
    if rng.random() < 0.25:
        low = int(side * rng.uniform(0.3, 0.75))
        picture = picture.resize((low, low), Image.Resampling.BOX)
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    else:
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.BoxBlur(float(rng.uniform(0.2, 1.0) * side / 128)))
    pixels = np.asarray(picture).astype(np.float32)
    grey = np.array([0.3, 0.59, 0.11])
    saturation = rng.uniform(0.5, 1.15) if rng.random() > 0.16 else 0.0
    tint = _tint(rng, 0.06) if saturation or rng.random() < 0.3 else np.ones(3)
    contrast = np.exp(rng.normal(0.05, 0.2))
    # Saturation, tint and contrast in one step.
    mixing = np.tile(grey[:, None] * (1 - saturation), 3) + saturation * np.eye(3)
    mixing *= tint * contrast
    pixels = pixels.reshape(-1, 3) @ mixing.astype(np.float32)
    pixels += np.float32(110 * (1 - contrast) + rng.normal(0, 12))
    noise = rng.standard_normal(pixels.shape, np.float32)
    noise *= np.float32(abs(rng.normal(0, 5)))
    pixels += noise
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8).reshape(side, side, 3))


def camera(shot: Shot, side: float) -> Camera:
    """The shot's camera for a picture of `side` pixels."""
    return Camera(
        shot.distance, shot.scale * side, (float(shot.shift[0] * side), float(shot.shift[1] * side))
    )


def render(
    person: Person, shot: Shot, pose: np.ndarray, side: int, rng: np.random.Generator
) -> Image.Image:
    """Draw a person.

    Args:
        person, shot: who, and how.
        pose: (3,) yaw, pitch, roll of the head in degrees.
        side: of the square picture in pixels.
        rng: draws light, background and what else the pose has no part in.
    """
    light = draw_light(rng)
    large = round(side * SUPERSAMPLING)
    canvas = _background(large, rng)
    parts, _ = _parts(person, shot, rng)
    mesh = _assemble(
        parts, pose_to_matrix(pose.astype(np.float32)), pose_to_matrix(shot.body.astype(np.float32))
    )
    mesh.attributes[:, 4] = _shadows(mesh.vertices, light.direction)
    fragments = rasterize(camera(shot, large).project(mesh.vertices), mesh.triangles, large, large)
    attributes = fragments.interpolate(mesh.attributes)
    painter = Painter(person, shot.expression, shot.gaze, shot.eyes_open)
    columns = np.ascontiguousarray(attributes[:, 5:].T)
    albedo, gloss = painter.paint(mesh.material[fragments.corners[0]], columns[:2], columns[2:])
    colour = _shade(attributes, albedo, gloss, light)
    pixels = np.asarray(canvas).reshape(-1, 3).copy()
    pixels[fragments.pixel] = colour.astype(np.uint8)
    picture = Image.fromarray(pixels.reshape(large, large, 3))
    _occlude(picture, person, rng)
    return _develop(picture, side, rng)
