"""Crops of scenes as a rendered set: heads with their poses, and what a detector takes for heads.

A network that estimates poses learns here what it will be given: a detector's boxes, of people
among others, and boxes without a head, whose three angles stay empty in the list.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...files import atomic_path, remove_temporaries
from ..render_set import QUALITY, claimed
from ..rendered import LIST, write_list
from .dataset import SceneSet

# An image and its (M, 11) targets → (N, 4) boxes of landmarks, (N, 4) boxes of heads, and (N,)
# which target each finds, −1 for none and −2 for what neither is a head nor none.
Finder = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]

PER_FOLDER = 100  # scenes
REACH = 1.6  # sides of the box that an image shows around it: looser and turned crops need them
SIDE = 224  # pixels of an image at most
MOST_OTHERS = 3  # boxes of a scene that show no head
NOTHING = 0.3  # share of the scenes of which a box at random is added, if it shows no head
SMALLEST = 8  # pixels of a box


def render_crops(scenes: SceneSet, find: Finder, folder: Path, settings: dict[str, Any]) -> int:
    """Write the crops of scenes to a folder; those of scenes that are there stay.

    Args:
        scenes: scenes, see `SceneSet`.
        find: the detector.
        folder: folder of the part of a rendered set, see `rendered`.
        settings: what decides how crops look; those of other settings are not added to.

    Of the boxes of a scene that show no head, a detector's best are taken.

    Returns:
        Number of crops in the folder.

    Raises:
        InputError: the folder holds something else, or another command renders there.
        KeyboardInterrupt: Ctrl-C; whole groups of scenes are listed.
    """
    with claimed(folder, settings):
        return _render_rest(scenes, find, folder)


def _render_rest(scenes: SceneSet, find: Finder, folder: Path) -> int:
    """Write the crops that a claimed folder lacks; see `render_crops`."""
    groups = [
        range(start, min(start + PER_FOLDER, len(scenes)))
        for start in range(0, len(scenes), PER_FOLDER)
    ]
    lists = [_list_of(group, folder) for group in groups]
    waiting = [
        (group, path) for group, path in zip(groups, lists, strict=True) if not path.exists()
    ]
    done = len(scenes) - sum(len(group) for group, _ in waiting)
    try:
        with tqdm(total=len(scenes), initial=done, unit="scene", disable=None) as bar:
            for group, path in waiting:
                remove_temporaries(path.parent)
                rows = []
                for index in group:
                    rows += list(_crops(scenes, index, find, path.parent))
                    bar.update()
                write_list(path, rows)
    except KeyboardInterrupt:
        _join(lists, folder)
        raise
    return _join(lists, folder)


def _list_of(group: range, folder: Path) -> Path:
    """Where the crops of a group of scenes are listed; the name of a part of one says its size."""
    name = LIST if len(group) == PER_FOLDER else f"{len(group)}-{LIST}"
    return folder / f"{group.start // PER_FOLDER:03d}" / name


def _crops(scenes: SceneSet, index: int, find: Finder, folder: Path) -> Iterator[list[str]]:
    """Write the crops of a scene; yields their rows."""
    image, targets, poses = scenes.posed(index)
    faces, heads, which = find(image, targets)
    nothing = which == -1
    kept = (which >= 0) | (nothing & (np.cumsum(nothing) <= MOST_OTHERS))
    for each in (faces, heads):  # a head's is cut at the image's edge
        kept &= (each[:, 2:] - each[:, :2]).min(1, initial=np.inf) >= SMALLEST
    nowhere = np.full(3, np.nan)
    faces, heads = faces[kept], heads[kept]
    poses = np.vstack([poses, nowhere])[which[kept]]  # −1 is the last row
    rng = np.random.default_rng((scenes.seed, 43, index))
    if rng.random() < NOTHING:
        box = _at_random(targets, len(image), rng)
        if box is not None:
            faces, heads = np.vstack([faces, box]), np.vstack([heads, box])
            poses = np.vstack([poses, nowhere])
    for number, (face, head, pose) in enumerate(zip(faces, heads, poses, strict=True)):
        name = f"{folder.name}/{index:06d}-{number}.jpg"
        picture, corner, scale = _surroundings(image, face)
        with atomic_path(folder / Path(name).name) as temporary:
            picture.save(temporary, "JPEG", quality=QUALITY)
        boxes = [(np.append(b[:2] - corner, b[2:] - b[:2]) * scale).tolist() for b in (head, face)]
        angles = ["" if np.isnan(v) else f"{v:.3f}" for v in pose]
        yield [name, *(f"{v:.3f}" for v in boxes[0]), *angles, *(f"{v:.3f}" for v in boxes[1])]


def _at_random(targets: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray | None:
    """A (4,) box somewhere that touches no head, or None."""
    size = np.exp(rng.uniform(np.log(2 * SMALLEST), np.log(0.5 * side)))
    corner = rng.uniform(0, side - size, 2)
    box = np.concatenate((corner, corner + size))
    there = targets[targets[:, 10] != 0, :4]
    apart = (there[:, :2] > box[2:]) | (there[:, 2:] < box[:2])
    return box if apart.any(axis=1).all() else None


def _surroundings(image: np.ndarray, box: np.ndarray) -> tuple[Image.Image, np.ndarray, float]:
    """What is around a box, its (2,) upper left corner in the scene, and its scale."""
    reach = REACH * (box[2:] - box[:2]).max()
    low = np.maximum(np.floor(box[:2] - reach), 0).astype(int)
    high = np.minimum(np.ceil(box[2:] + reach), image.shape[1::-1]).astype(int)
    picture = Image.fromarray(image[low[1] : high[1], low[0] : high[0]])
    scale = min(1.0, SIDE / max(picture.size))
    if scale < 1:
        width, height = (math.ceil(scale * side) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    return picture, low, scale


def _join(lists: list[Path], folder: Path) -> int:
    """Write the list of all groups of scenes that are there; returns its number of rows."""
    rows: list[list[str]] = []
    for path in lists:
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows += list(csv.reader(file))[1:]
    write_list(folder / LIST, rows)
    return len(rows)
