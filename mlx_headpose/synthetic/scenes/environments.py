"""Panoramas of real places: light for rendering, and perspective views for backgrounds.

A folder holds `environments.csv` (columns file, scale, maximum, use), panoramas whose pixels keep
radiance on a logarithmic scale, and `lighting.npz` (names, and radiance (N, 64, 128, 3)).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import InputError
from ..light import Light

_BRIGHT = 0.35  # of the brightest pixel: what belongs to the lamp


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
        try:
            with (folder / "environments.csv").open(newline="", encoding="utf-8") as file:
                rows = [r for r in csv.DictReader(file) if names is None or r["file"] in names]
            with np.load(folder / "lighting.npz") as lighting:
                radiance = dict(zip(lighting["names"].tolist(), lighting["radiance"], strict=True))
            self.backgrounds = [
                (r["file"], float(r["scale"]), float(r["maximum"]))
                for r in rows
                if r["use"] == "background"
            ]
            stems = [Path(r["file"]).stem for r in rows]
            self.radiance = np.stack([radiance[n] for n in stems])
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{folder}: no folder of environments ({error})") from None

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

    def panorama(self, number: int) -> tuple[np.ndarray, float, float]:
        """Pixels (H, W, 3) uint8 of background `number`, and its scale and maximum.

        Raises:
            InputError: the file cannot be read.
        """
        name, scale, maximum = self.backgrounds[number]
        try:
            pixels = np.asarray(Image.open(self.folder / name).convert("RGB"))
        except OSError as error:
            raise InputError(f"{self.folder / name}: cannot be read ({error})") from None
        return pixels, scale, maximum
