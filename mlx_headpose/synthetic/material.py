"""What a person's surfaces are made of and what colour they have before light falls on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum

import numpy as np

from .person import Person, linear

DARK = linear((28, 20, 18))  # pupils and lashes


class Material(IntEnum):
    """What a vertex is made of."""

    SKIN = 0  # of the head; with the built-in heads also the hair that grows on it
    EYE = 1
    TEETH = 2
    CLOTH = 3
    HAIR = 4
    HAT = 5
    FRAME = 6
    LENS = 7
    EAR = 8
    NECK = 9  # skin above the collar, cloth below


Painted = tuple[np.ndarray, "float | np.ndarray"]


class Painter:
    """Colours of the visible points of one person.

    A subclass offers `surfaces`: material → function of the points' (C, P) attributes that
    returns their (3, P) or (3, 1) albedo and their gloss.

    Args:
        person: colours and looks.
    """

    surfaces: Mapping[Material, Callable[[np.ndarray], Painted]]

    def __init__(self, person: Person) -> None:
        self.person = person

    def paint(self, material: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Albedo (3, P) and gloss (P,) of visible points, both float32.

        Args:
            material: (P,) `Material` numbers.
            attributes: (C, P), see `scene.Mesh`.
        """
        albedo = np.empty((3, len(material)), np.float32)
        gloss = np.empty(len(material), np.float32)
        for kind in np.unique(material):
            chosen = np.flatnonzero(material == kind)
            surface = self.surfaces[Material(kind)]
            albedo[:, chosen], gloss[chosen] = surface(attributes[:, chosen])
        return albedo, gloss

    def _frame(self, _: np.ndarray) -> Painted:
        return self.person.glasses_colour[:, None], 0.5

    def _lens(self, _: np.ndarray) -> Painted:
        return (self.person.glasses_colour * np.float32(0.3) + np.float32(0.004))[:, None], 0.6


def mix(colour: np.ndarray, other: np.ndarray, share: np.ndarray) -> None:
    """Blend `other`, (3,) or (3, P), into `colour` (3, P) in place."""
    for plane, target in zip(colour, other, strict=True):
        plane += share * (target - plane)


def plain(colour: np.ndarray, count: int) -> np.ndarray:
    """(3,) → (3, count) float32."""
    return np.repeat(colour.astype(np.float32)[:, None], count, axis=1)


@contextmanager
def region(colour: np.ndarray, where: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A part of `colour` (3, P) to change within: numbers (n,) of its points and colours (3, n)."""
    chosen = np.flatnonzero(where)
    part = colour[:, chosen]
    yield chosen, part
    colour[:, chosen] = part
