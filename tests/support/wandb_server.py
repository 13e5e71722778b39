"""A small local server in place of W&B's: sound, or broken in one of the ways that real ones are."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = {
    "id": "QnVja2V0OjE=", "name": "x", "displayName": "x", "description": "", "config": "{}", "sweepName": None,
    "project": {"id": "UHJvamVjdDox", "name": "p", "entity": {"id": "RW50aXR5OjE=", "name": "me"}},
    "historyLineCount": 0, "history": [], "events": [], "summaryMetrics": "{}",
}  # fmt: skip


class WandbServer(ThreadingHTTPServer):
    """Answers as W&B does as long as `fault` is None.

    Attributes:
        fault: None, `silent`, `closes`, `html`, `half` (it knows the key, then is silent), or the status of an error.
        queries: the GraphQL requests that came, as text.
        lines: the lines of history that came.
        exit_codes: of the runs that ended.
    """

    daemon_threads = True

    def __init__(self, fault: str | int | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.queries: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that go away."""


class Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault
        if fault == "silent" or (fault == "half" and b"Viewer" not in body):
            self.server.ended.wait()
        elif fault == "closes":
            self.close_connection = True
        elif fault == "html":
            self._send(200, b"<html>Please accept the terms of this hotel.</html>", "text/html")
        elif isinstance(fault, int):
            self._send(fault, b'{"errors": [{"message": "no"}]}')
        elif self.path.endswith("/graphql"):
            self._send(200, json.dumps({"data": self._answer(json.loads(body))}).encode())
        else:
            if "file_stream" in self.path:
                self._note(json.loads(body))
            self._send(200, b"{}")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        query = request["query"]
        self.server.queries.append(query)
        if "upsertBucket" in query:
            return {"upsertBucket": {"bucket": BUCKET, "inserted": True}}
        if "viewer" in query:
            return {"viewer": {"id": "me", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}}
        if "serverInfo" in query:
            return {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []}}
        if "createRunFiles" in query:
            files = request["variables"].get("files", [])
            places = [{"name": name, "uploadUrl": f"{self.server.url}/storage/{name}"} for name in files]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": places}}
        return {}

    def _note(self, content: dict[str, Any]) -> None:
        for name, part in content.get("files", {}).items():
            if name == "wandb-history.jsonl":
                self.server.lines += [json.loads(line) for line in part["content"]]
        if content.get("complete"):
            self.server.exit_codes.append(content["exitcode"])

    def _send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(fault: str | int | None = None) -> Iterator[WandbServer]:
    """Serves on a free port of this machine for the duration of a block."""
    server = WandbServer(fault)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
