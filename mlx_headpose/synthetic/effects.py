"""What makes a rendered head look photographed, in groups of which each can be left out.

Every group has random numbers of its own, so leaving one out changes nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from ..errors import InputError
from . import occlusion, surroundings
from .environments import Environments
from .light import sample_tint
from .photo import PLAIN, Photo

GROUPS = {
    "background": "gradients, textures, patterns, blurred lights and people behind the head",
    "occlusion": "hands and things before the head",
    "exposure": "brightness, contrast, tone curves, vignettes and uneven light",
    "colour": "casts, saturation, toning and grey pictures",
    "blur": "defocus, motion and sharpening",
    "resolution": "heads of few pixels, scaled up",
    "noise": "of brightness and of colour, fine and blotchy",
    "compression": "JPEG of any quality",
}
_GREY = np.array((0.299, 0.587, 0.114))
# Photos of people are warmer than a grey card would have them.
_WARM = np.array((1.03, 0.99, 0.99))
_LEVELS = np.arange(256) / 255


def without(names: str) -> tuple[str, ...]:
    """Groups to leave out, as options name them: separated by commas, or "none"."""
    return () if names == "none" else tuple(names.split(","))


def photo(groups: Collection[str] | None, environments: Environments | None = None) -> Photo:
    """The camera without some groups of effects, perhaps before real places.

    Without groups (None) it is the plain camera, before no place.
    """
    return PLAIN if groups is None else Effects(groups, environments)


class Effects(Photo):
    """Surroundings and camera as varied as those of photos on the web.

    Args:
        without: names of groups to leave out. Without "background", the head is before one grey.
        environments: panoramas of which every second background is a view, or None.

    Raises:
        InputError: no such group.
    """

    def __init__(self, without: Collection[str] = (), environments: Environments | None = None):
        for name in without:
            if name not in GROUPS:
                raise InputError(f"no camera effect {name!r}; choose of: {', '.join(GROUPS)}")
        self.without = frozenset(without)
        self.environments = environments

    def background(self, side: int, rng: np.random.Generator) -> Image.Image:
        """An RGB picture to put the head on."""
        stream = self._streams(rng)["background"]
        if "background" in self.without:
            return Image.new("RGB", (side, side), (128, 128, 128))
        if self.environments is None or stream.random() < 0.5:
            return surroundings.background(side, stream)
        picture = self.environments.view(side, stream)
        if stream.random() < 0.5:  # out of focus
            radius = side * np.exp(stream.uniform(np.log(0.005), np.log(0.05)))
            picture = picture.filter(ImageFilter.BoxBlur(float(radius)))
        return picture

    def occlude(self, picture: Image.Image, skin: np.ndarray, rng: np.random.Generator) -> None:
        """At times put a hand of the (3,) albedo `skin`, or a thing, before the head."""
        stream = self._streams(rng)["occlusion"]
        if "occlusion" not in self.without:
            occlusion.occlude(picture, skin, stream)

    def develop(self, picture: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
        """What lens, sensor, retouching and file make of a picture, at `side` pixels."""
        streams = {k: v for k, v in self._streams(rng).items() if k not in self.without}
        if "blur" in streams:
            picture = blurred(picture, streams["blur"])
        low, shrink, enlarge = side, Image.Resampling.BOX, Image.Resampling.BICUBIC
        if "resolution" in streams:
            low, shrink, enlarge = sample_resolution(side, streams["resolution"])
        picture = picture.resize((low, low), shrink)
        for name, effect in (
            ("blur", sharpened),
            ("exposure", exposed),
            ("colour", coloured),
            ("noise", noisy),
            ("compression", compressed),
        ):
            if name in streams:
                picture = effect(picture, streams[name])
        return picture.resize((side, side), enlarge)

    def _streams(self, rng: np.random.Generator) -> dict[str, np.random.Generator]:
        seeds = rng.integers(0, 2**63, len(GROUPS))
        return {
            name: np.random.Generator(np.random.PCG64(int(seed)))
            for name, seed in zip(GROUPS, seeds, strict=True)
        }


def blurred(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Defocus, a camera or a head that moves, or neither."""
    kind, side = rng.random(), picture.width
    if kind < 0.2:
        radius = side * np.exp(rng.uniform(np.log(0.002), np.log(0.016)))
        lens = ImageFilter.GaussianBlur if rng.random() < 0.5 else ImageFilter.BoxBlur
        return picture.filter(lens(float(radius)))
    if kind < 0.28:
        return moved(picture, side * rng.uniform(0.008, 0.05), rng.uniform(0, np.pi))
    return picture


