"""Render a folder of sprites: in parallel, resumable, the same whatever the workers."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from ...errors import InputError
from ...files import write_json
from .sprites import Sprite, write_shard

PER_SHARD = 100
SETTINGS = "sprites.json"


class Drawn(Protocol):
    """What can be rendered: sprites by their numbers."""

    def __len__(self) -> int: ...

    def draw(self, number: int) -> Sprite:
        """Sprite `number`, always the same."""
        ...


_worker: Drawn


def _start_worker(make: Callable[..., Drawn], arguments: tuple[Any, ...]) -> None:
    global _worker  # noqa: PLW0603  (a process's own state, set once)
    _worker = make(*arguments)


def _write(path: Path, first: int, last: int) -> int:
    write_shard(path, [_worker.draw(number) for number in range(first, last)])
    return last - first


def render_sprites(
    make: Callable[..., Drawn],
    arguments: tuple[Any, ...],
    count: int,
    folder: Path,
    settings: dict[str, Any],
    workers: int | None = None,
) -> int:
    """Render sprites 0 … count − 1; shards that are there stay.

    Args:
        make: makes the set in each process, of `arguments`.
        arguments: see `make`.
        count: how many; whole shards of `PER_SHARD`.
        folder: where the shards go.
        settings: what decides how sprites look; those of another setting are not added to.
        workers: processes; None means one per core.

    Returns:
        How many were rendered now.

    Raises:
        InputError: the folder holds sprites of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / SETTINGS
    if record.exists() and json.loads(record.read_text("utf-8")) != settings:
        raise InputError(f"{folder}: holds sprites of other settings; give another folder")
    write_json(record, settings)
    starts = range(0, count, PER_SHARD)
    names = {start: folder / f"{start // PER_SHARD:05d}.npz" for start in starts}
    waiting = [start for start in starts if not names[start].exists()]
    new = 0
    with (
        tqdm(total=count, initial=PER_SHARD * (len(starts) - len(waiting)), unit="sprite",
             disable=None, smoothing=0.05) as bar,
        ProcessPoolExecutor(
            workers or os.cpu_count(), multiprocessing.get_context("spawn"), _start_worker,
            (make, arguments),
        ) as pool,
    ):  # fmt: skip
        shards = [pool.submit(_write, names[start], start, start + PER_SHARD) for start in waiting]
        try:
            for shard in as_completed(shards):
                new += shard.result()
                bar.update(PER_SHARD)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return new
