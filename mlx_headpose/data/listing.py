"""Lists of samples: reading filename lists, walking folders, and caching what was parsed."""

from __future__ import annotations

import csv
import hashlib
import os
import stat
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import InputError
from ..files import atomic_path, digest
from ..places import command

PICTURES = (".jpg", ".jpeg", ".png")
# Raise it when a cached table's meaning changes: older caches are then ignored.
CACHE_VERSION = 3


def read_list(path: Path, folder: Path | None = None) -> list[str]:
    """The names in a filename list, without `./` and extension, in order.

    Args:
        path: the list.
        folder: the data folder; absolute names inside it become relative to it.

    Raises:
        InputError: the list is missing, empty, no text, or names a file outside its folder.
    """
    try:
        # Names of files may be bytes that are no UTF-8.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        if "\0" in text:
            raise InputError(f"{path}: is no text in UTF-8; put one name on each line")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such filename list; check --filename_list, or make one with "
            f"`{command('create_filename_list --root_dir DATA')}`"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: not a readable text file ({error})") from None
    names = []
    for line in text.splitlines():
        name = line.strip().replace("\\", "/")
        if not name:
            continue
        pure = PurePosixPath(name)
        if folder is not None and pure.is_absolute() and "\0" not in name:
            pure = _inside(pure, folder)
        if not stays_inside(pure):
            raise InputError(f"{path}: {name!r} lies outside the data folder; list relative names")
        if pure.suffix.lower() in (*PICTURES, ".mat"):
            pure = pure.with_suffix("")
        names.append(str(pure))
    if not names:
        raise InputError(f"{path}: the list is empty; put one name on each line")
    return names


def _inside(name: PurePosixPath, folder: Path) -> PurePosixPath:
    """An absolute name relative to a folder, if it lies in it as written or as resolved."""
    for place in (folder.absolute(), folder.resolve()):
        if name.is_relative_to(place.as_posix()):
            return name.relative_to(place.as_posix())
    return name


def stays_inside(name: PurePosixPath) -> bool:
    """Whether a name that a file lists leads to no other folder than that of the files."""
    return not name.is_absolute() and ".." not in name.parts and "\0" not in str(name)


def csv_rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a CSV file, without spaces around cells; rows that hold nothing are left out.

    People edit such files with programs that add both. The file is to be opened as utf-8-sig, for
    some of these programs write a mark before the first name.
    """
    for row in csv.reader(lines):
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield cells


def those_there(
    ids: list[str], files: Callable[[str], Iterable[Path]]
) -> tuple[list[str], dict[str, int]]:
    """The samples all of whose files are there, and how many were dropped for a missing one."""
    kept = [name for name in ids if all(path.is_file() for path in files(name))]
    missing = len(ids) - len(kept)
    return kept, {"file missing": missing} if missing else {}


def walk(folder: Path, suffix: str) -> list[str]:
    """Every file below a folder that ends in `suffix`, relative and without it, sorted."""
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(place).relative_to(folder).as_posix()
        # Strings rather than paths: 300W-LP has 122,450 files.
        start = "" if relative == "." else f"{relative}/"
        names += [
            start + name[: -len(suffix)]
            for name in files
            if name.lower().endswith(suffix) and not name.startswith(".")
        ]
    if not names:
        raise InputError(f"{folder}: holds no {suffix} files; check the folder's name")
    return sorted(names)


def require_folder(folder: Path | None, dataset: str, option: str = "--data_dir") -> Path:
    """The folder that an option names, if it is one."""
    if folder is None:
        raise InputError(f"{dataset} needs {option}, the folder of its files")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check {option}")
    return folder


def cached_table(
    folder: Path, name: str, files: Sequence[Path], parse: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `parse` makes of `files`, from a cache where nothing has changed.

    The cache lies in the data folder, or in the user's cache folder where that is read-only. It
    is keyed by the files' names, sizes and times.

    Args:
        folder: the dataset's folder.
        name: the cached table's name.
        files: what `parse` reads.
        parse: makes the arrays; called only where no cache fits.

    Raises:
        InputError: a file is not there.
    """
    key = key_of(folder, files)
    places = [folder / ".mlx_headpose", _user_cache() / digest(str(folder.resolve()))]
    for place in places:
        path = place / f"{name}.npz"
        try:
            with zipfile.ZipFile(path) as archive:
                claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > path.stat().st_size:  # ours are not compressed
                continue
            with np.load(path, allow_pickle=False) as cache:
                if str(cache["key"]) == key:
                    return {k: cache[k] for k in cache.files if k != "key"}
        except Exception:  # a missing, older or damaged cache is simply made anew
            continue
    table = parse()
    for place in places:
        if not _writable(place):
            continue
        try:
            with atomic_path(place / f"{name}.npz") as temporary:
                np.savez(temporary, key=np.array(key), **table)  # type: ignore[arg-type]
            break
        except (InputError, OSError):
            continue
    return table


def key_of(folder: Path, files: Sequence[Path]) -> str:
    """A fingerprint of the names, sizes and times of files in a folder.

    Raises:
        InputError: a file is not there.
    """
    key = hashlib.sha256(f"version {CACHE_VERSION}\n".encode())
    start = f"{folder}{os.sep}"
    for path in files:
        try:
            status = path.stat()
        except OSError:
            raise InputError(
                f"{path}: listed but not there; fix the list or pass --skip_bad"
            ) from None
        relative = str(path).removeprefix(start)
        line = f"{relative}\n{status.st_size} {status.st_mtime_ns}\n"
        key.update(line.encode(errors="surrogateescape"))
    return key.hexdigest()


def _user_cache() -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mlx-headpose"


def _writable(folder: Path) -> bool:
    """Whether files may be put there. The mode bits count for root too: they state a wish."""
    while not folder.exists():
        folder = folder.parent
    wish = folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    return bool(wish) and os.access(folder, os.W_OK)
