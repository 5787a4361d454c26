"""Render a set of any size to disk: in parallel, resumable, the same whatever the workers.

An image is written under another name and renamed, so killing the command leaves whole images
only, and the list names only images that are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .._version import RENDERER, __version__
from ..core.crop import BoxMargins
from ..errors import InputError
from ..files import atomic_path, locked, write_json
from .dataset import FACE, HEAD, Range, SyntheticHeads
from .effects import photo
from .environments import LIGHTING, Environments
from .processes import in_processes, interrupts_noted
from .rendered import LANDMARKS, LIST, open_landmarks, write_list

SETTINGS = {"heads": "render.json", "sprites": "sprites.json"}  # what a folder holds → their file
QUALITY = 93  # of the JPEGs: most pictures were compressed more by the camera before
PER_FOLDER = 1000
_NOTED_LATER = ("environments", "textures")  # of sprites: older folders go on without them
_TASK = 8  # heads that a worker renders before it answers
_LIST_EVERY = 60.0  # seconds between two lists while rendering goes on


@dataclass(frozen=True)
class Settings:
    """What decides the looks of head i.

    Attributes:
        seed, split, size, yaw, pitch, roll, mesh, identities, natural, tilted: see
            `SyntheticHeads`.
        camera_without: groups of camera effects to leave out; None means the plain camera.
        environments: folder of panoramas that light and surround half of the heads, or None.
    """

    seed: int = 0
    split: str = "train"
    size: int = 160
    yaw: Range = (-180, 180)
    pitch: Range = (-50, 50)
    roll: Range = (-50, 50)
    mesh: Path | None = None
    identities: int | None = None
    natural: bool = False
    tilted: bool = False
    camera_without: tuple[str, ...] | None = None
    environments: Path | None = None

    def heads(self, count: int, around: BoxMargins = FACE) -> SyntheticHeads:
        """The set itself, with exact boxes."""
        arguments = asdict(self)
        folder = self.environments
        places = None if folder is None else Environments.of_split(folder, self.split)
        arguments["environments"] = places
        camera = photo(arguments.pop("camera_without"), places)
        return SyntheticHeads(count, around=around, jitter=0, photo=camera, **arguments)

    def record(self) -> dict[str, Any]:
        """The settings as JSON, with the version; files by their content, not their place."""
        record = {"version": __version__, **json.loads(json.dumps(asdict(self), default=str))}
        for name in ("tilted", "environments"):
            if not record[name]:  # as sets were noted before there was a choice
                del record[name]
        if self.environments is not None:
            record["environments"] = digest(self.environments / LIGHTING)
        if self.mesh is not None:
            record["mesh"] = digest(self.mesh)
        return record


def digest(*paths: Path) -> str:
    """SHA-256 of files, one after the other.

    Raises:
        InputError: one cannot be read.
    """
    sha = hashlib.sha256()
    for path in paths:
        try:
            sha.update(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return sha.hexdigest()


def render_set(
    settings: Settings, count: int, folder: Path, workers: int | None = None, part: str = ""
) -> int:
    """Render heads 0 … count − 1 to `folder`/`settings.split`; those that are there stay.

    Args:
        settings: settings of the heads.
        count: number of heads.
        folder: parent of the split's folder.
        workers: number of processes; None means one per core.
        part: name of a further part of the split, which then has the folder `split-part`.

    Returns:
        Number of heads that were not there before.

    Raises:
        InputError: the folder holds heads of other settings, or cannot be written, or another
            command renders there.
        KeyboardInterrupt: Ctrl-C; what was rendered is saved and listed.
    """
    folder = folder / part_folder(settings.split, part)
    faces, wholes = settings.heads(count), settings.heads(count, around=HEAD)
    with claimed(folder, settings.record()):
        return _render_rest(settings, count, folder, (faces, wholes), workers)


def _render_rest(
    settings: Settings,
    count: int,
    folder: Path,
    boxed: tuple[SyntheticHeads, SyntheticHeads],
    workers: int | None,
) -> int:
    """Render what a claimed folder lacks; `boxed` has the boxes of faces and of whole heads."""
    faces, wholes = boxed
    _make_room(folder / LANDMARKS, count)
    for boxes in (faces.boxes, wholes.boxes):
        boxes[:, 2:] -= boxes[:, :2]
    rows = np.concatenate((wholes.boxes, wholes.poses, faces.boxes), axis=1)  # see `COLUMNS`
    done = np.array(sorted(_present(folder, count)), int)
    waiting = np.setdiff1d(np.arange(count), done)
    finished = list(done)
    listed = time.monotonic()
    bar = tqdm(total=count, initial=len(done), unit="head", disable=None, smoothing=0.05)
    with interrupts_noted() as interrupts:
        begin = settings, count, folder
        rendering = in_processes(
            _render, waiting.tolist(), workers, _start_worker, begin, interrupts, together=_TASK
        )
        try:
            with bar, closing(rendering):
                for index in rendering:
                    finished.append(index)
                    bar.update()
                    if time.monotonic() - listed > _LIST_EVERY:
                        _write_list(folder, rows, finished)
                        listed = time.monotonic()
        finally:
            _write_list(folder, rows, sorted(_present(folder, count)))
    return len(waiting)


def part_folder(split: str, part: str) -> str:
    """Name of the folder of a split, or of a further part of it."""
    return f"{split}-{part}" if part else split


_worker: tuple[SyntheticHeads, Path, np.ndarray]


def _start_worker(settings: Settings, count: int, folder: Path) -> None:
    """What each process does first."""
    global _worker  # noqa: PLW0603  (a process's own state, set once)
    _worker = settings.heads(count), folder, open_landmarks(folder / LANDMARKS, "r+")


def _render(index: int) -> int:
    heads, folder, landmarks = _worker
    with atomic_path(folder / picture_name(index)) as temporary:
        image, landmarks[index] = heads.rendered(index)
        image.save(temporary, "JPEG", quality=QUALITY)
    return index


def picture_name(index: int) -> str:
    """File of head `index`, relative to the list."""
    return f"{index // PER_FOLDER:03d}/{index:06d}.jpg"


@contextmanager
def claimed(folder: Path, record: dict[str, Any], what: str = "heads") -> Iterator[None]:
    """Within, a folder is this command's alone, and its settings are noted there.

    What a killed command left half-written beside them is removed.

    Args:
        folder: where they are noted.
        record: the settings, as JSON.
        what: what is rendered there, of `SETTINGS`.

    Raises:
        InputError: it holds heads (or sprites) of other settings, or something else; another
            command renders there; or it cannot be written.
    """
    path, record = folder / SETTINGS[what], {"revision": RENDERER, **record}
    _is_noted(path, record, what)  # somebody else's folder does not even get a lock
    with locked(folder, "rendering", "give another --out"):
        if not _is_noted(path, record, what):
            write_json(path, record)
        yield


def _is_noted(path: Path, record: dict[str, Any], what: str) -> bool:
    """Whether the settings are noted already; False says that the folder is empty.

    Raises:
        InputError: see `claimed`.
    """
    folder = path.parent
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        # Names that begin with a dot are the system's, or left by a command that was killed here.
        if folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir()):
            raise InputError(
                f"{folder}: is not empty and no rendered set; give another --out"
            ) from None
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); delete it or choose another") from None
    if what == "sprites" and isinstance(noted, dict):
        record = {k: v for k, v in record.items() if k in noted or k not in _NOTED_LATER}
    if noted != record:
        other = noted if isinstance(noted, dict) else {}
        # Some are only noted where they are chosen.
        keys = [key for key in {**record, **other} if other.get(key) != record.get(key)]
        raise InputError(
            f"{folder}: holds {what} of other settings ({', '.join(keys)}); give another --out"
        )
    return True


def _make_room(path: Path, count: int) -> None:
    """Let the file of landmarks have rows for `count` heads; NaN where a head is not there."""
    before = open_landmarks(path) if path.exists() else np.zeros((0, 68, 3), np.float32)
    if len(before) < count:
        rows = np.full((count, 68, 3), np.nan, np.float32)
        rows[: len(before)] = before
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows)


def _present(folder: Path, count: int) -> set[int]:
    """Which heads are there; what a killed command left half-written goes."""
    found = set()
    for number in range(-(-count // PER_FOLDER)):
        place = folder / f"{number:03d}"
        if not place.is_dir():
            continue
        for entry in os.scandir(place):
            if entry.name.startswith("."):
                Path(entry.path).unlink(missing_ok=True)
            elif entry.name.endswith(".jpg") and entry.name[:-4].isdecimal():
                found.add(int(entry.name[:-4]))
    return {index for index in found if index < count}


def _write_list(folder: Path, rows: np.ndarray, finished: list[int]) -> None:
    write_list(
        folder / LIST,
        ([picture_name(i), *(f"{v:.3f}" for v in rows[i])] for i in sorted(finished)),
    )
