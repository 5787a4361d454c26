"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

LOCK = ".lock"  # hidden, for it is no result
UNDER_WAY = ".part"  # in the name of every temporary file, before its suffix
# Of fixed length: a name that begins with the output's own would be longer than disks allow.
HIDDEN = ".mlx-headpose-"
LONGEST_SUFFIX = 20  # characters; no format that a writer knows by its suffix has a longer one
# What another folder would not answer.
NOT_HERE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.EBUSY, errno.ENOTEMPTY),
}
STANDARD_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
MAX_LINKS = 40
ROOM = 1 << 20  # bytes; a disk that does not take them is full

# Arguments of the systems' calls that exchange two names, from linux/fs.h, fcntl.h and sys/stdio.h.
AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2

# Of JSON that is read: in memory it may take 30 times as much.
MAX_JSON = 64 << 20


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it vanishes.

    The bytes are on the disk before the rename, so after a power cut `path` is the old file or the
    new one, never a mixture. Of a link, what it points to is replaced. Nothing but a regular file
    is renamed over: what takes bytes without being one ("-" and /dev/stdout, devices, pipes), or is
    a mount of its own, is written to when they are complete.

    Raises:
        InputError: the folder cannot be written, `path` is a folder, or the disk is full.
    """
    path = Path(path)
    temporary = None
    with _explained(path):
        place = place_of(path)
        try:
            temporary = _temporary(place, path)
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
            put(temporary, place)
        finally:
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a path at which to make a folder; on success it replaces `path`, on failure it
    vanishes.

    As `atomic_path`, for what is a folder. One that is there already is exchanged in one step.
    Where the system or its disk cannot do that, it is renamed away first: a crash right then leaves
    it as `before` in a hidden folder beside `path`, whose name ends in `UNDER_WAY`.

    Raises:
        InputError: the folder cannot be written, `path` is a file, or the disk is full.
    """
    path = Path(path)
    with _explained(path):
        place = place_of(path)
        if isinstance(place, int) or (place.exists() and not place.is_dir()):
            raise InputError(f"{path}: is no folder; choose another name")
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=HIDDEN, suffix=UNDER_WAY, dir=place.parent))
        before = beside / "before"
        try:
            made = beside / place.name
            yield made
            for part in (*made.rglob("*"), made):
                _sync(part)
            _put_folder(made, place, before)
            _sync(place.parent)
        finally:
            if place.exists() or not before.exists():
                shutil.rmtree(beside, ignore_errors=True)


def _put_folder(made: Path, place: Path, before: Path) -> None:
    """Move a whole folder to its place, and what was there to `made` or to `before`."""
    if not place.exists():
        made.rename(place)
    elif not _exchanged(made, place):
        place.rename(before)
        try:
            made.rename(place)
        except BaseException:
            before.rename(place)
            raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step, which not every system and disk can do."""
    library, names = ctypes.CDLL(None), (os.fsencode(one), os.fsencode(other))
    try:
        if sys.platform == "darwin":
            return library.renamex_np(*names, RENAME_SWAP) == 0
        return library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    except AttributeError:  # the system's library is older than the call
        return False


def _sync(path: Path) -> None:
    """See that a file or the list of a folder's names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(file: Path, place: Path | int) -> None:
    """Move a whole file to where it belongs, see `place_of`, or write it there."""
    if isinstance(place, Path) and _replaceable(place):
        try:
            file.replace(place)
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise  # what is left is a file mounted into a container
    if place == 1 and sys.stdout is not None:
        sys.stdout.flush()  # what was printed before comes before
    into = os.dup(place) if isinstance(place, int) else place
    with file.open("rb") as source, open(into, "wb") as target:  # noqa: PTH123
        shutil.copyfileobj(source, target)
    file.unlink()


def place_of(path: str | Path) -> Path | int:
    """What a name of an output stands for, links resolved.

    Returns:
        A path, or the number of an open descriptor: 1 for "-" and /dev/stdout. Where the shell
        sent that to a file, the file's own name must not be taken for it: it is open.

    Raises:
        InputError: it links to itself, or is no name that the disk can hold.
    """
    if str(path) == "-":
        return 1
    place = Path(path)
    with _explained(place):
        for _ in range(MAX_LINKS):
            name = os.path.normpath(place.parent.resolve() / place.name)
            found = re.fullmatch(rf"(?:/dev|/proc/self|/proc/{os.getpid()})/fd/(\d+)", name)
            if found:
                return int(found[1])
            if name in STANDARD_STREAMS:
                return STANDARD_STREAMS[name]
            if not place.is_symlink():
                return Path(name)
            place = Path(name).parent / place.readlink()
    raise InputError(f"{path}: links to itself; name another file")


def is_stdout(path: str | Path | None) -> bool:
    """Whether a name of an output stands for the standard output."""
    return path is not None and place_of(path) == 1


