"""What surrounds the face, each part a grid: hair, ears, neck and shoulders, glasses, hats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..grid import grid_normals, grid_triangles, smooth_noise, smoothstep
from ..light import towards
from ..material import Material
from ..person import Person
from ..scene import Part
from .shape import CENTRE, EYE_X, HeadModel, head_model

PLACES = 6  # attributes that `paint.py` reads, after the normal, the sky and the lamp
LIGHT = 5


@dataclass
class GridPart(Part):
    """A part that is a grid of vertices, in the template's axes.

    Its places are two numbers whose units depend on the material and, of the head, x and y on the
    template and the degrees inside hair and inside hat.

    Attributes:
        stays: (V,) 0 where a vertex follows the head … 1 where it follows the body, or None.
    """

    stays: np.ndarray | None = None


def _part(material, vertices, closed, *places, sky=None, stays=None) -> GridPart:
    """A part of a grid (R, C, 3) of vertices and of (R, C) places."""
    shape = vertices.shape[:2]
    vertices = np.ascontiguousarray(vertices, np.float32)
    attributes = np.zeros((*shape, LIGHT + PLACES), np.float32)
    attributes[..., :3] = grid_normals(vertices, closed)
    attributes[..., 3] = 1 if sky is None else sky
    for column, values in enumerate(places, start=LIGHT):
        attributes[..., column] = values
    return GridPart(
        material,
        vertices.reshape(-1, 3),
        attributes.reshape(-1, LIGHT + PLACES),
        grid_triangles(*shape),
        None if stays is None else np.broadcast_to(stays, shape).astype(np.float32).reshape(-1, 1),
    )


def both_sides(part: GridPart, sky: float = 1.0) -> list[GridPart]:
    """A part and its back, which sees a share of the sky of the front's."""
    attributes = part.attributes.copy()
    attributes[:, :3] *= -1
    attributes[:, 3] *= sky
    return [part, replace(part, attributes=attributes, triangles=part.triangles[::-1])]


# The hairline: elevation of the lowest hair by azimuth, for short hair.
_HAIRLINE = PchipInterpolator(
    (0, 25, 45, 56, 66, 74, 80, 88, 94, 102, 112, 120, 135, 180),
    (-44, -45, -41, -30, -14, -4, 8, 8, -8, -12, -4, 28, 44, 46),
)


def hairline(person: Person, azimuth: np.ndarray) -> np.ndarray:
    """Elevation in degrees above which (smaller values) hair grows, by azimuth in degrees."""
    away = np.abs(azimuth)
    line = _HAIRLINE(away)
    front = smoothstep(66, 40, away)
    if person.style in ("receding", "crown"):
        line = line - 16 * smoothstep(8, 25, away) * smoothstep(62, 40, away)
        line = line - (30 * smoothstep(70, 40, away) if person.style == "crown" else 0)
    else:
        line = line + person.fringe * front * (1 + person.sweep * azimuth / 45)
    if person.style in ("bob", "long"):
        # Locks cover the temples and the ears.
        covered = smoothstep(person.opening - 4, person.opening + 6, away)
        line = line + covered * np.maximum(42 - line, 0)
    if person.style == "bald":
        line = np.full_like(line, -200)
    return line


