"""Texture swatches: sheets of square pictures, a sheet for each kind of surface."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ...data.listing import stays_inside
from ...errors import InputError
from ...files import atomic_folder
from ...readers.pictures import open_upright

TILE, COLUMNS = 128, 8
LIST, FIELDS = "textures.csv", ("file", "tiles")
QUALITY = 95


class Textures:
    """The swatches of a folder with `textures.csv` (columns file, tiles).

    Attributes:
        tiles: (T, 128, 128, 3) uint8.
        kinds: kind → numbers of its tiles.
        files: the list and the pictures.

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
        self.files = [folder / LIST]
        number = 0
        try:
            with (folder / LIST).open(newline="", encoding="utf-8-sig") as file:
                rows = [(row["file"], int(row["tiles"])) for row in csv.DictReader(file)]
            for name, count in rows:
                if not stays_inside(PurePosixPath(name)):
                    raise ValueError(f"{LIST}: {name!r} is no picture inside the folder")
                sheet = np.asarray(open_upright(folder / name))
                self.files.append(folder / name)
                first = len(tiles)
                for tile in range(count):
                    row, column = divmod(tile, COLUMNS)
                    number += 1
                    place = sheet[row * TILE :, column * TILE :][:TILE, :TILE]
                    if place.shape != (TILE, TILE, 3):
                        raise ValueError(f"{name} has no {count} tiles")
                    if keep is None or number % of in keep:
                        tiles.append(place)
                self.kinds[Path(name).stem] = np.arange(first, len(tiles))
        except InputError:
            raise
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise InputError(f"{folder}: no folder of textures ({error})") from None
        if not tiles:
            raise InputError(f"{folder}: holds {number} textures; give at least {of}")
        self.tiles = np.stack(tiles)

    def some(self, rng: np.random.Generator, *kinds: str) -> np.ndarray:
        """A (128, 128, 3) uint8 swatch of one of the kinds, or, without any, of any kind."""
        numbers = [self.kinds[kind] for kind in kinds if len(self.kinds.get(kind, ()))]
        several = np.concatenate(numbers) if numbers else np.arange(len(self.tiles))
        return self.tiles[int(rng.choice(several))]


def write_textures(pictures: Iterable[Path], folder: Path) -> dict[str, int]:
    """Make a folder of textures from pictures of surfaces, or replace it.

    Args:
        pictures: named by the kind of surface and a number, as ambientCG's are; the largest square
            in the middle of each is taken.
        folder: what `Textures` reads.

    Returns:
        Kind → how many there are.

    Raises:
        InputError: a picture cannot be read or its name has no kind, or the folder cannot be
            written.
    """
    tiles: dict[str, list[np.ndarray]] = {}
    for path in pictures:
        kind = re.match(r"[A-Za-z]+", path.stem)
        if kind is None:
            raise InputError(f"{path}: the name must begin with a kind, such as Bricks012; rename")
        picture = open_upright(path)
        side = min(picture.size)
        x, y = (picture.width - side) / 2, (picture.height - side) / 2
        square = picture.resize((TILE, TILE), Image.Resampling.BOX, box=(x, y, x + side, y + side))
        tiles.setdefault(kind[0], []).append(np.asarray(square))
    with atomic_folder(folder) as place:
        place.mkdir()
        for name, own in tiles.items():
            sheet = np.zeros((math.ceil(len(own) / COLUMNS) * TILE, COLUMNS * TILE, 3), np.uint8)
            for number, tile in enumerate(own):
                y, x = np.array(divmod(number, COLUMNS)) * TILE
                sheet[y : y + TILE, x : x + TILE] = tile
            Image.fromarray(sheet).save(place / f"{name}.jpg", quality=QUALITY, subsampling=0)
        with (place / LIST).open("w", newline="", encoding="utf-8") as file:
            rows = [(f"{name}.jpg", len(own)) for name, own in tiles.items()]
            csv.writer(file, lineterminator="\n").writerows([FIELDS, *rows])
    return {name: len(own) for name, own in tiles.items()}
