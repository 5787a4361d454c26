"""Who somebody is and what face they make, as weights of the head model's targets.

A person mixes MakeHuman's whole identities (by origin, gender, age, weight and muscle) and then
moves its sliders: pairs of targets that pull in opposite directions. Sample i takes row i of one
stream of random numbers, so it is the same whatever the set's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

_OPPOSITES = (
    ("incr", "decr"), ("up", "down"), ("out", "in"), ("forward", "backward"),
    ("convex", "concave"), ("uncompress", "compress"),
)  # fmt: skip
# Standard deviation of a slider by group, where 1 is as far as MakeHuman lets it go.
_SPREAD = {
    "head": 0.3, "nose": 0.33, "mouth": 0.33, "ears": 0.4, "eyes": 0.32, "cheek": 0.35,
    "chin": 0.33, "forehead": 0.35, "neck": 0.3, "asym": 0.22,
}  # fmt: skip
# Not identity: they move or turn the whole head, or belong to the age, the brows' mood, the body.
_LEFT_OUT = re.compile(
    r"head/head-(trans|angle|age)|neck/neck-trans|eyebrows/|asymm|ear-shape-pointed|eye-push"
)
_SHAPES = re.compile(r"head/head-(diamond|invertedtriangular|oval|rectangular|round|square|tri)")

_UNIT = "expression/units/caucasian/"
_MACRO_COLUMNS = 10
EXPRESSION_COLUMNS = 22


@dataclass(frozen=True)
class Slider:
    """Targets that one number moves: its positive part the first ones, its negative the others."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    spread: float


def sliders_of(targets: Sequence[str]) -> list[Slider]:
    """The sliders among a file's targets; left and right eyes, ears and cheeks move together."""
    number = {name: i for i, name in enumerate(targets)}
    found: dict[str, tuple[list[int], list[int], float]] = {}
    for name, i in number.items():
        group = name.split("/")[0]
        if group not in _SPREAD or _LEFT_OUT.search(name) or _SHAPES.match(name):
            continue
        stem, positive = _pole(name)
        both = re.sub(r"/[lr]-", "/", stem)
        entry = found.setdefault(both, ([], [], _SPREAD[group]))
        (entry[0] if positive else entry[1]).append(i)
    return [Slider(tuple(p), tuple(n), spread) for p, n, spread in found.values()]


def _pole(name: str) -> tuple[str, bool]:
    """The name of a target's slider, and whether the target is the slider's positive end."""
    stem, _, last = name.rpartition("-")
    for positive, negative in (*_OPPOSITES, ("l", "r")):
        if last in (positive, negative):
            return f"{stem}-{positive}", last == positive
    return name, True


