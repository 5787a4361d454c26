"""What a user points at: pictures, folders, patterns, videos, cameras."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..readers.pictures import HEIF_BRANDS, suffixes

VIDEO_SUFFIXES = {
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp",
    ".ts", ".m2ts", ".flv", ".f4v", ".ogv", ".ogg", ".mxf", ".asf", ".vob",
}  # fmt: skip
# Matroska and WebM, Flash, Ogg, MPEG program streams and video, ASF, MXF.
VIDEO_STARTS = (
    b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"\0\0\1\xba", b"\0\0\1\xb3", b"0&\xb2u",
    b"\x06\x0e+4",
)  # fmt: skip
# Endings that other files have as well.
DOUBTFUL = {"", ".ts", ".mts", ".ogg"}


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
        if not text.strip():  # a path of nothing would be the folder that one is in
            raise InputError("an input is empty; name a picture, a video, a folder or a camera")
        try:
            files = _files(text)
        except OSError as error:
            raise InputError(f"{text}: cannot be read ({error.strerror}); check the path") from None
        if files is None:
            sources.append(Source("camera", text))
            continue
        for file in files:
            # The content of a file counts more than its ending.
            film = _kind(file) == "video" or is_video(file)
            sources.append(Source("video" if film else "picture", str(file)))
    return sources


def _files(text: str) -> list[Path] | None:
    """The files that a text names; None if it is a camera's number."""
    path = _expanded(text)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and _kind(p))
        if not found:
            raise InputError(f"{text}: holds no pictures or videos")
        return found
    if path.exists():
        return [path]
    if text.isdecimal():
        return None
    if any(character in text for character in "*?["):
        # pathlib's glob takes no absolute patterns.
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207
        found = sorted(p for p in map(Path, matches) if p.is_file() and _kind(p))
        if not found:
            raise InputError(f"{text}: matches no pictures or videos")
        return found
    raise InputError(f"{text}: no such picture, video or folder; check the path")


def _expanded(text: str) -> Path:
    """A path whose ~ is the user's folder, where there is one of that name."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  pathlib's fails at files named ~x


def passed_over(given: list[str]) -> list[str]:
    """What `find_sources` leaves out without being asked to, a sentence each."""
    notes = []
    for text in given:
        path = _expanded(text)
        inside = sum(p.is_dir() and not p.name.startswith(".") for p in _entries(path))
        if inside:
            folders = f"{inside} folder{'s' * (inside > 1)}"
            notes.append(f'{text}: {folders} inside not searched; "{text}/**/*" finds all')
    return notes


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir()) if path.is_dir() else []
    except OSError:
        return []


def _kind(path: Path) -> Literal["picture", "video"] | None:
    """What a file in a folder is, by its ending and, in doubt, by its content."""
    if path.name.startswith("."):  # such as the ._ files that a Mac leaves on other disks
        return None
    suffix = path.suffix.lower()
    if suffix in DOUBTFUL:
        return "video" if is_video(path) else None
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "picture" if suffix in suffixes() else None


def is_video(path: Path) -> bool:
    """Whether a file begins as the containers of video do, whatever its name."""
    try:
        with path.open("rb") as file:
            start = file.read(400)
    except OSError:
        return False
    if start[4:8] == b"ftyp":
        return start[8:12] not in HEIF_BRANDS and start[8:12] not in (b"avif", b"avis")
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    packets = (start[0:1], start[188:189], start[376:377]), (start[4:5], start[196:197])
    if any(all(byte == b"G" for byte in sync) for sync in packets):  # MPEG transport streams
        return True
    return start.startswith(VIDEO_STARTS)
