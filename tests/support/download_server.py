"""A local server that breaks off, stalls and asks for a login, and archives for it; for the tests of downloads."""

import io
import os
import re
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from src.data.tools.download import Archive, Folder


class Server(ThreadingHTTPServer):
    """Serves `files`, with Range. `cuts`: bytes after which connections break; `statuses`: answers that come first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.password: str | None = None
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.hold: threading.Event | None = None
        self.drip: threading.Event | None = None  # until it is set, one byte is sent in each twentieth of a second
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server, path = self.server, self.path
        server.asked.append(("GET", path, dict(self.headers)))
        if server.statuses:
            self.answer(*server.statuses.pop(0))
        elif path == "/login":
            self.answer(200, {"Set-Cookie": "session=anonymous"})
        elif server.password and "session=good" not in self.headers.get("Cookie", ""):
            self.answer(302, {"Location": "/login"})
        elif path not in server.files:
            self.answer(404, {})
        else:
            self.file(path)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.asked.append(("POST", self.path, dict(self.headers)))
        right = form["password"] == [self.server.password] and "session=anonymous" in self.headers.get("Cookie", "")
        self.answer(*((302, {"Location": "/", "Set-Cookie": "session=good"}) if right else (200, {})))

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0", "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def file(self, path: str) -> None:
        server, content = self.server, self.server.files[path]
        start, total = 0, len(content)
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(wanted[1])
            if start >= total:
                return self.answer(416, {"Content-Range": f"bytes */{total}"})
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # which also ends it here
        self.end_headers()
        while server.drip and not server.drip.wait(0.05):
            self.wfile.write(body[:1])
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)
        if server.hold:
            server.hold.wait(10)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Runs the server in a thread, with no proxy between."""
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def make_zip(members: dict[str, bytes | zipfile.ZipInfo]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            if isinstance(content, zipfile.ZipInfo):
                file.writestr(content, "target")
            else:
                file.writestr(name, content)
    return buffer.getvalue()


def make_tar(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree(root: Path) -> set[str]:
    """Returns all files under a folder, hidden ones too."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def unused(archive: Archive, folder: Path) -> Archive:
    """Takes the place of a download that must not happen."""
    raise AssertionError("nothing must be downloaded")


Usage = namedtuple("Usage", "total used free")
FOLDERS = (Folder("set/train", "train", {"*.png": 2}), Folder("set/test", "test", {"*.png": 1}))
SET = {f"set/{name}.png": os.urandom(40_000) for name in ("train/a", "train/b", "test/c")} | {
    "set/README": b"not wanted"
}
GOOD = make_zip(SET)
