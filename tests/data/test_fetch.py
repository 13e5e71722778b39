"""One file over HTTP: connections that break, content that changes, servers that lie. No network but this machine."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request

import pytest

from src.data.tools import fetch as fetching
from src.data.tools.fetch import Bar, fetch, make_opener
from tests.support.download_server import Server, Usage, serve
from tests.support.paths import ROOT


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(monkeypatch) as server:
        yield server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "store.part"


def get(server: Server, part: Path) -> bytes:
    with Bar("test") as bar:
        fetch(f"{server.url}/file", part, make_opener(), bar)
    return part.read_bytes()


@pytest.mark.parametrize("length", [True, False])
def test_whole_file(server: Server, part: Path, length: bool) -> None:
    server.files["/file"] = os.urandom(700_000)
    server.length = length
    assert get(server, part) == server.files["/file"]
    assert get(server, part) == server.files["/file"]
    assert len(server.asked) == 1  # what is whole is not asked for again


def test_broken_connections_are_continued(server: Server, part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/file"] = os.urandom(1_000_000)
    server.cuts = [300_000, 0, 250_000, 1]
    assert get(server, part) == server.files["/file"]
    ranges = [headers.get("Range") for _, _, headers in server.asked]
    assert ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=550000-", "bytes=550001-"]
    assert {headers.get("If-Range") for _, _, headers in server.asked[1:]} == {server.etag("/file")}
    assert server.sent == 1_000_000  # no byte twice
    assert "the connection ended after 300.0 kB of 1.0 MB; trying again" in capsys.readouterr().out


def test_a_chunked_answer_that_breaks_is_noticed(server: Server, part: Path) -> None:
    server.files["/file"] = os.urandom(500_000)
    server.length = False
    server.cuts = [200_000]
    assert get(server, part) == server.files["/file"]
    assert server.asked[1][2]["Range"].startswith("bytes=")


def test_gives_up_after_attempts_that_bring_nothing(server: Server, part: Path) -> None:
    content = server.files["/file"] = os.urandom(400_000)
    server.cuts = [100_000] + [0] * 50
    with pytest.raises(ValueError, match=r"6 times in a row; what has arrived is kept, run the same command again"):
        get(server, part)
    assert part.read_bytes() == content[:100_000]
    assert {path.name for path in part.parent.iterdir()} == {"store.part", "store.part.json"}
    server.cuts, server.asked = [], []
    assert get(server, part) == content
    assert server.asked[0][2]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("if_range", [True, False])  # and with a server that does not know If-Range
@pytest.mark.parametrize("size", [600_000, 50_000])  # and smaller than what is there: 416 without If-Range
def test_changed_content_is_never_mixed(
    server: Server, part: Path, if_range: bool, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/file"] = os.urandom(600_000)
    server.cuts = [100_000] + [0] * 20
    with pytest.raises(ValueError, match="in a row"):
        get(server, part)
    new = server.files["/file"] = os.urandom(size)
    server.cuts, server.if_range = [], if_range
    assert get(server, part) == new
    assert "the content has changed on the server; starting over" in capsys.readouterr().out


def test_server_that_cannot_continue(server: Server, part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/file"] = os.urandom(300_000)
    server.ranges = False
    server.cuts = [200_000]
    assert get(server, part) == server.files["/file"]
    assert "the server cannot continue a download; starting over" in capsys.readouterr().out


def test_a_weak_etag_is_no_if_range(server: Server, part: Path) -> None:
    server.files["/file"] = os.urandom(300_000)
    server.etags["/file"] = 'W/"weak"'
    server.cuts = [200_000]
    assert get(server, part) == server.files["/file"]
    assert server.asked[1][2]["Range"] == "bytes=200000-"
    assert "If-Range" not in server.asked[1][2]


def test_a_part_of_unknown_origin_is_not_used(server: Server, part: Path) -> None:
    server.files["/file"] = os.urandom(300_000)
    part.write_bytes(b"of something else")
    assert get(server, part) == server.files["/file"]
    assert "Range" not in server.asked[0][2]


def test_a_page_in_place_of_the_file_costs_nothing(server: Server, part: Path) -> None:
    content = server.files["/file"] = os.urandom(300_000)
    server.cuts = [200_000] + [0] * 20
    with pytest.raises(ValueError, match="in a row"):
        get(server, part)
    server.html, server.ranges, server.cuts = True, False, []
    with pytest.raises(ValueError, match="answers with a web page, not the file"):
        get(server, part)
    assert part.read_bytes() == content[:200_000]


def test_busy_server_is_asked_again(server: Server, part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/file"] = b"content"
    server.statuses = [(503, {}), (429, {"Retry-After": "0"})]
    assert get(server, part) == b"content"
    assert "HTTP 503 Service Unavailable; trying again" in capsys.readouterr().out


def test_missing_file_is_not_asked_for_again(server: Server, part: Path) -> None:
    with pytest.raises(ValueError, match=r"/file: the server refuses \(HTTP 404 Not Found\).*--archive FILE"):
        get(server, part)
    assert len(server.asked) == 1


def test_redirects(server: Server, part: Path) -> None:
    server.files["/file"] = b"content"
    server.statuses = [(302, {"Location": "/file"})]
    assert get(server, part) == b"content"
    redirect = next(handler for handler in make_opener().handlers if isinstance(handler, fetching._SafeRedirects))
    with pytest.raises(ValueError, match="without encryption; not followed"):
        redirect.redirect_request(Request("https://host/a"), None, 302, "Found", {}, "http://host/a")


def test_space_is_checked_before_the_first_byte(server: Server, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/file"] = os.urandom(300_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 299_999))
    with pytest.raises(ValueError, match=r"downloading store needs 300\.0 kB, 300\.0 kB are free; make room"):
        get(server, part)
    assert not part.exists()


def test_continues_after_sigkill(server: Server, part: Path) -> None:
    server.files["/file"] = os.urandom(900_000)
    server.cuts, server.hold = [600_000], threading.Event()
    code = (
        "import sys; from pathlib import Path; from src.data.tools.fetch import Bar, fetch, make_opener\n"
        "with Bar('') as bar: fetch(sys.argv[1], Path(sys.argv[2]), make_opener(), bar)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/file", str(part)], cwd=ROOT)
    while process.poll() is None and (not part.is_file() or part.stat().st_size < 500_000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.hold.set()
    have = part.stat().st_size
    assert 500_000 <= have <= 600_000
    server.asked.clear()
    assert get(server, part) == server.files["/file"]
    assert server.asked[0][2]["Range"] == f"bytes={have}-"
