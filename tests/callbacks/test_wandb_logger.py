"""W&B's logger: online only with a server that knows the key, and no run waits for it, whatever fails."""

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from wandb.sdk import wandb_setup

from src.callbacks import wandb_logger, wandb_server
from src.callbacks.background import Background, within
from src.callbacks.wandb_logger import WandbDashboard, build_wandb_logger
from src.callbacks.wandb_server import end_helper, find_key, missing_for_online
from src.errors import UserError
from src.runs.folder import RunFolder
from tests.support.wandb_files import history
from tests.support.wandb_server import WandbServer, serving


@pytest.fixture(autouse=True)
def _key_and_little_patience(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(wandb_logger, "INIT_S", 40.0)  # nothing here waits so long but on a machine that is busy
    monkeypatch.setattr(wandb_logger, "FINISH_S", 40.0)
    monkeypatch.setattr(wandb_logger, "STOP_S", 40.0)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch):
    """Starts a server, to which W&B of this process turns."""
    contexts = []

    def start(fault: str | int | None = None) -> WandbServer:
        end_helper()  # of an earlier test, which knows another address
        contexts.append(serving(fault))
        server = contexts[-1].__enter__()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        return server

    yield start
    end_helper()
    for context in contexts:
        context.__exit__(None, None, None)


def build(folder: Path, mode: str = "auto") -> WandbDashboard:
    RunFolder(folder).note_session()
    return build_wandb_logger(str(folder), "p", None, mode)


def log_rows(logger: WandbDashboard, *steps: int) -> None:
    for step in steps:
        logger.log_metrics({"train/loss": 1 / (step + 1), "epoch": step}, step)


def settle(logger: WandbDashboard) -> None:
    """Waits until the thread has made all calls so far."""
    done = threading.Event()
    logger._give(lambda run: done.set())
    assert done.wait(20)


