"""Downloads by name, against a local HTTP server that can also misbehave."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.commands import assert_refused, run

from mlx_headpose import cli
from mlx_headpose.convert import download
from mlx_headpose.convert.download import fetch, find, is_published, table
from mlx_headpose.convert.published import PUBLISHED
from mlx_headpose.core.checkpoint import Published
from mlx_headpose.errors import InputError

CONTENT = bytes(range(256)) * 2000  # 0.5 MB: several chunks


class Server:
    """Serves CONTENT; `cuts` says after how many bytes each coming connection breaks off."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.resumes = True
        self.status: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                if outer.status:
                    self.send_error(outer.status)
                    return
                first = int(asked[len("bytes=") : -1]) if asked and outer.resumes else 0
                if first >= len(CONTENT):
                    self.send_error(416)
                    return
                body = CONTENT[first:]
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.cuts.pop(0)] if outer.cuts else body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/net.pkl"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def entry(server: Server, **changes: object) -> Published:
    digest = ("sha256", hashlib.sha256(CONTENT).hexdigest())
    return dataclasses.replace(Published("net", "test", server.url, digest), **changes)


def test_whole_file_and_not_twice(server: Server, tmp_path: Path) -> None:
    path = fetch(entry(server), folder=tmp_path)
    assert path == tmp_path / "net.pkl"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["net.pkl"]
    fetch(entry(server), folder=tmp_path)
    assert len(server.ranges) == 1


def test_a_damaged_copy_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(b"half a file")
    assert fetch(entry(server), folder=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "digest",
    [
        ("sha256_prefix", hashlib.sha256(CONTENT).hexdigest()[:8]),
        ("git_blob", hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()),
    ],
)
def test_other_checksums(server: Server, tmp_path: Path, digest: tuple[str, str]) -> None:
    path = fetch(entry(server, digest=digest), folder=tmp_path)
    assert is_published(path, entry(server, digest=digest))
    path.write_bytes(CONTENT + b"x")
    assert not is_published(path, entry(server, digest=digest))


def test_a_cut_connection_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 100_000]
    assert fetch(entry(server), folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=400000-"]


def test_a_connection_that_keeps_breaking_is_left_for_the_next_run(
    server: Server, tmp_path: Path
) -> None:
    server.cuts = [100_000] * download.ATTEMPTS
    with pytest.raises(InputError, match="again to go on"):
        fetch(entry(server), folder=tmp_path)
    assert (tmp_path / "net.pkl.part").stat().st_size == 300_000
    assert not (tmp_path / "net.pkl").exists()
    assert fetch(entry(server), folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=300000-"


@pytest.mark.parametrize("broken", ["read", "begin"])
def test_an_error_of_tls_is_one_of_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    calls = []
    whole = getattr(http.client.HTTPResponse, broken)

    def once(response: http.client.HTTPResponse, *arguments: int) -> bytes:
        calls.append(arguments)
        if len(calls) == 2 or (broken == "begin" and len(calls) == 1):
            raise ssl.SSLError("decryption failed or bad record mac")
        return whole(response, *arguments)

    monkeypatch.setattr(http.client.HTTPResponse, broken, once)
    assert fetch(entry(server), folder=tmp_path).read_bytes() == CONTENT


def test_a_full_disk_is_said_and_not_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pkl.part").mkdir()
    with pytest.raises(InputError, match=r"net\.pkl\.part: cannot be written"):
        fetch(entry(server), folder=tmp_path)
    assert len(server.ranges) <= 1


def test_a_server_that_cannot_resume_starts_over(server: Server, tmp_path: Path) -> None:
    server.resumes = False
    server.cuts = [300_000]
    assert fetch(entry(server), folder=tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.pkl.part").write_bytes(CONTENT)
    assert fetch(entry(server), folder=tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_is_deleted_unread(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wrong checksum"):
        fetch(entry(server, digest=("sha256", "0" * 64)), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_checksum_needs_trust(server: Server, tmp_path: Path) -> None:
    unknown = entry(server, digest=None)
    with pytest.raises(InputError, match="--trust"):
        fetch(unknown, folder=tmp_path)
    assert server.ranges == []
    assert fetch(unknown, trust=True, folder=tmp_path).read_bytes() == CONTENT


def test_missing_page(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(InputError, match="404"):
        fetch(entry(server), folder=tmp_path)


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net.pkl"
    with pytest.raises(InputError, match="check the network"):
        fetch(Published("net", "test", url, ("sha256", "00")), folder=tmp_path)


def test_those_behind_a_page_are_named_with_it() -> None:
    with pytest.raises(InputError, match=r"drive\.google\.com"):
        fetch(find("pyramid-aflw2000"))
    with pytest.raises(InputError, match="--list"):
        find("no-such-net")


def test_table_names_all() -> None:
    text = table()
    assert all(name in text for name in PUBLISHED)
    assert "--trust" in text


def test_table_agrees_with_the_collected_sources(shared: Path) -> None:
    sources = json.loads((shared / "checkpoints" / "sources.json").read_text())["checkpoints"]
    assert {s["name"] for s in sources} <= set(PUBLISHED)
    for source in sources:
        ours = PUBLISHED[source["name"]]
        assert ours.url == source.get("url")
        assert ours.page == source.get("page")
        kinds = [kind for kind in ("sha256", "sha256_prefix", "git_blob") if kind in source]
        assert ours.digest == ((kinds[0], source[kinds[0]]) if kinds else None)
        assert ours.licence == source.get("licence", ours.licence)
        for key in ("mae_aflw2000", "mae_biwi"):
            assert str(source.get(key, "")) in ours.figure


def test_the_command_lists_and_refuses(tmp_path: Path) -> None:
    listed = run("convert.py", "--list")
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines() if line]
    assert set(PUBLISHED) < set(names)
    assert max(map(len, listed.stdout.splitlines())) <= 120
    for name, words in (
        ("tokenhpe-vitb16-lyr3", "drive.google.com"),
        ("imagenet21k-efficientnetv2-s", "--trust"),
        ("no-such-name", "--list"),
        ("missing.pkl", "no such checkpoint"),
    ):
        output = tmp_path / "out.safetensors"
        assert_refused(run("convert.py", "--weight", name, "--output", output), words)


def test_by_name_to_a_converted_file(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    onnx_file = shared / "weights" / "face_detection_yunet_2023mar.onnx"
    monkeypatch.setitem(
        PUBLISHED,
        "yunet-2023mar",
        dataclasses.replace(PUBLISHED["yunet-2023mar"], url=onnx_file.resolve().as_uri()),
    )
    cli.main("convert", ["--weight", "yunet-2023mar"])
    assert "licence" in capsys.readouterr().out
    assert (tmp_path / "weights" / "yunet-2023mar.safetensors").is_file()