class Identities:
    """Draws weights of one file's targets from uniform numbers.

    Attributes:
        columns: number of uniform numbers of a person.
    """

    def __init__(self, targets: Sequence[str]):
        self.targets = tuple(targets)
        self.number = {name: i for i, name in enumerate(self.targets)}
        self.sliders = sliders_of(self.targets)
        # (slider, target) numbers of the positive and of the negative ends.
        self.ends = [
            np.array([(k, i) for k, targets in enumerate(ends) for i in targets], np.intp)
            .reshape(-1, 2)
            .T
            for ends in ([s.positive for s in self.sliders], [s.negative for s in self.sliders])
        ]
        self.shapes = [i for name, i in self.number.items() if _SHAPES.match(name)]
        self.columns = _MACRO_COLUMNS + 2 * len(self.sliders) + 2

    def weights(self, u: np.ndarray) -> np.ndarray:
        """(N, columns) uniform numbers → (N, T) float32 weights."""
        weights = np.zeros((len(u), len(self.targets)), np.float32)
        self._macros(weights, u)
        count = len(self.sliders)
        moved = ndtri(0.01 + 0.98 * u[:, _MACRO_COLUMNS : _MACRO_COLUMNS + count])
        # Most people are unremarkable in most respects.
        moved *= u[:, _MACRO_COLUMNS + count : _MACRO_COLUMNS + 2 * count] < 0.7
        moved = np.clip(moved * [slider.spread for slider in self.sliders], -0.85, 0.85)
        for sign, (slider, target) in zip((1, -1), self.ends, strict=True):
            weights[:, target] = np.maximum(sign * moved[:, slider], 0)
        if self.shapes:
            which = (u[:, -2] * len(self.shapes)).astype(int)
            weights[np.arange(len(u)), np.array(self.shapes)[which]] = 0.7 * u[:, -1]
        return weights

    def feminine(self, u: np.ndarray) -> np.ndarray:
        """(N, columns) → (N,) share of the female targets."""
        return np.clip(0.5 + 3 * (u[:, 0] - 0.5), 0.02, 0.98)

    def ages(self, u: np.ndarray) -> np.ndarray:
        """(N, columns) → (N,): −1 child, 0 young adult, 1 old."""
        age = u[:, 1]
        return np.where(
            age < 0.12, (age - 0.12) / 0.12, 0.9 * (np.maximum(age - 0.12, 0) / 0.88) ** 1.4
        )

    def origins(self, u: np.ndarray) -> np.ndarray:
        """(N, columns) → (N, 3) shares of African, Asian and Caucasian targets."""
        shares = -np.log(1 - u[:, 2:5])
        mixed = shares / shares.sum(axis=1, keepdims=True)
        # Three people in five are mostly of one origin.
        power = np.where(u[:, 5:6] < 0.6, 5.0, 1.0)
        mixed **= power
        return mixed / mixed.sum(axis=1, keepdims=True)

    def _macros(self, weights: np.ndarray, u: np.ndarray) -> None:
        feminine, age = self.feminine(u), self.ages(u)
        ages = {"child": np.maximum(-age, 0), "young": 1 - np.abs(age), "old": np.maximum(age, 0)}
        genders = {"female": feminine, "male": 1 - feminine}
        build = {}
        for name, column in (("weight", 6), ("muscle", 7)):
            value = np.clip(ndtri(0.01 + 0.98 * u[:, column]) * 0.45, -1, 1)
            build[name] = {
                "min": np.maximum(-value, 0), "average": 1 - np.abs(value),
                "max": np.maximum(value, 0),
            }  # fmt: skip
        origins = self.origins(u)
        for gender, g in genders.items():
            for at, a in ages.items():
                for k, origin in enumerate(("african", "asian", "caucasian")):
                    self._set(
                        weights, f"macrodetails/{origin}-{gender}-{at}", g * a * origins[:, k]
                    )
                for muscle, m in build["muscle"].items():
                    for weight, w in build["weight"].items():
                        name = f"macrodetails/universal-{gender}-{at}-{muscle}muscle-{weight}weight"
                        self._set(weights, name, g * a * m * w)

    def _set(self, weights: np.ndarray, name: str, value: np.ndarray) -> None:
        if name in self.number:
            weights[:, self.number[name]] = value

    def expressions(self, u: np.ndarray) -> np.ndarray:
        """(N, EXPRESSION_COLUMNS) uniform numbers → (N, T) float32 weights."""
        weights = np.zeros((len(u), len(self.targets)), np.float32)

        def now_and_then(column: int, chance: float, low: float, high: float) -> np.ndarray:
            return (u[:, column] < chance) * (low + (high - low) * u[:, column + 1])

        def put(name: str, value: np.ndarray) -> None:
            self._set(weights, _UNIT + name, value)

        smile = now_and_then(0, 0.55, 0.2, 1.1)
        # Closed lips, teeth between stretched lips, a laugh.
        toothy = ((u[:, 2] > 0.4) & (u[:, 2] < 0.85)) * smile
        laugh = (u[:, 2] >= 0.85) * smile
        speaks = now_and_then(3, 0.3, 0, 1) ** 1.5 * (smile == 0)
        put("mouth-corner-puller", np.where(toothy > 0, 0.65, 1) * smile)
        put("mouth-retraction", toothy)
        put("mouth-upward-retraction", 0.7 * laugh)
        put("mouth-part-later", 0.5 * laugh)
        put("mouth-open", np.clip(0.6 * speaks + 0.28 * toothy + 0.15 * laugh, 0, 0.5))
        put("mouth-parling", now_and_then(5, 0.2, 0.2, 1) * (smile == 0))
        serious = smile == 0
        put("mouth-pursing", serious * now_and_then(7, 0.06, 0.2, 0.8))
        put("mouth-protusion", serious * now_and_then(7, 0.1, 0.1, 0.5))
        put("mouth-depression", serious * now_and_then(9, 0.12, 0.2, 0.9))
        put("mouth-compression", serious * now_and_then(11, 0.12, 0.2, 0.9))
        closed = now_and_then(13, 0.06, 0.5, 1.0)
        wide = now_and_then(15, 0.12, 0.2, 1.0)
        narrow = np.maximum(0.5 * smile, now_and_then(17, 0.3, 0.1, 0.7)) * (wide == 0)
        raised = now_and_then(19, 0.25, 0.2, 1.0)
        frown = (u[:, 19] > 0.8) * u[:, 20]
        for side in ("left", "right"):
            put(f"eye-{side}-closure", closed)
            put(f"eye-{side}-opened-up", wide)
            put(f"eye-{side}-slit", narrow * (closed == 0))
            put(f"eyebrows-{side}-up", raised)
            put(f"eyebrows-{side}-inner-up", 0.7 * raised * (u[:, 21] < 0.4))
            put(f"eyebrows-{side}-extern-up", 0.7 * raised * (u[:, 21] > 0.6))
            put(f"eyebrows-{side}-down", frown)
            put(f"nose-{side}-elevation", 0.6 * frown * (u[:, 21] < 0.3))
        return weights


def rows_of(seed: np.random.SeedSequence, columns: int) -> Callable[[int, int], np.ndarray]:
    """A function (start, count) → (count, columns) uniform numbers: those rows of one stream."""

    def rows(start: int, count: int) -> np.ndarray:
        generator = np.random.PCG64(seed)
        generator.advance(start * columns)
        return np.random.Generator(generator).random((count, columns))

    return rows
