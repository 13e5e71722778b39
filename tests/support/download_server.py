"""A local server that breaks, changes and lies, and archives for it: what the tests of downloads share."""

import hashlib
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

from src.data.tools import fetch
from src.data.tools.download import Folder, Session


class Server(ThreadingHTTPServer):
    """Serves `files` with ETag and Range; `cuts`: bytes after which connections break, `statuses`: sent first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.cuts: list[int] = []
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.ranges = self.if_range = self.length = True
        self.html = False
        self.password: str | None = None
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sent = 0
        self.hold: threading.Event | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def etag(self, path: str) -> str:
        return self.etags.get(path, f'"{hashlib.md5(self.files[path]).hexdigest()}"')


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

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def file(self, path: str) -> None:
        server, content = self.server, self.server.files[path]
        start, total = 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not server.if_range or self.headers.get("If-Range", server.etag(path)) == server.etag(path)
        if wanted and server.ranges and same:
            start = int(wanted[1])
            if start >= total:
                return self.answer(416, {"Content-Range": f"bytes */{total}", "ETag": server.etag(path)})
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.etag(path))
        self.send_header("Content-Type", "text/html" if server.html else "application/zip")
        self.send_header("Connection", "close")  # which also ends it here
        body = content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.end_headers()
        body = body[: server.cuts.pop(0)] if server.cuts else body
        self.wfile.write(body)
        server.sent += len(body)
        if server.hold:
            server.hold.wait(10)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server in a thread; no proxy between, and no waiting between attempts."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.001)
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
    """All files under a folder, hidden ones too."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def unused() -> Session:
    raise AssertionError("nothing must be downloaded")


Usage = namedtuple("Usage", "total used free")
FOLDERS = (Folder("set/train", "train", {"*.png": 2}), Folder("set/test", "test", {"*.png": 1}))
SET = {f"set/{name}.png": os.urandom(40_000) for name in ("train/a", "train/b", "test/c")} | {
    "set/README": b"not wanted"
}
GOOD = make_zip(SET)
