"""Render a set of any size to disk: in parallel, resumable, the same whatever the workers.

A picture is written under another name and renamed, so killing the command leaves whole pictures
only, and the list names only pictures that are there.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .._version import __version__
from ..core.crop import AS_GIVEN, HOPENET_TRAIN, CropRule
from ..errors import InputError
from ..files import atomic_path, write_json
from .dataset import Range, SyntheticHeads
from .effects import Effects
from .photo import PLAIN
from .rendered import COLUMNS, LIST

SETTINGS = "render.json"
QUALITY = 93  # of the JPEGs: most pictures were compressed more by the camera before
PER_FOLDER = 1000
_TASK = 8  # heads a worker draws before it answers
_LIST_EVERY = 60.0  # seconds between two lists while rendering goes on
_LOOK_EVERY = 0.2  # seconds between two looks for a Ctrl-C
# Workers share the cores; threads of a matrix library would only contend for them.
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """What decides how head i looks.

    Attributes:
        seed, split, size, yaw, pitch, roll, mesh, identities, natural: see `SyntheticHeads`.
        camera_without: groups of camera effects left out; None means the plain camera.
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
    camera_without: tuple[str, ...] | None = None

    def heads(self, count: int, rule: CropRule = HOPENET_TRAIN) -> SyntheticHeads:
        """The set itself, with exact boxes."""
        return SyntheticHeads(
            count,
            self.split,
            self.seed,
            size=self.size,
            yaw=self.yaw,
            pitch=self.pitch,
            roll=self.roll,
            rule=rule,
            jitter=0,
            photo=PLAIN if self.camera_without is None else Effects(self.camera_without),
            mesh=self.mesh,
            identities=self.identities,
            natural=self.natural,
        )

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them, and who draws; the mesh by its content, not its place."""
        record = {"version": __version__, **json.loads(json.dumps(asdict(self), default=str))}
        if self.mesh is not None:
            try:
                record["mesh"] = hashlib.sha256(self.mesh.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(f"{self.mesh}: cannot be read ({error.strerror})") from None
        return record


def render_set(
    settings: Settings, count: int, folder: Path, workers: int | None = None, part: str = ""
) -> int:
    """Render heads 0 … count − 1 to `folder`/`settings.split`; those that are there stay.

    Args:
        settings: of the heads.
        count: how many.
        folder: gets a folder for the split.
        workers: processes; None means one per core.
        part: name of a further part of the split, which then has the folder `split-part`.

    Returns:
        How many heads were rendered now.

    Raises:
        InputError: the folder holds heads of other settings, or cannot be written.
        KeyboardInterrupt: Ctrl-C; what was rendered is saved and listed.
    """
    folder = folder / part_folder(settings.split, part)
    heads = settings.heads(count)
    _claim(folder, settings)
    rows = _rows(heads, settings.heads(count, rule=AS_GIVEN))
    done = np.array(sorted(_present(folder, count)), int)
    waiting = np.setdiff1d(np.arange(count), done)
    finished = list(done)
    listed = time.monotonic()
    workers = workers or os.cpu_count() or 1
    bar = tqdm(total=count, initial=len(done), unit="head", disable=None, smoothing=0.05)
    with _interrupts_noted() as interrupts:
        try:
            with (
                bar,
                _one_thread(),
                closing(_drawn(settings, count, folder, waiting, workers, interrupts)) as drawn,
            ):
                for indices in drawn:
                    finished += indices
                    bar.update(len(indices))
                    if time.monotonic() - listed > _LIST_EVERY:
                        _write_list(folder, rows, finished)
                        listed = time.monotonic()
        finally:
            _write_list(folder, rows, sorted(_present(folder, count)))
    return len(waiting)


def part_folder(split: str, part: str) -> str:
    """Name of the folder of a split, or of a further part of it."""
    return f"{split}-{part}" if part else split


def _drawn(
    settings: Settings,
    count: int,
    folder: Path,
    waiting: np.ndarray,
    workers: int,
    interrupts: list[int],
) -> Generator[list[int], None, None]:
    """Have processes render the heads `waiting`; yields the numbers of those that are done.

    Raises:
        KeyboardInterrupt: there is something in `interrupts`.
    """
    if not len(waiting):
        return
    tasks = [waiting[at : at + _TASK].tolist() for at in range(0, len(waiting), _TASK)]
    running: deque[Future[list[int]]] = deque()
    pool = ProcessPoolExecutor(
        min(workers, -(-len(waiting) // _TASK)),
        multiprocessing.get_context("spawn"),
        _start_worker,
        (settings, count, folder),
    )
    try:
        for task in tasks:
            with _interrupts_blocked():  # a task may start a process, which inherits this
                running.append(pool.submit(_draw, task))
            if len(running) > 2 * workers:
                yield _result(running.popleft(), interrupts)
        while running:
            yield _result(running.popleft(), interrupts)
    except BrokenProcessPool:
        raise InputError(
            "a rendering process died, perhaps for want of memory; the same command goes on, "
            "with fewer --workers if it dies again"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[list[int]], interrupts: list[int]) -> list[int]:
    """What a worker answers, or KeyboardInterrupt if there is something in `interrupts`."""
    while not interrupts and not wait([future], _LOOK_EVERY).done:
        pass
    if interrupts:
        raise KeyboardInterrupt
    return future.result()


@contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """Within, Ctrl-C only adds to the list; an exception amid the pool's own code could hang it.

    Only the main thread may say so; in another one Ctrl-C is the caller's affair.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that start within never see a Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: tuple[SyntheticHeads, Path]


def _start_worker(settings: Settings, count: int, folder: Path) -> None:
    """What each process does first."""
    global _worker  # noqa: PLW0603  (a process's own state, set once)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
    _worker = settings.heads(count), folder


def _draw(indices: list[int]) -> list[int]:
    heads, folder = _worker
    for index in indices:
        with atomic_path(folder / picture_name(index)) as temporary:
            heads.draw(index).save(temporary, "JPEG", quality=QUALITY)
    return indices


def picture_name(index: int) -> str:
    """Of head `index`, relative to the list."""
    return f"{index // PER_FOLDER:03d}/{index:06d}.jpg"


def _claim(folder: Path, settings: Settings) -> None:
    """Note the settings in an empty folder; stop if the folder was claimed for others."""
    path, record = folder / SETTINGS, settings.record()
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        # Names that begin with a dot are the system's, or left by a command that was killed here.
        if folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir()):
            raise InputError(
                f"{folder}: is not empty and no rendered set; give another --out"
            ) from None
        write_json(path, record)
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); delete it or choose another") from None
    if noted != record:
        keys = [
            key for key in record if not isinstance(noted, dict) or noted.get(key) != record[key]
        ]
        raise InputError(
            f"{folder}: holds heads of another {' and '.join(keys)}; give another --out"
        )


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


def _rows(face: SyntheticHeads, whole: SyntheticHeads) -> np.ndarray:
    """(N, 11) numbers of every head's row, in the order of `COLUMNS`."""

    def sides(boxes: np.ndarray) -> np.ndarray:
        return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)

    return np.concatenate((sides(whole.boxes), whole.poses, sides(face.boxes)), axis=1)


def _write_list(folder: Path, rows: np.ndarray, finished: list[int]) -> None:
    with (
        atomic_path(folder / LIST) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for index in sorted(finished):
            writer.writerow([picture_name(index), *(f"{v:.3f}" for v in rows[index])])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start within get one thread for their matrix products."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
