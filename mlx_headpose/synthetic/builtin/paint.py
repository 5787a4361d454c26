"""What colour each visible point has before light falls on it."""

from __future__ import annotations

import numpy as np

from ..grid import smooth_noise, smoothstep
from ..material import DARK, Material, Painted, Painter, mix, plain, region
from ..person import Person, linear
from .landmarks import EYE_HALF_WIDTH, brow_line, eye_lids
from .parts import LIGHT
from .shape import EXPRESSIONS, EYE_X, EYE_Y, MOUTH_HALF_WIDTH, MOUTH_Y

_SCLERA = linear((226, 220, 214))
_TEETH = linear((228, 220, 204))
_MOUTH = linear((62, 22, 20))
_OPEN, _PART, _SMILE = (EXPRESSIONS.index(n) for n in ("mouth_open", "lips_part", "smile"))


def _dim(colour: np.ndarray, share: np.ndarray, strength: tuple[float, float, float]) -> None:
    """Darken `colour` (3, P) in place by a share of (P,), more or less by channel."""
    for plane, part in zip(colour, strength, strict=True):
        plane *= 1 - part * share


class HeadPainter(Painter):
    """Colours of a built-in head.

    Args:
        person: colours and looks.
        expression: (E,) weights of `shape.EXPRESSIONS`.
        gaze: (2,) shift of the irises in mm, to the image's right and down on a frontal head.
        eyes_open: 0 closed … 1 open.
    """

    def __init__(
        self, person: Person, expression: np.ndarray, gaze: np.ndarray, eyes_open: float
    ) -> None:
        super().__init__(person)
        self.expression = expression
        self.gaze = gaze
        self.eyes_open = eyes_open
        ear = person.skin * np.array((1.02, 0.9, 0.88), np.float32)
        self.surfaces = {
            Material.SKIN: self._head,
            Material.EAR: lambda _: (ear[:, None], 0.06),
            Material.NECK: lambda attributes: (self._neck(attributes[LIGHT:]), 0.06),
            Material.HAIR: lambda attributes: (self._hair(attributes[LIGHT:]), 0.12),
            Material.HAT: lambda _: (person.hat_colour[:, None], 0.0),
            Material.FRAME: self._frame,
            Material.LENS: self._lens,
        }

    def _hair(self, uv: np.ndarray) -> np.ndarray:
        """Strands run down, so their noise is fine around the head and slow along it."""
        person = self.person
        u, v = uv[:2]
        fine = smooth_noise(u * 2.2, v * 0.12 + 40)
        coarse = smooth_noise(u * 0.6 + 90, v * 0.1)
        if person.style in ("curls", "buzz"):
            fine = smooth_noise(u * 1.5, v * 1.5)
        shade = np.exp(person.strands * (0.6 * fine + 0.5 * coarse))
        return person.hair[:, None] * shade

    def _neck(self, uv: np.ndarray) -> np.ndarray:
        person = self.person
        azimuth, y = uv[:2]
        edge = person.collar + 14 * np.cos(np.radians(azimuth))
        stripes = 0.12 * smooth_noise(azimuth * 0.9, y * 0.5)
        cloth = person.clothes[:, None] * (1 + stripes)
        cloth = np.where(y < edge + 12, person.clothes2[:, None], cloth)
        return np.where(y > edge, cloth, 0.93 * person.skin[:, None])

    def _head(self, attributes: np.ndarray) -> Painted:
        person = self.person
        azimuth, elevation, x, y, inside, hat = attributes[LIGHT:]
        colour = plain(person.skin, x.size)
        colour *= 1 + person.freckles * smooth_noise(azimuth * 2.1, elevation * 2.1)
        gloss = np.full(x.size, 0.08, np.float32)
        front = np.abs(azimuth) < 88
        if person.style == "buzz" or person.style == "bald":
            shadow = 0.25 * (self._stubble_line(azimuth) - elevation > 0)
            mix(colour, person.hair, shadow.astype(np.float32))
        self._paint_skin(colour, x, y, front)
        self._beard(colour, x, y, azimuth, elevation)
        self._brows(colour, x, y, front)
        self._mouth(colour, gloss, x, y, front)
        self._eyes(colour, gloss, x, y, front)
        if person.style != "bald":
            ragged = 1.1 * smooth_noise(azimuth * 1.7, elevation * 0.5 + 17)
            ragged += 0.8 * smooth_noise(azimuth * 0.4, elevation * 0.4)
            soft = 3.5 if person.style != "buzz" else 8.0
            share = np.clip((inside + ragged) / soft, 0, 1)
            if person.style == "buzz":
                share *= 0.75
            with region(colour, share > 0) as (grown, part):
                mix(part, self._hair(attributes[LIGHT:, grown]), share[grown])
            gloss[grown] = 0.12
        if person.hat:
            covered = np.flatnonzero(hat > 0)
            knit = 0.1 * smooth_noise(azimuth[covered] * 2, elevation[covered] * 0.4)
            colour[:, covered] = person.hat_colour[:, None] * (1 + knit)
            gloss[covered] = 0.0
        return colour, gloss

    def _stubble_line(self, azimuth: np.ndarray) -> np.ndarray:
        return -30 + 70 * smoothstep(90, 140, np.abs(azimuth))

    def _paint_skin(self, colour, x, y, front) -> None:
        """Red cheeks and nose, dark rings, nostrils."""
        with region(colour, front & (y > -5) & (y < 60)) as (chosen, part):
            ax, y = np.abs(x[chosen]), y[chosen]
            red = np.exp(-(((ax - 40) / 14) ** 2 + ((y - 34) / 12) ** 2))
            red += 0.6 * np.exp(-((ax / 9) ** 2 + ((y - 38) / 9) ** 2))
            red *= 0.16 + 0.2 * self.person.makeup
            _dim(part, red, (0.1, 0.7, 0.6))
            part *= 1 - 0.14 * np.exp(-(((ax - 30) / 13) ** 2 + ((y - 11) / 5) ** 2))
            nostril = np.exp(-((((ax - 6.8) / 3.6) ** 2 + ((y - 46.8) / 1.7) ** 2) ** 2))
            mix(part, self.person.skin * np.float32(0.05), 0.92 * nostril)

    def _beard(self, colour, x, y, azimuth, elevation) -> None:
        moustache, chin, cheeks = self.person.beard
        if max(self.person.beard) == 0:
            return
        with region(colour, (y > 15) & (np.abs(azimuth) < 100)) as (chosen, part):
            ax, y = np.abs(x[chosen]), y[chosen]
            upper = moustache * np.exp(-((((ax - 10) / 17) ** 2 + ((y - 57) / 5.5) ** 2) ** 2))
            lower = chin * smoothstep(80, 88, y) * smoothstep(34, 24, ax)
            side = cheeks * smoothstep(0, 9, y - 74 + 0.75 * (ax - 20)) * smoothstep(18, 28, ax)
            grain = 1 + 0.25 * smooth_noise(azimuth[chosen] * 4, elevation[chosen] * 2.5)
            share = np.clip(np.maximum(np.maximum(upper, lower), side) * grain, 0, 0.93)
            mix(part, self.person.brow * np.float32(0.9), share)

    def _brows(self, colour, x, y, front) -> None:
        with region(colour, front & (y < -8) & (y > -32)) as (chosen, part):
            ax, y = np.abs(x[chosen]), y[chosen]
            at = (53 - ax) / 40
            size = self.person.brow_size * (0.55 + 0.45 * np.clip(at, 0, 1))
            share = np.exp(-((np.abs(y - brow_line(at)) / (1.35 * size)) ** 3))
            share *= smoothstep(-0.06, 0.12, at) * smoothstep(1.07, 0.93, at)
            share *= self.person.brow_density * (1 + 0.25 * smooth_noise(ax * 2.2, y * 1.2))
            mix(part, self.person.brow, np.clip(share, 0, 1))

    def _mouth(self, colour, gloss, x, y, front) -> None:
        with region(colour, front & (y > 56) & (y < 86) & (np.abs(x) < MOUTH_HALF_WIDTH + 3)) as (
            chosen,
            part,
        ):
            ax, y = np.abs(x[chosen]), y[chosen]
            at = np.clip(1 - ax / MOUTH_HALF_WIDTH, 0, 1)
            profile = np.sin(np.pi / 2 * at) ** 0.8
            bow = 1.4 * np.exp(-((ax / 3.0) ** 2))
            above = (y - (MOUTH_Y - 8.3 * profile + bow)) / 0.9
            below = (MOUTH_Y + 11.0 * profile - y) / 1.1
            lips = np.clip(np.minimum(above, below) + 0.5, 0, 1) * smoothstep(0, 0.08, at)
            mix(part, self.person.lips, 0.9 * lips)
            upper_lip = (y < MOUTH_Y) * lips
            part *= 1 - 0.22 * upper_lip
            line = np.exp(-(((y - MOUTH_Y) / 0.9) ** 2)) * smoothstep(0.0, 0.12, at)
            mix(part, _MOUTH * np.float32(0.6), 0.7 * line)
            gap = 18 * self.expression[_OPEN] + 5 * self.expression[_PART]
            if gap > 1:
                # The slit between the lips, which the expression pulls open.
                inside = smoothstep(1.6, 1.0, np.abs(y - MOUTH_Y - 0.1)) * smoothstep(0.08, 0.2, at)
                mix(part, _MOUTH * np.float32(0.5), inside)
                shown = min(
                    1.0, 0.25 + 0.75 * self.expression[_SMILE] + 0.2 * self.expression[_PART]
                )
                reach = min(1.0, 7.0 / gap)
                row = (y - (MOUTH_Y - 1.1)) / 2.2
                teeth = shown * smoothstep(reach, reach - 0.2, row) * smoothstep(-0.1, 0.05, row)
                mix(part, _TEETH * np.float32(0.85), inside * teeth * smoothstep(0.1, 0.4, at))
        gloss[chosen] += (0.12 * lips).astype(np.float32)

    def _eyes(self, colour, gloss, x, y, front) -> None:
        person = self.person
        near = (np.abs(np.abs(x) - EYE_X) < EYE_HALF_WIDTH + 4) & (np.abs(y - EYE_Y) < 13)
        with region(colour, front & near) as (chosen, part):
            x, y = x[chosen], y[chosen]
            u = np.clip((EYE_X - np.abs(x)) / EYE_HALF_WIDTH, -1, 1)
            corner = smoothstep(EYE_HALF_WIDTH + 2, EYE_HALF_WIDTH - 1, np.abs(np.abs(x) - EYE_X))
            upper, lower = eye_lids(u)
            crease = np.exp(-(((y - upper + 3.2) / 1.5) ** 2)) * corner
            upper = upper + (lower - upper) * (1 - self.eyes_open)
            if person.makeup:
                shadow = smoothstep(-9, -2, y - upper) * (y < upper) * corner
                part *= 1 - 0.5 * person.makeup * shadow
            part *= 1 - 0.3 * crease
            opening = np.clip(np.minimum(y - upper, lower - y) / 0.7 + 0.5, 0, 1) * corner
            dx = x - np.sign(x) * EYE_X - self.gaze[0]
            dy = y - EYE_Y - self.gaze[1]
            distance = np.hypot(dx, dy)
            ball = plain(_SCLERA, len(chosen))
            # Redder towards the corners, in the upper lid's shadow above.
            _dim(ball, np.abs(u) ** 3, (0.17, 0.35, 0.35))
            mix(ball, person.iris, np.clip((6.4 - distance) / 0.7, 0, 1))
            mix(
                ball, person.iris * np.float32(0.35), np.exp(-(((distance - 6.0) / 0.6) ** 2)) * 0.7
            )
            mix(ball, DARK * np.float32(0.4), np.clip((2.5 - distance) / 0.6, 0, 1))
            ball *= 0.45 + 0.55 * smoothstep(0, 4.5, y - upper)
            mix(part, ball, opening)
            lashes = np.exp(-(((y - upper) / (1.0 + 0.5 * person.makeup)) ** 2)) * corner
            mix(part, DARK, lashes * (0.75 + 0.2 * person.makeup))
            lashes = np.exp(-(((y - lower) / 0.7) ** 2)) * corner
            mix(part, person.skin * np.float32(0.25), lashes * (0.35 + 0.4 * person.makeup))
        gloss[chosen] += (0.5 * opening).astype(np.float32)
