"""Who somebody is: everything about a head that stays the same from picture to picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# sRGB colours as people see them; `linear` makes albedos of them.
_SKIN = np.array(
    [
        (244, 214, 196), (238, 198, 174), (228, 184, 156), (222, 170, 134), (205, 150, 114),
        (186, 132, 98), (160, 108, 78), (128, 84, 60), (98, 64, 48), (74, 49, 39),
    ]
)  # fmt: skip
_HAIR = {
    "black": (26, 22, 22),
    "dark brown": (52, 36, 28),
    "brown": (92, 62, 42),
    "light brown": (134, 98, 64),
    "blond": (205, 168, 110),
    "light blond": (230, 206, 158),
    "red": (150, 68, 34),
    "grey": (140, 138, 136),
    "white": (218, 216, 212),
}
_HAIR_SHARE = (0.3, 0.24, 0.15, 0.08, 0.08, 0.04, 0.04, 0.05, 0.02)
_EYES = ((64, 42, 28), (92, 62, 38), (40, 30, 24), (98, 118, 92), (92, 124, 156), (124, 134, 140))

HAIR_STYLES = ("bald", "buzz", "short", "receding", "crown", "curls", "bob", "long", "bun", "tail")


def linear(colour) -> np.ndarray:
    """sRGB 0..255 → albedo 0..1, with the gamma of 2 that the renderer uses."""
    return (np.asarray(colour, np.float32) / 255) ** 2


@dataclass(frozen=True)
class Person:
    """One identity.

    Attributes:
        shape: (K,) float32 weights of `shape.SHAPES`, standard deviations.
        skin, lips, iris, hair, brow: (3,) albedos.
        style: one of HAIR_STYLES.
        volume: thickness of the hair in mm.
        fringe: how far the hair comes down the forehead in degrees; negative where it recedes.
        opening: azimuth in degrees at which long hair begins beside the face.
        length: height (y, mm) at which long hair ends.
        parting: azimuth of the parting in degrees.
        sweep: how much further the fringe comes down on one side, −1..1.
        tousled: unevenness of the hair's surface.
        strands: contrast of the strands.
        beard: density 0..1 of moustache, chin and cheeks.
        brow_size: thickness of the brows in mm.
        brow_density: 0..1.
        makeup: 0..1, darkens the lids and colours the cheeks.
        ear_size, ear_flare: relative size; degrees that the ears stand off.
        glasses: None, or (rim's half width, half height, thickness in mm, roundness).
        glasses_colour: (3,) albedo of the rims.
        sunglasses: whether the lenses are dark.
        hat: None, "beanie", "cap" or "scarf".
        hat_colour, clothes, clothes2: (3,) albedos.
        collar: height (y, mm) at which the clothes begin.
        shoulders: relative width.
        neck: relative width.
        freckles: strength of the skin's unevenness.
    """

    shape: np.ndarray
    skin: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    style: str
    volume: float
    fringe: float
    opening: float
    length: float
    parting: float
    sweep: float
    tousled: float
    strands: float
    beard: tuple[float, float, float]
    brow_size: float
    brow_density: float
    makeup: float
    ear_size: float
    ear_flare: float
    glasses: tuple[float, float, float, float] | None
    glasses_colour: np.ndarray
    sunglasses: bool
    hat: str | None
    hat_colour: np.ndarray
    clothes: np.ndarray
    clothes2: np.ndarray
    collar: float
    shoulders: float
    neck: float
    freckles: float


def _vivid(rng: np.random.Generator) -> np.ndarray:
    """A colour of cloth: mostly dull, at times bright."""
    grey = rng.uniform(0.05, 0.95)
    colour = grey + rng.uniform(0.0, 0.4) * rng.uniform(0.2, 1) * (rng.random(3) - 0.5)
    return (np.clip(colour, 0.02, 1) ** 2).astype(np.float32)


def _skin(rng: np.random.Generator) -> np.ndarray:
    tone = rng.uniform(0, len(_SKIN) - 1) * rng.choice((0.62, 1.0))
    low = int(tone)
    high = min(low + 1, len(_SKIN) - 1)
    colour = _SKIN[low] + (tone - low) * (_SKIN[high] - _SKIN[low])
    return linear(np.clip(colour * (1 + rng.normal(0, 0.025, 3)), 5, 255))


def sample_person(rng: np.random.Generator, shape: np.ndarray, feminine: bool) -> Person:
    """Draw the looks of an identity whose (K,) shape is given."""
    skin = _skin(rng)
    darkness = 1 - float(skin.mean()) / 0.7
    names = list(_HAIR)
    share = np.array(_HAIR_SHARE)
    if darkness > 0.7:
        share = share * np.array((5, 1.5, 0.4, 0.1, 0.05, 0.03, 0.05, 0.7, 0.4))
    hair_name = names[int(rng.choice(len(names), p=share / share.sum()))]
    hair = linear(np.clip(np.array(_HAIR[hair_name]) * rng.uniform(0.75, 1.25), 4, 250))
    if feminine and rng.random() < 0.06:
        hair = _vivid(rng) * 0.7
    brow_colour = np.minimum(hair, linear((120, 92, 66))) * rng.uniform(0.5, 0.95)
    if feminine:
        style = rng.choice(HAIR_STYLES, p=(0.0, 0.01, 0.09, 0.0, 0.0, 0.1, 0.22, 0.36, 0.12, 0.1))
    else:
        style = rng.choice(
            HAIR_STYLES, p=(0.08, 0.16, 0.44, 0.1, 0.06, 0.07, 0.03, 0.04, 0.0, 0.02)
        )
    volume = {"bald": 0.0, "buzz": 3.0, "receding": 5.0, "crown": 5.0, "bun": 7.0, "tail": 7.0}.get(
        style, 12.0
    ) * rng.uniform(0.7, 1.5)
    if style == "curls":
        volume = rng.uniform(14, 42)
    fringe = rng.normal(0, 3)
    if style in ("short", "bob", "long", "curls") and rng.random() < 0.4:
        fringe = rng.uniform(6, 25)
    reddish = np.array((0.85, 0.5, 0.52)) if not feminine else np.array((0.92, 0.42, 0.46))
    lips = skin * (reddish + rng.normal(0, 0.05, 3))
    if feminine and rng.random() < 0.45:
        paint = linear((rng.uniform(130, 215), rng.uniform(20, 95), rng.uniform(40, 105)))
        lips = lips + rng.uniform(0.3, 0.9) * (paint - lips)
    beard = (0.0, 0.0, 0.0)
    if not feminine:
        kind = rng.random()
        if kind < 0.3:
            beard = tuple(rng.uniform(0.12, 0.4) * rng.uniform(0.8, 1.1, 3))
        elif kind < 0.42:
            beard = tuple(rng.uniform(0.7, 1, 3))
        elif kind < 0.5:
            beard = (rng.uniform(0.6, 1), rng.uniform(0.6, 1), 0.1)
        elif kind < 0.56:
            beard = (rng.uniform(0.6, 1), 0.05, 0.0)
    glasses = None
    if rng.random() < 0.17:
        glasses = (
            rng.uniform(23, 30), rng.uniform(14, 23), rng.uniform(1.2, 3.6), rng.uniform(2, 4.5),
        )  # fmt: skip
    hat = None
    if rng.random() < 0.11:
        hat = str(rng.choice(("beanie", "cap", "cap", "scarf")))
    return Person(
        shape=shape,
        skin=skin,
        lips=np.clip(lips, 0.004, 0.8).astype(np.float32),
        iris=linear(_EYES[int(rng.choice(6, p=(0.3, 0.22, 0.2, 0.09, 0.12, 0.07)))]),
        hair=hair.astype(np.float32),
        brow=brow_colour.astype(np.float32),
        style=str(style),
        volume=float(volume),
        fringe=float(fringe),
        opening=float(rng.uniform(50, 72)),
        length=float(rng.uniform(60, 105) if style == "bob" else rng.uniform(120, 230)),
        parting=float(rng.choice((-1, 1)) * rng.uniform(0, 32)),
        sweep=float(rng.uniform(-0.9, 0.9)),
        tousled=float(max(0.0, rng.uniform(-0.15, 0.3))),
        strands=float(rng.uniform(0.15, 0.55)),
        beard=(float(beard[0]), float(beard[1]), float(beard[2])),
        brow_size=float(rng.uniform(1.3, 2.6) if feminine else rng.uniform(2.2, 4.2)),
        brow_density=float(rng.uniform(0.45, 0.95)),
        makeup=float(rng.uniform(0.2, 1) if feminine and rng.random() < 0.6 else 0),
        ear_size=float(rng.uniform(0.85, 1.18)),
        ear_flare=float(rng.uniform(12, 42)),
        glasses=glasses,
        glasses_colour=_vivid(rng) * np.float32(0.3) if rng.random() < 0.8 else _vivid(rng),
        sunglasses=bool(rng.random() < 0.3),
        hat=hat,
        hat_colour=_vivid(rng),
        clothes=_vivid(rng),
        clothes2=_vivid(rng),
        collar=float(rng.uniform(142, 215)),
        shoulders=float(rng.uniform(0.85, 1.15)),
        neck=float(rng.uniform(0.82, 1.0) if feminine else rng.uniform(0.92, 1.16)),
        freckles=float(rng.uniform(0.01, 0.045)),
    )
