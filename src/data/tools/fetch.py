"""Downloading one file over HTTP: continued after a break, and never mixed with another version of itself."""

import json
import os
import re
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, OpenerDirector, Request, build_opener

from src.data.tools.unpack import check_space, readable
from src.errors import UserError
from src.files import write_json

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds without a byte
PATIENCE = 6  # attempts in a row that bring nothing
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before another attempt; doubled each time
BUSY = (408, 425, 429)  # and 5xx: the same request may succeed later
Answer = TypeVar("Answer")


class UnreachableError(Exception):
    """No connection to the server at all: this machine has no internet, or the server is down."""


class _BrokenError(Exception):
    """Worth another attempt. `connected` where the server had been reached, `wait` where it said how long."""

    def __init__(self, reason: object, connected: bool = True, wait: float | None = None) -> None:
        super().__init__(str(reason) or type(reason).__name__)
        self.connected, self.wait = connected, wait


class Bar:
    """Progress in the terminal, with speed: `bar.start(done, total)` at each connection, then `bar(done, total)`."""

    def __init__(self, title: str) -> None:
        from rich import progress  # here, so that --help does not wait for it

        self.progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        self.task = self.progress.add_task(title, total=None, visible=False)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def start(self, done: int, total: int | None) -> None:
        """What is there already does not count as speed."""
        self.progress.reset(self.task, completed=done, total=total, visible=True)

    def __call__(self, done: int, total: int | None) -> None:
        self.progress.update(self.task, completed=done, total=total, visible=True)


def make_opener(redirects: bool = True) -> OpenerDirector:
    """An HTTP client with cookies; proxies from the environment.

    Args:
        redirects: follow them, though never from https to http. Otherwise one is an answer like any other.
    """
    opener = build_opener(HTTPCookieProcessor(), _SafeRedirects() if redirects else _NoRedirects())
    opener.addheaders = [("User-Agent", "streetseg")]
    return opener


def ask(opener: OpenerDirector, url: str, form: bytes | None = None) -> tuple[int, str]:
    """Status (2xx or 3xx) and text of a page; POST where there is a form.

    Raises:
        UserError: refused (4xx), or nothing after several attempts. UnreachableError: no connection.
    """

    def attempt() -> tuple[int, str]:
        response = _open(opener, Request(url, form), accept=range(300, 400))
        with response:
            try:
                return response.status, response.read().decode(errors="replace")
            except (OSError, HTTPException) as error:
                raise _BrokenError(error) from error

    return _patiently(attempt, url, lambda: 0)


def fetch(url: str, part: Path, opener: OpenerDirector, bar: Bar) -> None:
    """Downloads a file to `part`, continuing what is there.

    What the server said of the content (ETag, Last-Modified, size) is kept beside it, in `<part>.json`; it is continued
    only where the server confirms that its content is still that one. Otherwise it starts over, and says why.

    Raises:
        UserError: refused; a web page in place of the file; the disk is too small; the connection keeps breaking.
            UnreachableError: no connection from the start.
    """
    _patiently(lambda: _continue(url, part, opener, bar), url, lambda: part.stat().st_size if part.is_file() else 0)