def moved(picture: Image.Image, length: float, angle: float) -> Image.Image:
    """Blurred along a line of `length` pixels at `angle` radians."""
    steps = max(2, min(round(length), 12))
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    reach = int(np.ceil(length / 2))
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = np.zeros(pixels.shape, np.uint16)
    for at in np.linspace(-length / 2, length / 2, steps):
        x, y = round(at * np.cos(angle)) + reach, round(at * np.sin(angle)) + reach
        total += padded[y : y + height, x : x + width]
    return Image.fromarray((total // steps).astype(np.uint8))


def sharpened(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The halos around edges that cameras and retouching leave, at times."""
    if rng.random() > 0.4:
        return picture
    radius, percent = float(rng.uniform(0.6, 2.0)), int(rng.uniform(40, 150))
    return picture.filter(ImageFilter.UnsharpMask(radius, percent, 2))


def sample_resolution(
    side: int, rng: np.random.Generator
) -> tuple[int, Image.Resampling, Image.Resampling]:
    """Side in pixels at which the sensor sees the picture, and how it is scaled there and back."""
    shrink = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
    enlarge = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    share = np.exp(rng.uniform(np.log(0.2), 0)) if rng.random() < 0.25 else 1.0
    return (
        max(16, round(side * share)),
        shrink[int(rng.choice(3, p=(0.4, 0.4, 0.2)))],
        enlarge[int(rng.choice(3, p=(0.55, 0.4, 0.05)))],
    )


def exposed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exposure, contrast and tone curve; at times a vignette or light from one side.

    Exposure follows the light in the picture's middle, as a camera's automatic does, but not all
    the way: what is dark stays darker.
    """
    centre = picture.resize((8, 8), Image.Resampling.BOX).convert("L").crop((2, 2, 6, 6))
    light = max(float(np.mean(np.asarray(centre))), 4) / 255
    wanted = np.exp(rng.normal(np.log(0.52), 0.22))
    gain = (wanted / light) ** 0.75
    curve = np.minimum(_LEVELS * gain, 1)
    if gain > 1:  # highlights roll off instead of all burning out
        curve = np.where(curve > 0.7, 0.7 + 0.3 * np.tanh((_LEVELS * gain - 0.7) / 0.45), curve)
    black = abs(rng.normal(0, 0.06))
    curve = np.maximum(curve - black, 0) / (1 - black)
    steep = max(rng.normal(0.28, 0.35), -0.3)
    # An S around the middle, or, where `steep` is negative, a flat picture.
    curve = np.clip(curve + steep * (curve - 0.5) * (1 - np.abs(2 * curve - 1)) * 2, 0, 1)
    if rng.random() < 0.22:
        lift = rng.exponential(0.06)
        curve = lift + (1 - lift) * curve
    if rng.random() < 0.025:  # a hard edit, close to black and white
        curve = np.clip((curve - rng.uniform(0.35, 0.55)) * rng.uniform(1.5, 4) + 0.5, 0, 1)
    picture = picture.point([round(255 * v) for v in curve] * 3)
    if rng.random() < 0.25:
        return unevenly_lit(picture, rng)
    return picture


def unevenly_lit(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Darker towards the edges or to one side."""
    side = picture.width
    x = np.linspace(-1, 1, side, dtype=np.float32)
    strength, angle = rng.uniform(0.1, 0.7), rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        field = 1 - np.float32(strength) * np.minimum((x * x)[:, None] + x * x, 1.4)
    else:
        across = np.cos(angle) * x + np.sin(angle) * x[:, None]
        field = 1 + np.float32(strength * 0.5) * across.astype(np.float32)
    pixels = np.asarray(picture) * np.maximum(field, 0)[..., None]
    return Image.fromarray(np.minimum(pixels, 255).astype(np.uint8))


def coloured(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Saturation and cast, cross-processed tones, or grey, perhaps toned."""
    kind = rng.random()
    if kind < 0.2:
        weights = _GREY if rng.random() < 0.6 else rng.dirichlet((2, 2, 1))
        tone = sample_tint(rng, 0.16) if rng.random() < 0.25 else np.ones(3)
        mixing = tone[:, None] * weights
    else:
        saturation = float(np.clip(np.exp(rng.normal(0.03, 0.29)), 0.1, 2.2))
        cast = sample_tint(rng, 0.06 if rng.random() < 0.88 else 0.18)
        cast = cast * _WARM
        mixing = cast[:, None] * (saturation * np.eye(3) + (1 - saturation) * _GREY)
    picture = picture.convert("RGB", tuple(np.insert(mixing, 3, 0, axis=1).ravel()))
    if kind > 0.85:
        shadows, gamma = rng.uniform(0, 0.14, 3), np.exp(rng.normal(0, 0.14, 3))
        curves = shadows + (1 - shadows) * _LEVELS[:, None] ** gamma
        picture = picture.point([round(255 * v) for v in curves.T.ravel()])
    return picture


def noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sensor noise that grows with brightness, or film grain; blotches of colour."""
    strength = np.exp(rng.normal(np.log(1.7), 0.85))
    if strength < 0.8:
        return picture
    side = picture.width
    pixels = np.asarray(picture).astype(np.float32)
    grain = _field(side, side if rng.random() < 0.5 else int(side * rng.uniform(0.4, 0.9)), rng)
    shot = rng.random() < 0.7
    amount = np.sqrt(0.3 + pixels[..., 1] * np.float32(0.7 / 128)) if shot else np.float32(1)
    pixels += (grain * amount * np.float32(min(strength, 24)))[..., None]
    chroma = min(strength, 16) * rng.uniform(0, 1.3)
    if chroma > 1 and rng.random() < 0.6:
        cells = max(4, int(side * rng.uniform(0.15, 1)))
        red, blue = _field(side, cells, rng), _field(side, cells, rng)
        pixels[..., 0] += np.float32(chroma) * red
        pixels[..., 1] -= np.float32(0.3 * chroma) * (red + blue)
        pixels[..., 2] += np.float32(chroma) * blue
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def _field(side: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side) float32 noise of about unit variance, in blotches where `cells` < side."""
    noise = rng.standard_normal((cells, cells), np.float32)
    if cells == side:
        return noise
    return np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)) * 1.25


def compressed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Stored as JPEG and read again, or not."""
    if rng.random() < 0.3:
        return picture
    quality = int(np.clip(rng.beta(2.2, 1.2) * 100, 8, 97))
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0 if rng.random() < 0.25 else 2)
    with Image.open(file) as stored:
        return stored.convert("RGB")
