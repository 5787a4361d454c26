"""A stand-in for the Hugging Face hub's HTTP interface: what downloads and uploads ask of it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """Repositories with their commits, kept in memory.

    Attributes:
        address: where it listens.
        repositories: `owner/name` → its commits, each the files of a snapshot, oldest first.
        tags: (`owner/name`, name of a revision) → number of its commit.
        requests: method and path of everything that was asked.
    """

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, list[Files]] = {}
        self.tags: dict[tuple[str, str], int] = {}
        self.requests: list[str] = []

    def add(self, name: str, files: Files, tag: str | None = None) -> None:
        """Commit files to a repository, which is made if need be."""
        commits = self.repositories.setdefault(name, [])
        if tag is not None:
            self.tags[name, tag] = len(commits)
        commits.append(files)

    def commit(self, name: str, revision: str) -> tuple[str, Files] | None:
        """The hash and the files of a revision."""
        for number, files in enumerate(self.repositories.get(name, [])):
            last = number == len(self.repositories[name]) - 1
            sha = hashlib.sha1(f"{name} {number}".encode()).hexdigest()
            if revision == sha or (revision == "main" and last):
                return sha, files
            if self.tags.get((name, revision)) == number:
                return sha, files
        return None


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def missing(self, code: str) -> None:
        self.answer(404, b"{}", X_Error_Code=code, X_Error_Message="it is not there")

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.requests.append(f"{self.command} {'/'.join(parts)}")
        if parts[:2] == ["api", "models"]:
            name, kind, revision = "/".join(parts[2:4]), parts[4:5], parts[5:6]
            found = self.hub.commit(name, revision[0] if revision else "main")
            if name not in self.hub.repositories:
                self.missing("RepoNotFound")
            elif found is None:
                self.missing("RevisionNotFound")
            elif kind == ["tree"]:
                self.answer_json([entry(*file) for file in found[1].items()])
            else:
                self.answer_json(
                    {
                        "id": name,
                        "sha": found[0],
                        "siblings": [{"rfilename": file} for file in found[1]],
                        "tags": [],
                    }
                )
            return
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        found = self.hub.commit(name, revision)
        if found is None or file not in found[1]:
            self.missing("EntryNotFound")
            return
        content = found[1][file]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.answer(200, content, ETag=etag, X_Repo_Commit=found[0], Accept_Ranges="bytes")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.requests.append(f"POST {'/'.join(parts)}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "Bearer secret" not in self.headers.get("Authorization", ""):
            self.answer(401, b"{}", X_Error_Message="Invalid credentials")
            return
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.repositories.setdefault(name, [{}])
            self.answer_json({"url": f"{self.hub.address}/{name}", "name": name})
        elif parts == ["api", "validate-yaml"]:
            self.answer_json({"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer_json({"files": files})
        elif parts[4] == "commit":
            name = "/".join(parts[2:4])
            lines = [json.loads(line) for line in body.splitlines()]
            new = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.hub.add(name, {**self.hub.repositories[name][-1], **new})
            sha, _ = self.hub.commit(name, "main") or ("", {})
            self.answer_json(
                {"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": sha}
            )
        else:
            self.missing("EntryNotFound")


def entry(path: str, content: bytes) -> dict[str, Any]:
    """A file in the listing of a tree."""
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that listens on this machine until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
