"""Texture swatches: sheets of square pictures, a sheet for each kind of surface."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import InputError

TILE, COLUMNS = 128, 8


class Textures:
    """The swatches of a folder with `textures.csv` (columns file, tiles).

    Attributes:
        tiles: (T, 128, 128, 3) uint8.
        kinds: kind → numbers of its tiles.

    Args:
        folder: see above.
        keep: numbers of tiles to take, modulo `of`; None takes all.
        of: see `keep`.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, keep: tuple[int, ...] | None = None, of: int = 1):
        tiles: list[np.ndarray] = []
        self.kinds: dict[str, np.ndarray] = {}
        number = 0
        try:
            with (folder / "textures.csv").open(newline="", encoding="utf-8") as file:
                rows = [(row["file"], int(row["tiles"])) for row in csv.DictReader(file)]
            for name, count in rows:
                sheet = np.asarray(Image.open(folder / name).convert("RGB"))
                first = len(tiles)
                for tile in range(count):
                    row, column = divmod(tile, COLUMNS)
                    number += 1
                    if keep is None or number % of in keep:
                        place = sheet[row * TILE :, column * TILE :][:TILE, :TILE]
                        tiles.append(place)
                self.kinds[Path(name).stem] = np.arange(first, len(tiles))
            self.tiles = np.stack(tiles)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{folder}: no folder of textures ({error})") from None

    def some(self, rng: np.random.Generator, *kinds: str) -> np.ndarray:
        """A (128, 128, 3) uint8 swatch of one of the kinds, or, without any, of any kind."""
        numbers = [self.kinds[kind] for kind in kinds if len(self.kinds.get(kind, ()))]
        several = np.concatenate(numbers) if numbers else np.arange(len(self.tiles))
        return self.tiles[int(rng.choice(several))]
