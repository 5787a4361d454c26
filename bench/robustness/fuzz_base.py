"""What a reader of untrusted files is, for bench/robustness/fuzz.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Escaped(BaseException):
    """A reader did what it must never do; nobody may catch this by accident."""


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        suffix: of its files.
        kinds: how they may be damaged; see `fuzz_mutations.MUTATORS`.
        seeds: (folder of shared files, folder to write to) → whole files.
        read: reads one file.
    """

    suffix: str
    kinds: tuple[str, ...]
    seeds: Callable[[Path, Path], list[Path]]
    read: Callable[[Path], Any]


def made(folder: Path, files: dict[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def saved(folder: Path, name: str, save: Callable[[Path], Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / name)
    return folder / name
