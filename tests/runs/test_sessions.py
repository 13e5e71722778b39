"""A run that is continued by other code or versions logs a note, and records it."""

import re
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.runs import sessions
from src.runs.folder import RunFolder
from src.runs.sessions import code_digest, describe_session, differences
from src.runs.summary import minutes_of


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that was begun, and has a checkpoint."""
    run = RunFolder(tmp_path)
    run.note_session()
    run.last.parent.mkdir()
    run.last.touch()
    return run


def test_the_same_code_is_no_note(run: RunFolder, caplog) -> None:
    run.note_session()
    assert not caplog.text
    assert "differs" not in run.read_environment()["sessions"][-1]


@pytest.mark.parametrize(
    ("commit", "expected"),
    [("f" * 40, r"code: another commit, \w{7,8} -> ffffffff"), (None, "code: the same commit with other changes")],
)
def test_other_code_is_noted_and_recorded(run: RunFolder, commit, expected, caplog, monkeypatch) -> None:
    monkeypatch.setattr(sessions, "code_digest", lambda: "0123456789ab")
    if commit:
        monkeypatch.setattr(sessions, "_git", lambda *words: commit)
    run.note_session()
    session = run.read_environment()["sessions"][-1]
    assert session["code"] == "0123456789ab"
    (found,) = session["differs"]
    assert found in caplog.text
    assert re.match(expected, found)
    assert "resume=false begins anew beside it" in caplog.text


def test_other_versions_are_noted(run: RunFolder, caplog, monkeypatch) -> None:
    real = sessions.version
    monkeypatch.setattr(sessions, "version", lambda name: "9.9.9" if name == "torch" else real(name))
    run.note_session()
    assert f"torch: {real('torch')} -> 9.9.9" in caplog.text


def test_a_package_that_is_not_installed_has_no_version(run: RunFolder, monkeypatch) -> None:
    real = sessions.version

    def version(name: str) -> str:
        if name == "wandb":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(sessions, "version", version)
    run.note_session()
    versions = run.read_environment()["sessions"][-1]["versions"]
    assert versions["wandb"] is None
    assert versions["torch"] == real("torch")


def test_a_folder_without_weights_is_begun_anew(run: RunFolder, caplog, monkeypatch) -> None:
    run.last.unlink()
    monkeypatch.setattr(sessions, "code_digest", lambda: "0123456789ab")
    run.note_session()
    assert not caplog.text


def test_a_clock_that_goes_backwards_makes_no_session_shorter(run: RunFolder, monkeypatch) -> None:
    monotonic = time.monotonic
    monkeypatch.setattr(sessions, "datetime", SimpleNamespace(now=lambda zone: datetime(1999, 1, 1, tzinfo=zone)))
    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: monotonic() + 90))
    run.note_end()
    assert minutes_of(run.read_environment()["sessions"]) == 1.5


def test_another_commit_of_the_same_code_is_no_difference() -> None:
    session = describe_session("src.train", continues=False)
    assert differences({**session, "git_commit": "0" * 40}, session) == []
    assert differences({}, session), "a session of which nothing is known"


def test_code_that_is_not_committed_counts(tmp_path: Path, monkeypatch) -> None:
    for name, text in (("src/a.py", "x = 1"), ("conf/a.yaml", "x: 1")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sessions, "HOME", tmp_path)
    monkeypatch.setattr(sessions, "PACKAGE", tmp_path / "src")
    digests = []
    for name in ("src/a.py", "conf/a.yaml", "src/notes.txt"):
        code_digest.cache_clear()
        digests.append(code_digest())
        (tmp_path / name).write_text("other")
    code_digest.cache_clear()
    digests.append(code_digest())
    code_digest.cache_clear()
    assert len(set(digests[:3])) == 3
    assert digests[2] == digests[3]
