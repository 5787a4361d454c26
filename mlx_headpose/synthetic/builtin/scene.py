"""A built-in head as a source of a mesh: the head with its hair, ears, shoulders and glasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...pose import pose_to_matrix
from ..light import Finish, Light, sample_light
from ..material import Painter
from ..person import Person
from ..scene import Mesh, Scene, joined
from . import parts as on_head
from .landmarks import mediapipe_placement
from .paint import HeadPainter
from .parts import NECK_JOINT, GridPart, both_sides
from .shape import PIVOT, head_model, tilt

_FINISH = Finish(
    cosine=0.9, wrap=0.1, spread=(0, 0, 0), crevice=0.4, glint=1, rim=1, rim_hidden=False,
    sheen=0, metering=0, shoulder=1,
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """What changes from picture to picture of one person, but for the head's pose.

    Attributes:
        expression: (E,) weights of `shape.EXPRESSIONS`.
        gaze: (2,) see `paint.HeadPainter`.
        eyes_open: 0 closed … 1 open.
        body: (3,) yaw, pitch, roll of the shoulders.
    """

    expression: np.ndarray
    gaze: np.ndarray
    eyes_open: float
    body: np.ndarray


def sample_shot(rng: np.random.Generator, expression: np.ndarray) -> Shot:
    """A random shot of an expression, sampled without looking at the pose."""
    eyes_open = rng.uniform(0.62, 1.05)
    if rng.random() < 0.07:
        eyes_open = rng.uniform(0, 0.3)
    return Shot(
        expression=expression,
        gaze=np.clip(rng.normal(0, (2.6, 1.0)), (-6, -2), (6, 2)),
        eyes_open=float(eyes_open),
        body=np.array([rng.uniform(-50, 50), rng.normal(0, 6), rng.normal(0, 9)]),
    )


@dataclass(frozen=True)
class BuiltInScene(Scene):
    """A built-in head.

    Attributes:
        person: colours and looks.
        shape: (K,) weights of `shape.SHAPES`.
        shot: expression, gaze and shoulders.
        pose: (3,) yaw, pitch, roll of the head in degrees.
    """

    person: Person
    shape: np.ndarray
    shot: Shot
    pose: np.ndarray
    finish = _FINISH

    @property
    def skin(self) -> np.ndarray:
        return self.person.skin

    def sample_light(self, rng: np.random.Generator) -> Light:
        return sample_light(rng)

    def painter(self) -> Painter:
        shot = self.shot
        return HeadPainter(self.person, shot.expression, shot.gaze, shot.eyes_open)

    def mesh(self, rng: np.random.Generator) -> Mesh:
        turns = pose_to_matrix(np.stack((self.pose, self.shot.body)).astype(np.float32))
        turn, shoulders = turns[0] @ tilt(), turns[1]
        joint = (NECK_JOINT - PIVOT).astype(np.float32)
        for part in (parts := self._parts(rng)):
            # A part and its back share their vertices, so these are replaced and not changed.
            points = part.vertices - PIVOT.astype(np.float32)
            normals = part.attributes[:, :3]
            placed, turned = points @ turn.T, normals @ turn.T
            if part.stays is not None:
                placed += part.stays * ((points - joint) @ shoulders.T + turn @ joint - placed)
                turned += part.stays * (normals @ shoulders.T - turned)
            part.vertices, part.attributes[:, :3] = placed, turned
        return joined(parts)

    def _parts(self, rng: np.random.Generator) -> list[GridPart]:
        """All surfaces in the template's axes, the head first."""
        model, person = head_model(), self.person
        bald = model.surface(self.shape, self.shot.expression)
        head = on_head.covered_head(person, bald, rng)
        parts = [head, on_head.body(person)]
        covered = person.style in ("bob", "long")
        if not covered or person.volume < 11:
            row = int(np.searchsorted(model.elevation[:, 0], 1))
            column = int(np.searchsorted(model.azimuth[0], 96))
            parts += on_head.ears(person, bald, (row, column))
        if covered:
            parts += both_sides(on_head.long_hair(person, rng), 0.6)
        if person.style in ("bun", "tail"):
            parts.append(on_head.knot(person, rng))
        if person.glasses:
            for part in on_head.glasses(person, mediapipe_placement().on(bald)):
                parts += both_sides(part, 0.6)
        if person.hat == "cap":
            parts += both_sides(on_head.brim(head, model, rng), 0.6)
        return parts

    def shadows(self, mesh: Mesh, direction: np.ndarray) -> np.ndarray:
        """Seen from the lamp, is another vertex before it?"""
        across = np.cross(direction, np.array([0.0, 1.0, 0.1]))
        across /= np.linalg.norm(across)
        axes = np.stack((across, np.cross(direction, across), direction), -1).astype(np.float32)
        seen = mesh.vertices @ axes
        cells = 48
        place = np.clip((seen[:, :2] + 150) * (cells / 300), 0, cells - 1).astype(np.intp)
        cell = place[:, 0] * cells + place[:, 1]
        nearest = np.full(cells * cells, -1e9, np.float32)
        np.maximum.at(nearest, cell, seen[:, 2])
        reached = 1 - np.clip((nearest[cell] - seen[:, 2] - 14) / 12, 0, 1)
        # The head's vertices, which come first, form a grid: soften the shadows' edges over it.
        shape = head_model().sky.shape
        head = reached[: shape[0] * shape[1]].reshape(shape)
        for _ in range(2):
            head[1:-1] = 0.5 * head[1:-1] + 0.25 * (head[2:] + head[:-2])
            head[:, 1:-1] = 0.5 * head[:, 1:-1] + 0.25 * (head[:, 2:] + head[:, :-2])
        return reached
