"""What a person of the head model wears and is coloured like, beyond what `person.py` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..person import Person, linear, sample_person

# MakeHuman's hair assets by length; others in a file count as long.
_SHORT = ("afro", "short")
# Hair made of cards that stand out, shaded as one round mass of curls.
CURLY = "afro"
BEANIE = "beanie"  # a hat that needs no asset
# These hang over an eye.
_OVER_EYE = ("bob", "short03")


@dataclass(frozen=True)
class Looks:
    """Looks of one person, the same in all images; hair, clothes and hat are names of assets."""

    person: Person  # colours, beard, make-up, glasses
    feminine: float  # share of female targets
    age: float  # −1 child, 0 young adult, 1 old
    hair: str | None
    clothes: str | None
    hat: str | None  # or `BEANIE`
    brim: float  # how much higher than usual the hat's edge is, dm
    hat_thickness: float  # mm
    fullness: float  # mm that the hair lies further out than the asset's
    mirrored: bool  # whether the hair is the asset's mirror image
    length: float  # height in dm below which the hair is cut off
    fringe: float  # height in dm below which no hair hangs before the face
    waves: float  # of the hair, in units of its texture
    cropped: float  # density of hair painted on the scalp, 0 bald … 1
    hairline: float  # how far up the forehead painted hair begins, dm
    blush: float  # strength 0..1, as of the next two
    freckles: float
    spots: float
    pattern: tuple[float, float, float]  # of the cloth: strength, waves across and along
    seed: tuple[float, float]  # of noise that is fixed to the skin

    @property
    def short_hair(self) -> bool:
        """Whether the hair ends above the shoulders and shows the ears."""
        return self.hair is not None and self.hair.startswith(_SHORT)

    @property
    def over_eye(self) -> bool:
        """Whether a lock of the hair hangs over an eye."""
        return self.hair is not None and self.hair.startswith(_OVER_EYE)


def sample_looks(
    rng: np.random.Generator,
    assets: Mapping[str, Mapping[str, object]],
    feminine: float,
    age: float,
    african: float,
) -> Looks:
    """Random looks of an identity.

    Args:
        rng: the person's own random numbers.
        assets: kind → names in the file.
        feminine: share of female targets.
        age: −1 child, 0 young adult, 1 old.
        african: share of African targets, which makes darker skin likelier.
    """
    woman = rng.random() < feminine
    person = sample_person(rng, woman)
    person = _aged(rng, person, age, woman)
    # People of `person.py` are more colourful than photographed ones.
    skin = person.skin + 0.18 * (person.skin.mean() - person.skin)
    person = replace(person, skin=skin.astype(np.float32))
    if african < 0.5:
        # In `person.py` all tones are alike.
        light = linear((226, 184, 158)) * rng.uniform(0.75, 1.15)
        share = rng.uniform(0, 0.8) * (1 - 2 * african)
        skin = (person.skin + share * (light - person.skin)).astype(np.float32)
        lips = person.lips * (skin / person.skin) ** 0.7
        person = replace(person, skin=skin, lips=lips.astype(np.float32))
    hair, cropped = _hair(rng, sorted(assets.get("hair", ())), woman, age, african)
    clothes = sorted(assets.get("clothes", ()))
    hats = [name for name in clothes if "fedora" in name or "hat" in name]
    suits = [
        name
        for name in clothes
        if name not in hats and ("female" in name if woman else "female" not in name)
    ]
    suits = suits or [name for name in clothes if name not in hats]
    return Looks(
        person=person,
        feminine=feminine,
        age=age,
        hair=hair,
        clothes=str(rng.choice(suits)) if suits else None,
        hat=str(rng.choice((*hats, BEANIE))) if rng.random() < 0.1 else None,
        brim=float(rng.normal(0, 0.07)),
        hat_thickness=float(rng.uniform(9, 26)),
        fullness=float(rng.uniform(-2, 7)),
        mirrored=bool(rng.random() < 0.5),
        length=float(rng.choice((4.0, rng.uniform(5.0, 6.4)))),
        fringe=float(rng.uniform(7.2, 7.65) if rng.random() < 0.75 else 0.0),
        waves=float(max(0, rng.uniform(-3, 5))),
        cropped=cropped,
        hairline=float(rng.normal(0, 0.06) + (0.25 * rng.random() * max(age, 0) * (not woman))),
        blush=float(rng.uniform(0.2, 1)),
        freckles=float(max(0, rng.uniform(-0.8, 1)) * (person.skin.mean() > 0.2)),
        spots=float(rng.uniform(0, 1) * (0.3 + max(age, 0))),
        pattern=(max(0.0, rng.uniform(-0.3, 0.6)), rng.uniform(0, 60), rng.uniform(0, 60)),
        seed=(float(rng.uniform(0, 200)), float(rng.uniform(0, 200))),
    )


def _hair(
    rng: np.random.Generator, names: list[str], woman: bool, age: float, african: float
) -> tuple[str | None, float]:
    """An asset's name or None, and the density of hair on the scalp."""
    bald = 0.02 if woman else 0.14 + 0.16 * max(age, 0)
    if not names or rng.random() < bald:
        return None, float(rng.choice((0.0, rng.uniform(0.2, 1.0)), p=(0.35, 0.65)))
    weights = np.ones(len(names))
    for i, name in enumerate(names):
        short = name.startswith(_SHORT)
        if woman:
            weights[i] = 0.45 if short else (4.5 if name.startswith("long") else 2.0)
        else:
            weights[i] = 2.0 if short else 0.12
        if name.startswith(CURLY):
            weights[i] *= 0.1 + 3 * african
        if name.startswith(_OVER_EYE):
            weights[i] *= 0.3
    return str(names[int(rng.choice(len(names), p=weights / weights.sum()))]), 0.85


def _aged(rng: np.random.Generator, person: Person, age: float, woman: bool) -> Person:
    """Children have no beards, and old people are greyer."""
    changes: dict[str, Any] = {}
    if age < -0.3:
        changes |= {"beard": (0.0, 0.0, 0.0), "makeup": 0.0}
    grey = np.clip(rng.uniform(-1.3, 0.9) + 1.8 * (age - 0.5), 0, 1) * (0.4 if woman else 1)
    if grey > 0:
        tone = np.full(3, rng.uniform(0.18, 0.6), np.float32)
        changes["hair"] = (person.hair + grey * (tone - person.hair)).astype(np.float32)
        changes["brow"] = (person.brow + 0.6 * grey * (0.5 * tone - person.brow)).astype(np.float32)
    return replace(person, **changes)