FAULTS = [
    (None, None),
    ("silent", "no answer within 2 s"),
    ("closes", "Remote end closed connection"),
    ("html", "answered with something that is not W&B's"),
    (401, "answered 401, it does not take the key"),
    (500, "answered 500"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_only_a_server_that_knows_the_key_is_online(
    serve, fault: str | int | None, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(fault)
    if fault == "silent":
        monkeypatch.setattr(wandb_server, "ANSWER_S", 2.0)
    found = missing_for_online()
    assert found == reason or (reason and found and found.startswith(server.url) and reason in found)


def test_without_a_server_a_key_or_a_readable_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "Connection refused" in str(missing_for_online())
    monkeypatch.delenv("WANDB_API_KEY")
    assert missing_for_online() == "no key (wandb login, or WANDB_API_KEY)"
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    file.write_text("machine 127.0.0.1 login user password secret\n")
    assert find_key("http://127.0.0.1:9") == "secret"
    assert find_key("https://api.wandb.ai") is None
    for content in (b"nonsense here", b"\xff\xfe"):
        file.write_bytes(content)
        assert re.match(rf"{file} cannot be read \(.*\); repair it, or set WANDB_API_KEY", str(missing_for_online()))


def test_a_mode_that_cannot_be_kept_is_refused(serve, tmp_path: Path) -> None:
    serve("html")
    with pytest.raises(UserError, match=r"logger.wandb.mode=online: .*set logger.wandb.mode=auto to log offline"):
        build(tmp_path, "online")
    with pytest.raises(UserError, match=r"logger.wandb.mode=maybe: must be auto, online or offline"):
        build(tmp_path, "maybe")


def test_a_sound_server_gets_every_row_and_the_exit_code(serve, tmp_path: Path) -> None:
    server = serve()
    with build(tmp_path) as logger:
        log_rows(logger, 0, 1, 2)
    assert [line["train/loss"] for line in server.lines] == pytest.approx([1, 1 / 2, 1 / 3])
    assert server.exit_codes == [0]
    (tmp_path / "next").mkdir()
    with suppress(SystemExit), build(tmp_path / "next") as logger:
        log_rows(logger, 3)
        raise SystemExit(143)
    assert server.exit_codes == [0, 143]


@pytest.mark.e2e
@pytest.mark.parametrize("fault", ["silent", "closes", "html", 401, 500, "half", "netrc"])
def test_a_broken_server_makes_a_run_offline_and_holds_nothing(
    serve, fault: str | int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(None if fault == "netrc" else fault)
    if fault == "netrc":
        monkeypatch.delenv("WANDB_API_KEY")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        (tmp_path / "netrc").write_text("nonsense here")
    elif fault == "half":
        monkeypatch.setattr(wandb_logger, "INIT_S", 5.0)
    with build(tmp_path) as logger:
        monkeypatch.setattr(wandb_logger, "INIT_S", 40.0)
        began = time.monotonic()
        log_rows(logger, 0, 1)
        assert time.monotonic() - began < 1, "the training does not wait"
    assert [row["train/loss"] for row in history(tmp_path)] == [1, 0.5]
    (note,) = (record.getMessage() for record in caplog.records if "W&B" in record.getMessage())
    assert re.match(r"note: W&B is offline: .*; to send what is in the run folder: wandb sync .*/wandb/\*run-\*$", note)


def helper() -> subprocess.Popen:
    """Returns W&B's helper process."""
    connection = wandb_setup.singleton()._connection
    assert connection is not None
    assert connection._proc is not None
    return connection._proc._process


def kill_helper() -> None:
    process = helper()
    process.kill()
    process.wait(20)


def lose(fault: str | int) -> Callable[[WandbServer], object]:
    return lambda server: setattr(server, "fault", fault)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lose("silent"), "has not got everything within 2 s"),
        (lose("closes"), "has not got everything within 2 s"),
        (lose(500), "has not got everything within 2 s"),
        (lose("html"), "may not have got everything|has not got everything"),
        (lose(401), "may not have got everything: .* answered 401"),
        (lambda server: kill_helper(), "goes on offline: ConnectionResetError: its helper process has died"),
        (lambda server: helper().send_signal(signal.SIGSTOP), "has not ended after 5 s, and is stopped"),
    ],
    ids=["silent", "closes", "500", "html", "401", "helper killed", "helper stopped"],
)
def test_w_and_b_that_fails_in_mid_training_holds_nothing(
    serve, fail: Callable, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    if "within" in words:
        monkeypatch.setattr(wandb_logger, "FINISH_S", 2.0)
    with build(tmp_path) as logger:
        log_rows(logger, 0)
        settle(logger)
        fail(server)
        began = time.monotonic()
        log_rows(logger, 1, 2)
        assert time.monotonic() - began < 1, "the training does not wait"
        if "ended" in words:
            monkeypatch.setattr(wandb_logger, "INIT_S", 3.0)
            monkeypatch.setattr(wandb_logger, "FINISH_S", 2.0)
    monkeypatch.setattr(wandb_logger, "INIT_S", 40.0)
    notes = [record.getMessage() for record in caplog.records if "note: W&B" in record.getMessage()]
    assert len(notes) == 1
    assert re.match(f"note: W&B ({words})", notes[0])
    if "goes on offline" in words:  # what the dead process had not written is lost
        assert [row["train/loss"] for row in history(tmp_path)] == pytest.approx([1 / 2, 1 / 3])
    elif "stopped" not in words:
        rows = history(tmp_path, "run-*")
        assert [row["train/loss"] for row in rows] == pytest.approx([1, 1 / 2, 1 / 3])
    (tmp_path / "next").mkdir()
    with build(tmp_path / "next", "offline") as logger:  # the next job of a sweep is not affected
        log_rows(logger, 7)
    assert [row["train/loss"] for row in history(tmp_path / "next")] == [1 / 8]


def test_calls_are_made_in_order_and_a_bug_in_one_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []
    background = Background("test")
    for number in range(100):
        background.give(lambda number=number: made.append(number))
    background.give(lambda: 1 / 0)
    background.give(lambda: made.append(100))
    assert background.close(5)
    assert made == list(range(101))
    assert "ZeroDivisionError" in caplog.text


def test_nobody_waits_longer_than_given() -> None:
    began, forever = time.monotonic(), threading.Event()
    background = Background("test")
    background.give(forever.wait)
    assert not background.close(0.1)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        within(0.1, forever.wait)
    assert time.monotonic() - began < 2
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    forever.set()
