"""What colour each visible place of the head model has before light falls on it.

Skin is painted by where a place is on the unchanged base mesh, in mm from the middle between the
eyes (`x` to the side, `y` down): a person's brows follow their own forehead.
"""

from __future__ import annotations

import numpy as np

from ..grid import smooth_noise, smoothstep
from ..material import DARK, Material, Painted, Painter, mix, plain, region
from ..person import linear
from .looks import CURLY, Looks
from .places import (
    BITE,
    EYE_CENTRE,
    EYE_LEVEL,
    HAIRLINE,
    LIP_LOWER,
    LIP_UPPER,
    LOWER_LID,
    UPPER_LID,
)

_SCLERA, _TEETH = linear((222, 214, 208)), linear((225, 214, 194))
_MOUTH = linear((95, 34, 32))
SKY, REST, UV = 3, slice(5, 8), slice(8, 10)  # attributes: place on the base mesh, on the texture


def _tint(colour: np.ndarray, share: np.ndarray, factors: tuple[float, float, float]) -> None:
    """Multiply `colour` (3, P) in place by 1 − share·(1 − factor)."""
    for plane, factor in zip(colour, factors, strict=True):
        plane *= 1 - (1 - factor) * share


class PersonPainter(Painter):
    """Colours of a person of the head model.

    Args:
        looks: looks of the person.
        gaze: (2,) directions of the eyes in the head, degrees to the image's right and down.
    """

    def __init__(self, looks: Looks, gaze: np.ndarray) -> None:
        super().__init__(looks.person)
        self.looks = looks
        across, down = np.radians(gaze)
        self.gaze = np.array(
            (np.sin(across) * np.cos(down), -np.sin(down), np.cos(across) * np.cos(down))
        )
        person = looks.person
        self.surfaces = {
            Material.SKIN: self._skin,
            Material.EYE: lambda attributes: (self._eyes(attributes[REST]), 0.9),
            Material.TEETH: lambda attributes: (self._teeth(attributes[REST]), 0.3),
            Material.CLOTH: lambda attributes: (self._cloth(attributes[UV], person.clothes), 0.0),
            Material.HAIR: lambda attributes: (self._hair(attributes[UV]), 0.1),
            Material.HAT: lambda attributes: (self._cloth(attributes[UV], person.hat_colour), 0.0),
            Material.FRAME: self._frame,
            Material.LENS: self._lens,
        }

    def _teeth(self, rest: np.ndarray) -> np.ndarray:
        gums = smoothstep(0.07, 0.1, np.abs(rest[1] - BITE))
        return _TEETH[:, None] + gums * (_MOUTH - _TEETH)[:, None]

    def _hair(self, uv: np.ndarray) -> np.ndarray:
        """Strands run along v, so their noise is fine across and slow along it."""
        u, v = uv * 420
        u = u + self.looks.waves * np.sin(v * 0.12)
        if self.looks.hair is not None and self.looks.hair.startswith(CURLY):
            u, v = u * 0.8, v * 9
        fine = smooth_noise(u * 1.9, v * 0.09 + 40)
        coarse = np.sin(u * 0.21) + np.sin(u * 0.47 + v * 0.013 + 2)
        shade = np.exp(self.person.strands * (0.6 * fine + 0.35 * coarse))
        return self.person.hair[:, None] * shade

    def _cloth(self, uv: np.ndarray, colour: np.ndarray) -> np.ndarray:
        strength, across, along = self.looks.pattern
        u, v = uv
        weave = 1 + 0.04 * smooth_noise(u * 900, v * 900)
        albedo = colour[:, None] * weave
        if strength > 0:
            wave = np.sin(2 * np.pi * (u * across)) * np.sin(2 * np.pi * (v * along) + 0.7)
            mix(albedo, self.person.clothes2, strength * (wave > 0.2))
        return albedo

    def _eyes(self, rest: np.ndarray) -> np.ndarray:
        x, y, z = rest
        cx, cy, cz = EYE_CENTRE
        dx, dy, dz = x - np.sign(x) * cx, y - cy, z - cz
        away = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6
        cosine = (dx * self.gaze[0] + dy * self.gaze[1] + dz * self.gaze[2]) / away
        angle = np.arccos(np.clip(cosine, -1, 1))
        colour = plain(_SCLERA, x.size)
        _tint(colour, smoothstep(0.6, 1.2, angle), (0.85, 0.6, 0.58))
        iris = self.person.iris
        ring = 1 + 0.35 * np.sin(9 * np.arctan2(dy, dx)) * 0.3
        mix(colour, iris[:, None] * ring, np.clip((0.46 - angle) / 0.05, 0, 1))
        mix(colour, iris * np.float32(0.3), 0.7 * np.exp(-(((angle - 0.43) / 0.04) ** 2)))
        mix(colour, DARK * np.float32(0.3), np.clip((0.19 - angle) / 0.05, 0, 1))
        return colour

    def _skin(self, attributes: np.ndarray) -> Painted:
        looks, person, rest, sky = self.looks, self.person, attributes[REST], attributes[SKY]
        x, z = rest[0] * 100, rest[2] * 100
        y = (EYE_LEVEL - rest[1]) * 100
        ax = np.abs(x)
        colour = plain(person.skin, x.size)
        u = 80 * np.arctan2(x, z - 50) + looks.seed[0]
        v = y + looks.seed[1]
        colour *= 1 + (0.01 + person.freckles) * smooth_noise(u * 2, v * 2)
        patches = smooth_noise(u * 0.25, v * 0.25)
        _tint(colour, 0.12 * np.clip(patches, 0, 2), (0.97, 0.75, 0.75))
        gloss = (0.05 + 0.05 * np.exp(-((ax / 22) ** 2))).astype(np.float32)
        front = z > 95
        self._face(colour, x, ax, y, front)
        self._spots(colour, u, v, front)
        self._beard(colour, ax, y, z, u, v)
        self._brows(colour, ax, y, front)
        self._lips(colour, gloss, ax, y, z, sky)
        self._lids(colour, ax, y, z)
        self._scalp(colour, gloss, rest, u, v)
        return colour, gloss

    def _face(self, colour, x, ax, y, front) -> None:
        """Red cheeks, nose and ears; dark rings; the eyes' hollows."""
        with region(colour, front & (y > -20) & (y < 70)) as (chosen, part):
            ax, y = ax[chosen], y[chosen]
            red = np.exp(-(((ax - 40) / 16) ** 2 + ((y - 32) / 14) ** 2))
            red += 0.7 * np.exp(-((ax / 10) ** 2 + ((y - 36) / 9) ** 2))
            red *= 0.25 + 0.4 * self.looks.blush + 0.5 * self.person.makeup
            _tint(part, red, (0.95, 0.7, 0.72))
            tired = np.exp(-(((ax - 28) / 12) ** 2 + ((y - 9) / 5) ** 2))
            _tint(part, tired * (0.5 + 0.5 * max(self.looks.age, 0)), (0.8, 0.72, 0.76))
        with region(colour, np.abs(x) > 74) as (ears, part):
            _tint(part, np.full(ears.size, 0.8), (1.0, 0.8, 0.78))

    def _spots(self, colour, u, v, front) -> None:
        if self.looks.freckles > 0.2:
            grains = smooth_noise(u * 3.1 + 31, v * 3.1) > 1.4 - 0.5 * self.looks.freckles
            _tint(colour, 0.5 * (grains & front), (0.85, 0.7, 0.6))
        if self.looks.spots > 0.5:
            marks = smooth_noise(u * 0.8 + 77, v * 0.8) > 2.0
            _tint(colour, 0.5 * marks, (0.8, 0.68, 0.6))

    def _beard(self, colour, ax, y, z, u, v) -> None:
        moustache, chin, cheeks = self.person.beard
        if max(self.person.beard) == 0:
            return
        with region(colour, (y > 15) & (z > 55) & (y < 118)) as (chosen, part):
            ax, y, z = ax[chosen], y[chosen], z[chosen]
            upper = moustache * np.exp(-((((ax - 10) / 17) ** 2 + ((y - 54) / 6.5) ** 2) ** 2))
            lower = chin * smoothstep(79, 86, y) * smoothstep(38, 26, ax) * smoothstep(114, 105, y)
            side = cheeks * smoothstep(0, 14, y - 72 + 0.9 * (ax - 22)) * smoothstep(20, 30, ax)
            side *= smoothstep(62, 72, z) * smoothstep(112, 104, y)
            grain = 1 + 0.22 * smooth_noise(u[chosen] * 3.3, v[chosen] * 1.8)
            share = np.clip(np.maximum(np.maximum(upper, lower), side) * grain, 0, 0.92)
            mix(part, self.person.brow * np.float32(0.9), share)

    def _brows(self, colour, ax, y, front) -> None:
        with region(colour, front & (y < -6) & (y > -30)) as (chosen, part):
            ax, y = ax[chosen], y[chosen]
            at = (54 - ax) / 44
            line = -11.5 - 7.0 * np.sin(np.pi * np.clip(0.1 + 0.75 * at, 0, 1))
            size = self.person.brow_size * (0.5 + 0.6 * np.clip(at, 0, 1))
            share = np.exp(-((np.abs(y - line) / (1.2 * size)) ** 3))
            share *= smoothstep(-0.05, 0.15, at) * smoothstep(1.05, 0.9, at)
            share *= (0.25 + 0.75 * self.person.brow_density) * (
                1 + 0.22 * smooth_noise(ax * 2.6 + y, y * 1.4)
            )
            mix(part, self.person.brow, np.clip(share, 0, 1))

    def _lips(self, colour, gloss, ax, y, z, sky) -> None:
        with region(colour, (y > 50) & (y < 85) & (ax < 30) & (z > 115)) as (chosen, part):
            ax, y, z = ax[chosen], y[chosen], z[chosen]
            above = np.interp(ax, *LIP_UPPER)
            below = np.interp(ax, *LIP_LOWER)
            lips = np.clip(np.minimum((y - above) / 1.2, (below - y) / 1.5) + 0.5, 0, 1)
            lips *= smoothstep(28, 25, ax)
            mix(part, self.person.lips, (0.6 + 0.3 * (self.person.makeup > 0)) * lips)
            # Behind the lips it is dark; where they meet, there is a line.
            mix(part, _MOUTH, smoothstep(0.3, 0.08, sky[chosen]))
        gloss[chosen] += (0.14 * lips).astype(np.float32)

    def _lids(self, colour, ax, y, z) -> None:
        """Lashes and make-up; the lids' edges move with the skin, so they are painted on it."""
        with region(colour, (np.abs(y) < 18) & (ax > 12) & (ax < 56) & (z > 115)) as (chosen, part):
            ax, y = ax[chosen], y[chosen]
            upper, lower = np.interp(ax, *UPPER_LID), np.interp(ax, *LOWER_LID)
            along = smoothstep(15, 19, ax) * smoothstep(48, 45, ax)
            makeup = self.person.makeup
            if makeup:
                shadow = smoothstep(-9, -2, y - upper) * (y < upper + 1) * along
                mix(part, self.person.skin * np.float32(0.25), 0.6 * makeup * shadow)
            dark = np.exp(-(((y - upper + 0.2) / (0.9 + 0.6 * makeup)) ** 2)) * along
            mix(part, DARK, np.clip(dark * (0.7 + 0.3 * makeup + 0.15 * self.looks.feminine), 0, 1))
            dark = np.exp(-(((y - lower) / 0.7) ** 2)) * along
            mix(part, self.person.skin * np.float32(0.2), dark * (0.3 + 0.4 * makeup))

    def _scalp(self, colour, gloss, rest, u, v) -> None:
        """Hair cut to the scalp, and the scalp under longer hair."""
        if self.looks.cropped <= 0:
            return
        x, y, z = rest
        azimuth = np.degrees(np.arctan2(np.abs(x), z - 0.5))
        line = np.interp(azimuth, *HAIRLINE) + self.looks.hairline * smoothstep(70, 40, azimuth)
        ragged = 0.02 * smooth_noise(u * 2.2, v * 2.2)
        edge = 0.1 if self.looks.hair is None else 0.16
        share = smoothstep(0, edge, y + ragged - line) * (np.abs(x) < 0.76)
        if self.looks.hair is not None:
            share *= smoothstep(0.0, 0.1, y - line)
        with region(colour, share > 0) as (grown, part):
            tone = self.person.hair[:, None] * (
                1 + 0.2 * smooth_noise(u[grown] * 2.5, v[grown] * 2.5)
            )
            mix(part, tone, self.looks.cropped * share[grown])
        gloss[grown] *= 0.5