def discard(part: Path) -> None:
    """Removes a partial download and what is known of it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _continue(url: str, part: Path, opener: OpenerDirector, bar: Bar) -> None:
    """One connection. Raises _BrokenError where it ended early."""
    known = json.loads(_note(part).read_text()) if _note(part).is_file() else {}
    # Where nothing is known of it, nobody can say what the part is a part of.
    have = part.stat().st_size if any(known.values()) and part.is_file() else 0
    if have and have == known["total"]:
        return
    request = Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        etag = known["etag"] or ""
        if validator := known["modified"] if etag.startswith("W/") or not etag else etag:
            request.add_header("If-Range", validator)
    with _open(opener, request, accept=(416,) if have else ()) as response:
        is_page = response.headers.get_content_type() == "text/html" and response.status != 416
        # Before anything is discarded: a login that has lapsed, or a hotel's network, answers with a page.
        if is_page or response.status not in ((200, 206, 416) if have else (200,)):
            raise UserError(f"{url}: answers with a web page, not the file; has it moved, or must one log in first?")
        start, seen = _describe(response)
        changed = response.status == 416 or any(seen[key] and known.get(key) not in (None, seen[key]) for key in seen)
        if have and response.status == 206 and start == have and not changed:
            seen = {key: seen[key] or known[key] for key in seen}
        else:
            if have:
                why = "the content has changed on the server" if changed else "the server cannot continue a download"
                print(f"{url}: {why}; starting over", flush=True)
            discard(part)
            if response.status != 200:
                return _continue(url, part, opener, bar)
            have = 0
        _receive(response, part, have, seen, bar)


def _receive(response: HTTPResponse, part: Path, have: int, seen: dict, bar: Bar) -> None:
    """Appends what comes to the part."""
    total = seen["total"]
    if total is not None:
        check_space(part.parent, total - have, f"downloading {part.stem}")
    write_json(_note(part), seen)
    bar.start(have, total)
    with part.open("ab") as file:
        while total is None or have < total:
            try:
                block = response.read1(CHUNK if total is None else min(CHUNK, total - have))
            except (OSError, HTTPException) as error:
                raise _BrokenError(error) from error
            if not block:
                break
            file.write(block)
            have += len(block)
            bar(have, total)
        file.flush()
        os.fsync(file.fileno())
    if total is None:
        write_json(_note(part), {**seen, "total": have})
    elif have < total:
        raise _BrokenError(f"the connection ended after {readable(have)} of {readable(total)}")


def _describe(response: HTTPResponse) -> tuple[int, dict[str, str | int | None]]:
    """Where the sent part starts; and what the server says of the whole content."""
    headers = response.headers
    sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers["Content-Range"] or "")
    length = sent[2] if sent else headers["Content-Length"] if response.status == 200 else None
    total = int(length) if length and length.isdigit() else None
    return int(sent[1]) if sent else 0, {"etag": headers["ETag"], "modified": headers["Last-Modified"], "total": total}


def _open(opener: OpenerDirector, request: Request, accept: tuple[int, ...] | range = ()) -> HTTPResponse | HTTPError:
    """The answer, where its status is 2xx or in `accept`."""
    url = request.full_url
    try:
        return opener.open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code in accept:
            return error
        error.close()
        if 300 <= error.code < 400:
            raise UserError(
                f"{url}: leads to {error.headers['Location']} in place of the file; is the login allowed it?"
            ) from error
        if error.code in BUSY or error.code >= 500:
            wait = error.headers["Retry-After"] or ""
            raise _BrokenError(
                f"HTTP {error.code} {error.reason}", wait=float(wait) if wait.isdigit() else None
            ) from error
        raise UserError(
            f"{url}: the server refuses (HTTP {error.code} {error.reason}); fetch the file another way and give it "
            "with --archive FILE"
        ) from error
    except URLError as error:  # urllib's name for: no connection
        raise _BrokenError(error.reason, connected=False) from error
    except (OSError, HTTPException) as error:
        raise _BrokenError(error) from error


def _patiently(attempt: Callable[[], Answer], url: str, size: Callable[[], int]) -> Answer:
    """Repeats an attempt that breaks, waiting longer each time, as long as it gets further now and then."""
    failures, best, connected = 0, size(), False
    while True:
        try:
            return attempt()
        except _BrokenError as error:
            connected |= error.connected
            if not connected:
                raise UnreachableError(f"{urlsplit(url).hostname} ({error})") from error
            failures, best = (0, size()) if size() > best else (failures + 1, best)
            if failures == PATIENCE:
                raise UserError(
                    f"{url}: {error}, {PATIENCE} times in a row; what has arrived is kept, run the same command again "
                    "to continue"
                ) from error
            wait = min(error.wait or FIRST_WAIT * 2**failures, LONGEST_WAIT)
            print(f"{url}: {error}; trying again in {wait:.0f} s", flush=True)
            time.sleep(wait)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None  # urllib then raises it as an HTTPError


class _SafeRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Request, *args: object) -> Request | None:
        new = super().redirect_request(req, *args)
        if new and req.type == "https" and new.type != "https":
            raise UserError(f"{req.full_url}: redirects to {new.full_url}, without encryption; not followed")
        return new
