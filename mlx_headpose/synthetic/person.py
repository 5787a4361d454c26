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
# Colour and share of the people.
_HAIR = {
    "black": ((26, 22, 22), 0.3), "dark brown": ((52, 36, 28), 0.24), "brown": ((92, 62, 42), 0.15),
    "light brown": ((134, 98, 64), 0.08), "blond": ((205, 168, 110), 0.08),
    "light blond": ((230, 206, 158), 0.04), "red": ((150, 68, 34), 0.04),
    "grey": ((140, 138, 136), 0.05), "white": ((218, 216, 212), 0.02),
}  # fmt: skip
_EYES = ((64, 42, 28), (92, 62, 38), (40, 30, 24), (98, 118, 92), (92, 124, 156), (124, 134, 140))

# Thickness of the hair in mm, share of the women, share of the men.
_STYLES = {
    "bald": (0, 0.0, 0.08), "buzz": (3, 0.01, 0.16), "short": (12, 0.09, 0.44),
    "receding": (5, 0.0, 0.1), "crown": (5, 0.0, 0.06), "curls": (12, 0.1, 0.07),
    "bob": (12, 0.22, 0.03), "long": (12, 0.36, 0.04), "bun": (7, 0.12, 0.0),
    "tail": (7, 0.1, 0.02),
}  # fmt: skip


def linear(colour) -> np.ndarray:
    """sRGB 0..255 → albedo 0..1, with the gamma of 2 that the renderer uses."""
    return (np.asarray(colour, np.float32) / 255) ** 2


@dataclass(frozen=True)
class Person:
    """Colours and looks of one identity; colours are (3,) float32 albedos."""

    skin: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    style: str  # one of `_STYLES`
    volume: float  # thickness of the hair in mm
    fringe: float  # how far the hair comes down the forehead in degrees; negative where it recedes
    opening: float  # azimuth in degrees at which long hair begins beside the face
    length: float  # height (y, mm) at which long hair ends
    parting: float  # azimuth of the parting in degrees
    sweep: float  # how much further the fringe comes down on one side, −1..1
    tousled: float  # unevenness of the hair's surface
    strands: float  # contrast of the strands
    beard: tuple[float, float, float]  # density 0..1 of moustache, chin and cheeks
    brow_size: float  # thickness of the brows in mm
    brow_density: float  # 0..1
    makeup: float  # 0..1, darkens the lids and colours the cheeks
    ear_size: float  # relative
    ear_flare: float  # degrees that the ears stand off
    glasses: tuple[float, float, float, float] | None  # half width, half height, thickness in mm,
    # and roundness of the rims
    glasses_colour: np.ndarray
    sunglasses: bool  # whether the lenses are dark
    hat: str | None  # None, "beanie", "cap" or "scarf"
    hat_colour: np.ndarray
    clothes: np.ndarray
    clothes2: np.ndarray
    collar: float  # height (y, mm) at which the clothes begin
    shoulders: float  # relative width
    neck: float  # relative width
    freckles: float  # strength of the skin's unevenness


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


def sample_person(rng: np.random.Generator, feminine: bool) -> Person:
    """Random looks of a woman or a man."""
    skin = _skin(rng)
    darkness = 1 - float(skin.mean()) / 0.7
    share = np.array([share for _, share in _HAIR.values()])
    if darkness > 0.7:
        share = share * np.array((5, 1.5, 0.4, 0.1, 0.05, 0.03, 0.05, 0.7, 0.4))
    tone = [tone for tone, _ in _HAIR.values()][rng.choice(len(_HAIR), p=share / share.sum())]
    hair = linear(np.clip(np.array(tone) * rng.uniform(0.75, 1.25), 4, 250))
    if feminine and rng.random() < 0.06:
        hair = _vivid(rng) * 0.7
    brow_colour = np.minimum(hair, linear((120, 92, 66))) * rng.uniform(0.5, 0.95)
    _, women, men = zip(*_STYLES.values(), strict=True)
    style = str(rng.choice(list(_STYLES), p=women if feminine else men))
    volume = _STYLES[style][0] * rng.uniform(0.7, 1.5)
    if style == "curls":
        volume = rng.uniform(14, 42)
    fringe = rng.normal(0, 3)
    if style in ("short", "bob", "long", "curls") and rng.random() < 0.4:
        fringe = rng.uniform(6, 25)
    reddish = np.array((0.92, 0.42, 0.46) if feminine else (0.85, 0.5, 0.52))
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
    glasses = hat = None
    if rng.random() < 0.17:
        glasses = tuple(rng.uniform((23, 14, 1.2, 2), (30, 23, 3.6, 4.5)))
    if rng.random() < 0.11:
        hat = str(rng.choice(("beanie", "cap", "cap", "scarf")))
    return Person(
        skin=skin,
        lips=np.clip(lips, 0.004, 0.8).astype(np.float32),
        iris=linear(_EYES[int(rng.choice(6, p=(0.3, 0.22, 0.2, 0.09, 0.12, 0.07)))]),
        hair=hair.astype(np.float32),
        brow=brow_colour.astype(np.float32),
        style=style,
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
