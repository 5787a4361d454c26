"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

UNDER_WAY = ".part"  # in the name of every temporary file, before its suffix
ROOM = 1 << 20  # bytes; a disk that does not take them is full

# Of JSON that is read: in memory it may take 30 times as much.
MAX_JSON = 64 << 20


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it vanishes.

    The bytes are on the disk before the rename, so after a power cut `path` is the old file or the
    new one, never a mixture.

    Raises:
        InputError: the folder cannot be written, `path` is a folder, or the disk is full.
    """
    path = Path(path)
    temporary = None
    with _explained(path):
        try:
            temporary = _beside(path)
            try:
                yield temporary
            except RuntimeError:  # MLX does not say why it cannot write
                _require_room(temporary)
                raise
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            # mkstemp makes files private; what users write should obey their umask.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        finally:
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


def require_writable(path: str | Path) -> None:
    """Fail before the work whose result goes to `path`, not after it.

    Raises:
        InputError: see `atomic_path`.
    """
    path = Path(path)
    with _explained(path):
        _beside(path).unlink()


def require_apart(read: Iterable[str | Path | None], written: Iterable[str | Path | None]) -> None:
    """Fail if a command would write over what it reads, or two results into one file.

    Args:
        read: files and folders, perhaps not there; None for nothing.
        written: files, perhaps not there yet; None for nothing.

    Raises:
        InputError: one of them is another.
    """
    sources = {_identity(path): path for path in read if path is not None}
    sources.pop(None, None)  # of what is not there
    targets: set[Path] = set()
    for path in (Path(target) for target in written if target is not None):
        source = sources.get(_identity(path))
        if source is not None:
            raise InputError(f"{path}: would overwrite {source}, which is read; name another file")
        if path.resolve() in targets:
            raise InputError(f"{path}: is to hold two results; name two files")
        targets.add(path.resolve())


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What one file has under all its names; None if there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _beside(path: Path) -> Path:
    """A new empty file beside `path`, with its suffix: some writers (mlx, PIL) go by that."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is a device or a pipe; name a file")
    if path.name == "-":
        raise InputError(f"{path}: stands for no file here; name one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # in a place where nobody can make folders, such as /proc
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}-", suffix=f"{UNDER_WAY}{path.suffix}", dir=path.parent
    )
    os.close(handle)
    return Path(name)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, where no other one writes."""
    for path in folder.glob(f".*{UNDER_WAY}*"):
        path.unlink(missing_ok=True)


def _require_room(path: Path) -> None:
    """Raise the system's own error if a file cannot grow."""
    with path.open("ab") as file:
        file.write(bytes(ROOM))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the user can mend into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{path}: the disk is full; free some space and try again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        raise


def read_json(path: Path, missing: str = "no such file; check the path") -> Any:
    """What a stranger's JSON file holds.

    Args:
        path: the file.
        missing: what to say where it is not there.

    Raises:
        InputError: it is missing, too large, or no JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise InputError(f"{path}: over {MAX_JSON >> 20} MB; give a smaller file")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: {missing}") from None
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({error})") from None


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def digest(*parts: Any) -> str:
    """A short fingerprint of arrays and plain values."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part).encode())
    return sha.hexdigest()[:16]
