"""What a user points at: pictures, folders, patterns, videos, cameras."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..readers.pictures import suffixes

VIDEO_SUFFIXES = {
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp"
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One picture, video or camera; `name` is its path, or the camera's number."""

    kind: Literal["picture", "video", "camera"]
    name: str


def find_sources(given: list[str]) -> list[Source]:
    """Pictures, videos and cameras that paths, folders, patterns and numbers name, in order.

    A folder stands for the pictures and videos right inside it, a pattern (`photos/*.jpg`,
    `photos/**/*.jpg`) for the files that match.

    Raises:
        InputError: something names nothing.
    """
    sources: list[Source] = []
    for text in given:
        path = Path(text).expanduser()
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.is_file() and _kind(p))
            if not found:
                raise InputError(f"{text}: holds no pictures or videos")
        elif path.exists():
            found = [path]
        elif text.isdecimal():
            sources.append(Source("camera", text))
            continue
        elif any(character in text for character in "*?["):
            # pathlib's glob takes no absolute patterns.
            matches = glob.glob(str(path), recursive=True)  # noqa: PTH207
            found = sorted(p for p in map(Path, matches) if p.is_file() and _kind(p))
            if not found:
                raise InputError(f"{text}: matches no pictures or videos")
        else:
            raise InputError(f"{text}: no such picture, video or folder; check the path")
        # A file of another ending that was named one by one may still be a picture.
        sources += [Source(_kind(p) or "picture", str(p)) for p in found]
    return sources


def _kind(path: Path) -> Literal["picture", "video"] | None:
    if path.name.startswith("."):  # such as the ._ files that a Mac leaves on other disks
        return None
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "picture" if suffix in suffixes() else None