@contextmanager
def messages_apart(outputs: Iterable[str | Path | None]) -> Iterator[None]:
    """Inside, what is printed goes to the standard error if an output goes to the standard one."""
    with redirect_stdout(sys.stderr) if any(map(is_stdout, outputs)) else nullcontext():
        yield


def require_writable(path: str | Path) -> None:
    """Fail before the work whose result goes to `path`, not after it.

    Raises:
        InputError: see `atomic_path`.
    """
    path = Path(path)
    with _explained(path):
        place = place_of(path)
        _temporary(place, path).unlink()
        if isinstance(place, int):
            os.fstat(place)
        elif not _replaceable(place) and not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


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
    targets: set[Path | int] = set()
    for path in (Path(target) for target in written if target is not None):
        source = sources.get(_identity(path))
        if source is not None:
            raise InputError(f"{path}: would overwrite {source}, which is read; name another file")
        place = place_of(path)
        if place in targets:
            raise InputError(f"{path}: is to hold two results; name two files")
        targets.add(place)


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What one file has under all its names; None if there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _replaceable(place: Path) -> bool:
    """Whether a place is a regular file or nothing yet."""
    return place.is_file() or not place.exists()


def _temporary(place: Path | int, path: Path) -> Path:
    """A new empty file for what goes to a place, with its suffix: some writers (mlx, PIL) need it.

    Args:
        place: see `place_of`.
        path: the name that the user gave.
    """
    folder = None  # the system's
    if isinstance(place, Path):
        if place.is_dir():
            raise InputError(f"{path}: is a folder; name a file")
        if _replaceable(place):
            folder = place.parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # where nobody can make folders, such as /proc
                raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    handle, name = tempfile.mkstemp(prefix=HIDDEN, suffix=f"{UNDER_WAY}{suffix}", dir=folder)
    os.close(handle)
    return Path(name)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, where no other one writes."""
    for path in folder.glob(f".*{UNDER_WAY}*"):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def visible(folder: Path, pattern: str) -> list[Path]:
    """Paths of a folder that match a pattern, sorted, without names that begin with a dot.

    Those are what is being written, see `atomic_path`, and what Macs add to copied files (`._x`).
    """
    return sorted(path for path in folder.glob(pattern) if path.name[0] != ".")


@contextmanager
def locked(folder: Path, what: str, instead: str) -> Iterator[None]:
    """Keep every other command that asks out of a folder until this one ends, however it ends.

    The folder is made where there is none, and what killed commands left half-written is removed.

    Args:
        folder: folder that is written to.
        what: what writes there, such as "training", for the error.
        instead: what to do instead, for the error.

    Raises:
        InputError: another command is writing there, or the folder cannot be written.
    """
    import fcntl

    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / LOCK).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another {what} is writing there; wait for it, or {instead}"
            ) from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); {instead}") from None
        remove_temporaries(folder)
        yield


def _require_room(path: Path) -> None:
    """Raise the system's own error if a file cannot grow."""
    with path.open("ab") as file:
        file.write(bytes(ROOM))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the system's errors into one sentence."""
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has gone, which is no error
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{path}: the disk is full; free some space and try again") from error
        if error.errno == errno.EBADF:
            raise InputError(f"{path}: is closed; name a file") from error
        instead = "choose another folder" if error.errno in NOT_HERE else "name another file"
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); {instead}"
        ) from error


def read_json(path: Path, missing: str = "no such file; check the path") -> Any:
    """What an untrusted JSON file holds; see `read_text_as`."""
    too_large = f"over {MAX_JSON >> 20} MB; give a smaller file"
    return read_text_as("JSON", json.loads, path, MAX_JSON, too_large, missing)


def read_text_as(
    form: str,
    parse: Callable[[str], Any],
    path: Path,
    max_bytes: int,
    too_large: str,
    missing: str = "no such file; check the path",
) -> Any:
    """What an untrusted text file holds.

    Args:
        form: name of its format, for the error.
        parse: function that reads the format.
        path: the file.
        max_bytes: largest size.
        too_large: what to say of a larger file.
        missing: what to say where it is not there.

    Raises:
        InputError: it is missing, too large, or not in the format.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise InputError(f"{path}: {too_large}")
        return parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: {missing}") from None
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable {form} ({error})") from None


def null_for_nan(value: Any) -> Any:
    """A value for JSON with null in place of numbers that are not finite, which it lacks."""
    if isinstance(value, dict):
        return {name: null_for_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write a line each, atomically. Names of files may be bytes that are no UTF-8; they stay."""
    text = "".join(f"{line}\n" for line in lines)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def digest(*parts: Any) -> str:
    """A short fingerprint of arrays and plain values."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part).encode())
    return sha.hexdigest()[:16]
