"""Fetch a published checkpoint: resumed where it broke off, verified before anything reads it."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from ..core.checkpoint import Published
from ..errors import InputError
from ..files import place_of, put
from ..places import command, new_weights
from .published import PUBLISHED

CHUNK = 1 << 18
TIMEOUT_S = 30.0
ATTEMPTS = 3
# No published checkpoint comes near: a server that sends more is not the one meant.
MAX_BYTES = 4 << 30


def find(name: str) -> Published:
    """The published checkpoint of a name.

    Raises:
        InputError: there is none.
    """
    if name not in PUBLISHED:
        raise InputError(
            f"{name}: neither a file nor the name of a published checkpoint; "
            f"`{command('convert --list')}` shows the names"
        )
    return PUBLISHED[name]


def fetch(entry: Published, trust: bool = False, folder: str | Path | None = None) -> Path:
    """Download a checkpoint, unless it is there already.

    Args:
        entry: the published checkpoint.
        trust: whether to take a file without a published checksum.
        folder: folder to write to; None means "downloads" in the folder of weights.

    Returns:
        The verified file.

    Raises:
        InputError: no direct link, no checksum and no trust, no network, a broken connection, or a
            file that is not the published one.
    """
    if entry.url is None:
        raise InputError(
            f"{entry.name}: lies behind a page; download it from {entry.page} with a browser and"
            f" give `{command('convert --weight')}` the file"
        )
    if entry.digest is None and not trust:
        raise InputError(
            f"{entry.name}: nobody published a checksum, so that nothing can tell whether the file"
            " is the one meant; add --trust to take whatever the link gives"
        )
    path = Path(folder or new_weights("downloads")) / entry.file_name
    if path.is_file() and is_published(path, entry):
        return path
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _transfer_from_any(entry, part)
        if not is_published(part, entry):
            part.unlink()
            raise InputError(
                f"{entry.name}: what {entry.url} sends is not the published file (wrong checksum);"
                " it was deleted; try again, or get the file elsewhere"
            )
        put(part, place_of(path))
    except OSError as error:
        raise InputError(f"{part}: cannot be written ({error.strerror or error})") from None
    return path


def is_published(path: Path, entry: Published) -> bool:
    """Whether a file has the published checksum; true where none was published."""
    if entry.digest is None:
        return True
    kind, expected = entry.digest
    content = hashlib.sha1() if kind == "git_blob" else hashlib.sha256()
    if kind == "git_blob":
        content.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            content.update(chunk)
    return content.hexdigest().startswith(expected)


def _transfer_from_any(entry: Published, part: Path) -> None:
    """Transfer from the first of a checkpoint's links that has the file."""
    *others, last = (entry.url, *entry.mirrors)
    for url in others:
        try:
            _transfer_with_retries(dataclasses.replace(entry, url=url), part)
            return
        except InputError as error:
            print(f"{error}; trying another place")
    _transfer_with_retries(dataclasses.replace(entry, url=last), part)


def _transfer_with_retries(entry: Published, part: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(entry, part)
            return
        except urllib.error.HTTPError as error:
            raise InputError(
                f"{entry.name}: {entry.url} answers {error.code} {error.reason}; try again later"
            ) from None
        except urllib.error.URLError as error:
            raise InputError(
                f"{entry.name}: cannot reach {entry.url} ({error.reason}); check the network, or"
                f" download the file elsewhere and give `{command('convert --weight')}` its path"
            ) from None
        except (http.client.HTTPException, ConnectionError):
            if attempt < ATTEMPTS:
                time.sleep(0.5 * attempt)
    done = part.stat().st_size if part.exists() else 0
    raise InputError(
        f"{entry.name}: the connection broke off after {done / 1e6:.1f} MB; run the same command"
        " again to go on from there"
    )


def _transfer(entry: Published, part: Path) -> None:
    """Append the missing rest of the file to `part`.

    Raises:
        http.client.IncompleteRead: the server closed the connection early.
        ConnectionError: the network failed in another way.
        OSError: the file cannot be written.
    """
    assert entry.url is not None
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(entry.url, headers={"User-Agent": "mlx-headpose"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return  # the part is complete already, or its checksum will tell
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise ConnectionError(str(error)) from None
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # this server does not resume
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        bar = tqdm(
            desc=entry.name, total=total, initial=done, unit="B", unit_scale=True, disable=None
        )
        with bar, part.open("ab" if done else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                bar.update(len(chunk))
                if done > MAX_BYTES:
                    raise InputError(f"{entry.name}: over {MAX_BYTES >> 30} GB, not the file meant")
        if total is not None and done < total:
            raise http.client.IncompleteRead(b"", total - done)


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes; errors of TLS and of the network, which are OSErrors, as ConnectionError."""
    try:
        return response.read(CHUNK)
    except OSError as error:
        raise ConnectionError(str(error)) from None


def table() -> str:
    """Every published checkpoint by licence, as text: its network, and the publisher's figure."""
    entries = list(PUBLISHED.values())
    names = max(len(entry.name) for entry in entries)
    kinds = max(len(entry.what) for entry in entries)
    lines = []
    for licence in dict.fromkeys(entry.licence for entry in entries):
        lines += ["", f"{licence}:"]
        for entry in entries:
            if entry.licence != licence:
                continue
            row = f"  {entry.name:{names}}  {entry.what:{kinds}}  {entry.figure}"
            lines.append(row.rstrip())
            if entry.url is None:
                lines.append(f"    download it by hand from {entry.page}")
            elif entry.digest is None:
                lines.append("    without a checksum: needs --trust")
    return "\n".join(lines[1:])
