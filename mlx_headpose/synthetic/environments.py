"""Panoramas of real places: light for rendering, and perspective views for backgrounds.

A folder holds `environments.csv` (columns file, scale, maximum, use), panoramas whose pixels keep
radiance on a logarithmic scale, and `lighting.npz` (names, and radiance (N, 64, 128, 3));
`panoramas.py` makes it.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..data.listing import stays_inside
from ..errors import InputError
from ..readers.npy import read_member
from ..readers.pictures import open_upright
from .light import Light

_BRIGHT = 0.35  # of the brightest pixel: what belongs to the lamp
_VIEWS = 48  # directions and fields of view that panoramas are seen in
_SOFT = 2  # a panorama has fewer pixels than an image by about this factor
LIST, LIGHTING = "environments.csv", "lighting.npz"
FIELDS = ("file", "scale", "maximum", "use")
USES = ("background", "lighting")  # the latter only lights heads
HELD_OUT = 6  # every so many panoramas only validation shows


class Environments:
    """The panoramas of a folder.

    Args:
        folder: see above.
        names: file names of the panoramas to use; None means all.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, names: list[str] | None = None):
        self.folder = folder
        self._pixels: dict[int, np.ndarray] = {}
        try:
            with (folder / LIST).open(newline="", encoding="utf-8-sig") as file:
                rows = [r for r in csv.DictReader(file) if names is None or r["file"] in names]
            self.backgrounds = [
                (r["file"], float(r["scale"]), float(r["maximum"]))
                for r in rows
                if r["use"] == USES[0]
            ]
            for name, *numbers in self.backgrounds:
                if not stays_inside(PurePosixPath(name)):
                    raise ValueError(f"{LIST}: {name!r} is no picture inside the folder")
                if not (np.isfinite(numbers).all() and min(numbers) > 0):
                    raise ValueError(f"{LIST}: {name!r} has an impossible scale or maximum")
            stems = [Path(r["file"]).stem for r in rows]
            if not stems:
                raise ValueError(f"{LIST} lists no panorama")
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise InputError(f"{folder}: no folder of environments ({error})") from None
        radiance = self._lighting(folder / LIGHTING)
        missing = [stem for stem in stems if stem not in radiance]
        if missing:
            raise InputError(f"{folder}: {LIGHTING} lacks {missing[0]!r}; make the folder again")
        self.radiance = np.stack([radiance[stem] for stem in stems])

    @staticmethod
    def _lighting(path: Path) -> dict[str, np.ndarray]:
        """Name of a panorama → its (64, 128, 3) radiance."""
        names, radiance = read_member(path, "names", "U"), read_member(path, "radiance", "f")
        whole = radiance.ndim == 4 and radiance.shape[3] == 3 and names.shape == radiance.shape[:1]
        if not whole or 0 in radiance.shape or not np.isfinite(radiance).all():
            raise InputError(f"{path}: holds no light of panoramas; make the folder again")
        return dict(zip(names.tolist(), radiance, strict=True))

    @classmethod
    def of_split(cls, folder: Path, split: str) -> Environments:
        """The panoramas that a split ("train" or "val") shows; they share none.

        Raises:
            InputError: a file is missing or damaged, or there is one background or none.
        """
        names = sorted(name for name, *_ in cls(folder).backgrounds)
        if len(names) < 2:
            raise InputError(
                f"{folder}: training and validation share no panoramas; give at least 2 "
                "background panoramas"
            )
        shown = [n for i, n in enumerate(names) if (i % HELD_OUT == 0) == (split == "val")]
        return cls(folder, shown)

    def light(self, rng: np.random.Generator) -> Light:
        """The light of a place, turned by some angle: a lamp where it is brightest, and the rest.

        The lamp and the mean light from above and below keep the place's own colours.
        """
        place = self.radiance[int(rng.integers(len(self.radiance)))]
        height, width = place.shape[:2]
        elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
        azimuth = (np.arange(width) + 0.5) / width * 2 * np.pi + rng.uniform(0, 2 * np.pi)
        area = np.cos(elevation)[:, None]
        brightness = place.mean(-1)
        lamp = brightness >= _BRIGHT * brightness.max()
        energy = (brightness * area * lamp)[..., None]
        direction = np.stack(
            np.broadcast_arrays(
                np.sin(azimuth)[None] * np.cos(elevation)[:, None],
                -np.sin(elevation)[:, None],
                np.cos(azimuth)[None] * np.cos(elevation)[:, None],
            ),
            -1,
        )
        towards = (direction * energy).sum((0, 1))
        towards /= np.linalg.norm(towards) + 1e-9
        rest = np.where(lamp[..., None], 0, place)
        up = elevation > 0
        above = (rest[up] * area[up, None]).sum((0, 1)) / (area[up].sum() * width)
        below = (rest[~up] * area[~up, None]).sum((0, 1)) / (area[~up].sum() * width)
        lamps = (place * area[..., None] * lamp[..., None]).sum((0, 1)) / (area.sum() * width)
        total = float((above + below).mean() / 2 + 4 * lamps.mean()) + 1e-9
        # Cameras balance most of a light's colour away.
        balance = (above + below) / 2 + 4 * lamps
        balance = (balance / balance.mean() + 1e-3) ** -float(rng.uniform(0.4, 1))
        lamp_colour, above, below = (
            np.asarray(c * balance / total, np.float32)
            for c in (5 * lamps, 0.9 * above, 0.9 * below)
        )
        return Light(
            towards.astype(np.float32),
            np.clip(lamp_colour, 0, 3),
            np.clip(above, 0.02, 3),
            np.clip(below, 0.02, 3),
            np.zeros(3, np.float32),
            float(np.exp(rng.normal(0.1, 0.25))),
        )

    def view(self, size: int, rng: np.random.Generator) -> Image.Image:
        """A perspective view of a panorama, exposed as a camera would, or darker or lighter.

        Args:
            size: side in pixels.
            rng: source of place, direction and exposure.

        Raises:
            InputError: the panorama's file cannot be read, or all panoramas only light heads.
        """
        if not self.backgrounds:
            raise InputError(f"{self.folder}: all its panoramas are for lighting; add backgrounds")
        pixels, scale, maximum = self._panorama(int(rng.integers(len(self.backgrounds))))
        height, width = pixels.shape[:2]
        row, column = _directions(-(-size // _SOFT), height, width)[int(rng.integers(_VIEWS))]
        column = (column + int(rng.integers(width))) % width
        seen = pixels[row, column]
        radiance = scale * np.expm1(np.arange(256) / 255 * np.log1p(maximum / scale))
        mean = np.median(radiance[seen[..., 1].ravel()[::17]]) + 1e-4
        exposed = radiance * (0.18 * np.exp(rng.normal(0.2, 0.5)) / mean)
        tone = 255 * np.clip(exposed / (1 + 0.4 * exposed), 0, 1) ** (1 / 2.2)
        picture = Image.fromarray(tone.astype(np.uint8)[seen])
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture.resize((size, size), Image.Resampling.BICUBIC)

    def _panorama(self, number: int) -> tuple[np.ndarray, float, float]:
        """Pixels (H, W, 3) uint8 of background `number`, kept, and its scale and maximum."""
        name, scale, maximum = self.backgrounds[number]
        if number not in self._pixels:
            self._pixels[number] = np.asarray(open_upright(self.folder / name))
        return self._pixels[number], scale, maximum


@lru_cache(maxsize=4)
def _directions(side: int, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns (side, side) of a panorama that pictures in some directions show."""
    rng = np.random.default_rng(5)
    views = []
    y, x = np.meshgrid(*(2 * [(np.arange(side) + 0.5) / side * 2 - 1]), indexing="ij")
    for _ in range(_VIEWS):
        zoom = np.tan(np.radians(rng.uniform(35, 110)) / 2)
        pitch, roll = np.radians(rng.normal(-6, 14)), np.radians(rng.normal(0, 5))
        across = zoom * (x * np.cos(roll) - y * np.sin(roll))
        down = zoom * (x * np.sin(roll) + y * np.cos(roll))
        up = np.sin(pitch) - np.cos(pitch) * down
        ahead = np.cos(pitch) + np.sin(pitch) * down
        azimuth, elevation = np.arctan2(across, ahead), np.arctan2(up, np.hypot(across, ahead))
        row = np.clip((0.5 - elevation / np.pi) * height, 0, height - 1).astype(np.intp)
        column = ((azimuth / (2 * np.pi) + 0.5) * width).astype(np.intp) % width
        views.append((row, column))
    return views