def hair_cover(person: Person, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """How many degrees inside the hair a place lies; negative on bare skin."""
    inside = hairline(person, azimuth) - elevation
    if person.style == "crown":
        top = np.abs(elevation + 75) - 32
        inside = np.minimum(inside, top)
    return inside


def hat_cover(person: Person, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """How many degrees inside the hat a place lies."""
    away = np.abs(azimuth)
    if person.hat == "beanie":
        edge = -28 + 30 * smoothstep(30, 150, away)
    elif person.hat == "cap":
        edge = -31 + 22 * smoothstep(30, 150, away)
    else:
        edge = -33 + 50 * smoothstep(20, 140, away)
    return edge - elevation


@lru_cache(maxsize=1)
def _waves() -> np.ndarray:
    """(12, R, C) slow waves around the head, for lumpy hair."""
    model = head_model()
    phases = [(k + 2) * model.azimuth + 3 * (-1) ** k * model.elevation for k in range(6)]
    angle = np.radians(np.stack(phases))
    return np.concatenate((np.sin(angle), np.cos(angle))).astype(np.float32) * np.float32(0.7)


def covered_head(person: Person, bald: np.ndarray, rng: np.random.Generator) -> GridPart:
    """The head (R, C, 3) with the thickness of hair and hat on it."""
    model = head_model()
    # A column of the grid has one azimuth.
    azimuth = model.azimuth[:1]
    hair = hair_cover(person, azimuth, model.elevation).astype(np.float32)
    hat = np.full_like(hair, -1)
    if person.hat:
        hat = hat_cover(person, azimuth, model.elevation).astype(np.float32)
    thickness = _thickness(person, hair, hat, rng)
    outward = bald - CENTRE.astype(np.float32)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    surface = bald + thickness[..., None].astype(np.float32) * outward
    x, y = np.moveaxis(model.place, -1, 0)
    places = (model.azimuth, model.elevation, x, y, hair, hat)
    return _part(Material.SKIN, surface, True, *places, sky=model.sky)


def _thickness(
    person: Person, inside: np.ndarray, covered: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(R, C) mm of hair and hat, from the degrees inside either."""
    model = head_model()
    azimuth, elevation = model.azimuth, model.elevation
    ramp = 14.0 if person.style != "curls" else 20.0
    thickness = person.volume * np.sqrt(np.clip(inside / ramp, 0, 1))
    # Fuller on top, flatter at the sides, a dent at the parting.
    level = elevation[:, :1]
    thickness *= 1 + 0.5 * smoothstep(-30, -75, level) - 0.25 * smoothstep(0, 40, level)
    if person.style in ("short", "bob", "long"):
        around = azimuth[:1]
        parting = np.exp(-(((around - person.parting) / 9) ** 2)) * (np.abs(around) < 90)
        thickness *= 1 - 0.5 * parting * smoothstep(-30, -50, level)
    lumps = np.einsum("k,krc->rc", rng.normal(0, 1, 12).astype(np.float32), _waves())
    thickness *= 1 + (0.12 if person.style == "curls" else 0.06) * lumps
    if person.tousled:
        tufts = smooth_noise(azimuth * 1.3 + 100 * person.parting, elevation * 0.7)
        thickness *= 1 + person.tousled * tufts
    if person.hat:
        rim = 5.0 if person.hat == "beanie" else 2.0
        height = 6 + 16 * smoothstep(0, 60, covered) * (person.hat != "scarf")
        hat = height + rim * (covered < 12)
        thickness = np.where(covered > 0, np.maximum(0.5 * thickness, 0) + hat, thickness)
    return thickness


@lru_cache(maxsize=1)
def _ear_template() -> tuple[np.ndarray, np.ndarray]:
    """Back, down and outward coordinates (rings, angles) of an ear, in mm, and its sky."""
    radius = np.array([0, 0.2, 0.4, 0.55, 0.68, 0.8, 0.9, 1.0, 0.97, 0.6])[:, None]
    angle = np.linspace(np.pi, -np.pi, 25)[None]
    back, down = radius * np.cos(angle), radius * np.sin(angle)
    height = 1.5 - 3.5 * np.exp(-(((back + 0.15) / 0.45) ** 2 + ((down - 0.1) / 0.35) ** 2))
    height = height + 3.0 * np.exp(-(((radius - 0.86) / 0.1) ** 2)) * (down < 0.55)
    height = height + 1.2 * np.exp(-(((radius - 0.55) / 0.1) ** 2)) * (back > 0)
    height = height + 3 * np.exp(-(((back + 0.62) / 0.15) ** 2 + ((down - 0.15) / 0.2) ** 2))
    height[-2:] = np.array([[-3.0], [-12.0]])
    sky = np.clip(0.72 + 0.09 * height, 0.4, 1)
    # Wider above than below, and leaning back.
    width = 17.5 - 4.0 * down + 1.5 * np.abs(down)
    x, y = back * width, down * 31.0
    lean = np.radians(14)
    x, y = x * np.cos(lean) - y * np.sin(lean), x * np.sin(lean) + y * np.cos(lean)
    return np.stack((x, y, height), -1), sky


def ears(person: Person, surface: np.ndarray, anchor: tuple[int, int]) -> list[GridPart]:
    """Both ears; `anchor` is the grid's row and (right side's) column in front of the ear."""
    local, sky = _ear_template()
    local = local * person.ear_size
    flare = np.radians(person.ear_flare)
    row, column = anchor
    root = surface[row, column] + np.array([0.0, 2.0, 2.0])
    back = np.array([np.sin(flare), 0, -np.cos(flare)])
    outward = np.array([np.cos(flare), 0, np.sin(flare)])
    centre = root + 15 * person.ear_size * back - 1.0 * outward
    points = centre + local[..., :1] * back + local[..., 2:] * outward
    points[..., 1] += local[..., 1]
    parts = []
    for side in (1, -1):
        mirrored = points * (side, 1, 1)
        if side < 0:
            shift = surface[row, surface.shape[1] - 1 - column, 0] + surface[row, column, 0]
            mirrored[..., 0] += shift
            mirrored = mirrored[:, ::-1]
        seen = sky if side > 0 else sky[:, ::-1]
        parts.append(_part(Material.EAR, mirrored, True, sky=seen))
    return parts


# Neck and shoulders: height, half width, front, back; the neck leans forward as it rises.
_BODY = np.array(
    [
        (40, 42, 18, -62), (85, 48, 34, -66), (118, 50, 34, -70), (145, 53, 34, -76),
        (163, 61, 38, -84), (178, 84, 44, -92), (194, 124, 54, -98), (212, 166, 68, -103),
        (238, 196, 86, -108), (320, 212, 100, -112), (460, 205, 100, -112),
    ]
)  # fmt: skip
NECK_JOINT = np.array([0.0, 120.0, -18.0])


def body(person: Person) -> GridPart:
    """Neck, shoulders and chest, as the head's axes see them when the head looks ahead."""
    azimuth = np.radians(np.linspace(-180, 180, 41))
    y, width, front, back = (column[:, None] for column in _BODY.T)
    neck = smoothstep(175, 140, y)
    width = width * (neck * person.neck + (1 - neck) * person.shoulders)
    middle, depth = (front + back) / 2, (front - back) / 2
    sine, cosine = np.sin(azimuth), np.cos(azimuth)
    x = width * np.sign(sine) * np.abs(sine) ** 0.9
    z = middle + depth * np.sign(cosine) * np.abs(cosine) ** 0.9
    # Shoulders slope: the sides of the upper rings lie lower.
    fall = 30 * (1 - neck) * smoothstep(320, 172, y) * np.abs(x / width) ** 1.5
    height = (
        y + fall + 14 * smoothstep(150, 172, y) * smoothstep(320, 172, y) * np.maximum(cosine, 0)
    )
    vertices = np.stack((x, height, z), -1)
    sky = 0.45 + 0.55 * smoothstep(112, 165, y)
    stays = smoothstep(88, 150, y)
    return _part(Material.NECK, vertices, True, np.degrees(azimuth), y, sky=sky, stays=stays)


def long_hair(person: Person, rng: np.random.Generator) -> GridPart:
    """The curtain of hair that hangs beside and behind the face."""
    start = person.opening + 6
    azimuth = np.linspace(start, 360 - start, 61)[None]
    t = np.linspace(0, 1, 22)[:, None]
    y = -50 + t * (person.length + 50)
    volume = person.volume
    width = 77 + 0.8 * volume + 6 * smoothstep(-20, 60, y) - 16 * smoothstep(70, 130, y)
    width = width + 26 * smoothstep(135, 200, y)
    back = 97 + 0.8 * volume - 28 * smoothstep(40, 120, y) + 22 * smoothstep(140, 200, y)
    front = 88 - 12 * smoothstep(0, 100, y)
    a = np.radians(azimuth)
    wave = rng.normal(0, 1.6, 5)
    ripple = sum(
        wave[k] * np.sin((k + 3) * a + (2 + k) * 2.2 * t + 9 * wave[k]) for k in range(5)
    ) * smoothstep(0, 0.4, t)
    x = np.sin(a) * (width + ripple)
    z = -6 + np.cos(a) * np.where(np.cos(a) > 0, front, back + ripple)
    # The ends are uneven.
    jag = 1 + 0.05 * np.sin(7 * a + 5 * wave[0]) * t
    vertices = np.stack((x, y * jag, z), -1)
    sky = 1 - 0.35 * smoothstep(40, 150, y)
    stays = 0.75 * smoothstep(90, 190, y)
    return _part(Material.HAIR, vertices, False, azimuth, y, sky=sky, stays=stays)


def _ball(centre, radii, rows=12, columns=21) -> np.ndarray:
    """(rows, columns, 3) vertices of an ellipsoid."""
    elevation = np.radians(np.linspace(-90, 90, rows))[:, None]
    azimuth = np.radians(np.linspace(-180, 180, columns))[None]
    unit = towards(azimuth, -elevation)
    return np.asarray(centre) + unit * np.asarray(radii)


def knot(person: Person, rng: np.random.Generator) -> GridPart:
    """A bun or a ponytail."""
    if person.style == "bun":
        size = rng.uniform(22, 38)
        place = (rng.normal(0, 5), rng.uniform(-110, -20), rng.uniform(-110, -85))
        vertices = _ball(place, (size * 1.1, size, size * 0.9))
    else:
        length = rng.uniform(50, 90)
        top = rng.uniform(-75, -10)
        vertices = _ball((rng.normal(0, 6), top + length * 0.75, -112), (26, length, 24))
    elevation, azimuth = np.meshgrid(
        np.linspace(-90, 90, 12), np.linspace(-180, 180, 21), indexing="ij"
    )
    return _part(Material.HAIR, vertices, True, azimuth, elevation)


def glasses(person: Person, points: np.ndarray) -> list[GridPart]:
    """Rims, lenses, bridge and temples; `points` are the (468, 3) landmarks."""
    assert person.glasses is not None
    half_width, half_height, thickness, power = person.glasses
    eye_x = float(np.abs(points[33, 0] - points[133, 0]) / 2 + np.abs(points[133, 0]))
    eye_y = float(points[[33, 133], 1].mean()) + 2
    plane = float(max(points[168, 2], points[6, 2] - 3, points[105, 2] - 4)) + 2
    centre_x = max(eye_x, EYE_X) + 1.0
    half_width = min(half_width, centre_x - 6)
    angle = np.linspace(np.pi, -np.pi, 33)
    cosine, sine = np.cos(angle), np.sin(angle)
    round_ = (np.abs(cosine) ** power + np.abs(sine) ** power) ** (-1 / power)
    outline = np.stack((cosine * round_ * half_width, sine * round_ * half_height), -1)
    parts = []
    for side in (1, -1):
        rings = {Material.FRAME: (1 - thickness / half_width, 1 + thickness / half_width)}
        if person.sunglasses:
            rings[Material.LENS] = (0.0, 1.0)
        for material, (inner, outer) in rings.items():
            ring = np.array([inner, outer])[:, None, None] * outline
            x = side * centre_x + ring[..., 0]
            # The rims follow the face round.
            z = plane - 0.0048 * x * x + (0.0 if material == Material.LENS else 0.6)
            vertices = np.stack((x, eye_y + ring[..., 1], z), -1)
            parts.append(_part(material, vertices, True))
    hinge = centre_x + half_width
    hinge_z = plane - 0.0048 * hinge * hinge
    bridge_x = np.linspace(-centre_x + half_width, centre_x - half_width, 5)
    low = np.full(5, eye_y - 2)
    bridge = np.stack(
        [np.stack((bridge_x, low + d, np.full(5, plane + 1)), -1) for d in (-thickness, thickness)]
    )
    parts.append(_part(Material.FRAME, bridge, False))
    for side in (1, -1):
        along = np.linspace(0, 1, 6)
        arm = np.stack(
            [
                np.stack(
                    (
                        side * (hinge + (79 - hinge) * along**0.6),
                        eye_y - 4 + 0 * along + d * max(thickness, 1.6),
                        hinge_z + (-8 - hinge_z) * along,
                    ),
                    -1,
                )
                for d in (-1, 1)
            ]
        )
        parts.append(_part(Material.FRAME, arm, False))
    return parts


def brim(head: GridPart, model: HeadModel, rng: np.random.Generator) -> GridPart:
    """The visor of a cap; `head` includes the cap."""
    surface = head.vertices.reshape(model.rest.shape)
    row = int(np.searchsorted(model.elevation[:, 0], -33))
    front = np.flatnonzero(np.abs(model.azimuth[0]) < 62)
    edge = surface[row, front]
    reach = np.linspace(0, 1, 6)[:, None, None]
    away = model.azimuth[0, front][None, :, None]
    length = rng.uniform(50, 75) * np.cos(np.radians(away * 1.3)) ** 0.8
    down = rng.uniform(0.1, 0.45) + 0.25 * (np.abs(away) / 62) ** 2
    direction = np.concatenate((0.25 * np.sin(np.radians(away)), down, np.ones_like(away)), -1)
    vertices = edge[None] + reach * length * direction
    return _part(Material.HAT, vertices, False)
