"""Render a folder of sprites: in parallel, resumable, the same whatever the workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...errors import InputError
from ...readers.npy import member_shape
from ..environments import LIGHTING, Environments
from ..processes import in_processes, interrupts_noted
from ..render_set import claimed, digest
from .sprites import Sprite, write_shard

PER_SHARD = 100


class SpriteSource(ABC):
    """Sprites, each from its number alone.

    Args:
        environments: folder of panoramas for light of real places, or None.
        seed: random seed.
    """

    def __init__(self, environments: Path | None, seed: tuple[int, ...]):
        self.environments = None if environments is None else Environments(environments)
        self.seed = seed

    def record(self) -> dict[str, str | None]:
        """What its files hold, as JSON; see `claimed`."""
        lit = self.environments
        return {"environments": None if lit is None else digest(lit.folder / LIGHTING)}

    @abstractmethod
    def draw(self, number: int) -> Sprite:
        """Sprite `number`, always the same."""


_worker: SpriteSource


def _start_worker(make: Callable[..., SpriteSource], arguments: tuple[Any, ...]) -> None:
    global _worker  # noqa: PLW0603  (a process's own state, set once)
    _worker = make(*arguments)


def _write(shard: tuple[Path, int, int]) -> int:
    path, first, last = shard
    write_shard(path, [_worker.draw(number) for number in range(first, last)])
    return last - first


def render_sprites(
    make: Callable[..., SpriteSource],
    arguments: tuple[Any, ...],
    count: int,
    folder: Path,
    settings: dict[str, Any],
    workers: int | None = None,
) -> int:
    """Render sprites 0 … count − 1; shards that are there stay, unless they hold too few.

    Args:
        make: makes the source in each process, of `arguments`.
        arguments: see `make`.
        count: number of sprites.
        folder: folder of the shards, each of `PER_SHARD` sprites but for the last.
        settings: what decides how sprites look, beside the source's own files; those of another
            setting are not added to.
        workers: number of processes; None means one per core.

    Returns:
        Number of sprites that were rendered now.

    Raises:
        InputError: `make` refuses its arguments, or the folder holds sprites of other settings, or
            something else, or another command renders there, or a process died.
        KeyboardInterrupt: Ctrl-C; the shards that were begun are there.
    """
    source = make(*arguments)  # says here, and not in the processes, that a file is damaged
    with claimed(folder, settings | source.record(), "sprites"):
        return _render_rest(make, arguments, count, folder, workers)


def _render_rest(
    make: Callable[..., SpriteSource],
    arguments: tuple[Any, ...],
    count: int,
    folder: Path,
    workers: int | None,
) -> int:
    """Render what a claimed folder lacks; see `render_sprites`."""
    shards = [
        (folder / f"{start // PER_SHARD:05d}.npz", start, min(start + PER_SHARD, count))
        for start in range(0, count, PER_SHARD)
    ]
    waiting = [shard for shard in shards if _held(shard[0]) < shard[2] - shard[1]]
    new = sum(last - first for _, first, last in waiting)
    bar = tqdm(total=count, initial=count - new, unit="sprite", disable=None, smoothing=0.05)
    with interrupts_noted() as interrupts:
        rendering = in_processes(
            _write, waiting, workers, _start_worker, (make, arguments), interrupts
        )
        with bar, closing(rendering):
            for written in rendering:
                bar.update(written)
    return new


def _held(path: Path) -> int:
    """Number of sprites in a shard, 0 where there is none or a damaged one."""
    try:
        shape = member_shape(path, "size")
    except InputError:
        return 0
    return shape[0] if shape else 0
