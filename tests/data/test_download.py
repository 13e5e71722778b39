"""Datasets from a server, or given by hand, to their layout on disk."""

import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from src.data.tools import download, pace
from src.data.tools.download import SUMS, Archive, Folder, fetch_url, install, launch
from tests.support.download_server import FOLDERS, GOOD, SET, Server, Usage, make_tar, make_zip, serve, tree, unused

UNPACKED = {"train/a.png", "train/b.png", "test/c.png"}
DONE = UNPACKED | {"archives/set.zip", f"archives/{SUMS}"}


@pytest.fixture(autouse=True)
def keep_the_timeout() -> Iterator[None]:
    """Downloads set the default timeout of the process."""
    before = socket.getdefaulttimeout()
    yield
    socket.setdefaulttimeout(before)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(monkeypatch) as server:
        yield server


def archive(server: Server, content: bytes = GOOD, checksum: str = "") -> Archive:
    server.files["/set.zip"] = content
    return Archive("set.zip", f"{server.url}/set.zip", 120_000, FOLDERS, checksum, "stated by the test")


@pytest.mark.parametrize("checksum", ["", "md5", "sha256"])
def test_installs(server: Server, tmp_path: Path, checksum: str, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = archive(server, checksum=checksum and f"{checksum}:{hashlib.new(checksum, GOOD).hexdigest()}")
    install([wanted], tmp_path)
    out = capsys.readouterr().out
    assert (f"{checksum} is the one stated by the test" if checksum else "no checksum of it is published") in out
    assert tree(tmp_path) == DONE
    assert {name: (tmp_path / name.removeprefix("set/")).read_bytes() for name in SET if "README" not in name} == {
        name: content for name, content in SET.items() if "README" not in name
    }
    sums = subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path / "archives", capture_output=True, text=True)
    assert sums.stdout == "set.zip: OK\n"
    install([wanted], tmp_path, fetch=unused)
    assert "set.zip: already unpacked in" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_wrong_content_is_not_kept(server: Server, tmp_path: Path) -> None:
    wanted = archive(server, checksum="md5:" + "0" * 32)
    with pytest.raises(
        ValueError, match=r"damaged, or not set\.zip .*0{32} stated by the test.*not used; fetch it again"
    ):
        install([wanted], tmp_path)
    assert tree(tmp_path) == set()


def test_the_users_own_sum_comes_first(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / SUMS).write_text(f"{hashlib.sha256(GOOD).hexdigest()}  set.zip\n{'1' * 64}  other.zip\n")
    install([archive(server, checksum="md5:" + "0" * 32)], tmp_path)
    assert tree(tmp_path) == DONE
    assert "1" * 64 in (tmp_path / "archives" / SUMS).read_text()
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "archives" / SUMS).write_text("set.zip\n")
    with pytest.raises(ValueError, match=r"SHA256SUMS: line 'set\.zip' is not a sha256 and a name; mend or remove it"):
        install([archive(server)], tmp_path)


def test_the_first_content_is_the_standard(server: Server, tmp_path: Path) -> None:
    install([archive(server)], tmp_path)
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "archives" / "set.zip").unlink()
    with pytest.raises(ValueError, match=r"not the set\.zip that was here before.*remove its line from .*SHA256SUMS"):
        install([archive(server, make_zip(SET | {"set/train/d.png": b"more"}))], tmp_path)
    assert tree(tmp_path) == {"test/c.png", f"archives/{SUMS}"}
    install([archive(server)], tmp_path)
    assert tree(tmp_path) == DONE


def test_an_archive_that_does_not_unpack_is_no_standard(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a zip nor a tar"):
        install([archive(server, GOOD[:-200])], tmp_path)
    assert tree(tmp_path) == set()
    flipped = bytearray(GOOD)
    flipped[20_000] ^= 1
    with pytest.raises(ValueError, match="remove it and fetch it again"):
        install([archive(server, bytes(flipped))], tmp_path)
    assert tree(tmp_path) == {"archives/set.zip"}
    (tmp_path / "archives" / "set.zip").unlink()
    install([archive(server)], tmp_path)
    assert tree(tmp_path) == DONE


def test_an_archive_with_too_few_files(server: Server, tmp_path: Path) -> None:
    few = {name: content for name, content in SET.items() if name != "set/train/b.png"}
    with pytest.raises(ValueError, match=r"set\.zip: holds only 1 of 2 train/\*\.png; it is not the set\.zip"):
        install([archive(server, make_zip(few))], tmp_path)
    assert tree(tmp_path) == {"archives/set.zip"}


def test_a_broken_download_leaves_nothing_under_the_final_name(server: Server, tmp_path: Path) -> None:
    server.cuts = [50_000]
    with pytest.raises(ValueError, match="cut short"):
        install([archive(server)], tmp_path)
    assert tree(tmp_path) == set()
    server.statuses = [(404, {})]
    with pytest.raises(ValueError, match=r"/set\.zip: not downloaded \(HTTP Error 404.*--archive FILE"):
        install([archive(server)], tmp_path)
    assert tree(tmp_path) == set()
    install([archive(server)], tmp_path)
    assert tree(tmp_path) == DONE


def test_a_server_that_stalls_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.cuts, server.hold = [50_000], threading.Event()
    with pytest.raises(ValueError, match=r"not downloaded \(.*timed out\); run the same command again"):
        install([archive(server)], tmp_path)
    server.hold.set()
    assert tree(tmp_path) == set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the thread that was given up
def test_a_server_that_drips_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes within the socket's timeout; the whole would take months."""
    monkeypatch.setattr(pace, "PATIENCE", 0.3)
    server.drip = threading.Event()
    with pytest.raises(
        ValueError, match=r"/set\.zip: not downloaded \(the server sent \d+ bytes in 0\.3 seconds\); run the same"
    ):
        install([archive(server)], tmp_path)
    server.drip.set()
    assert not (tmp_path / "archives" / "set.zip").exists()


def test_work_after_the_last_byte_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE", 0.05)

    def work(arrived: Callable[[], None]) -> None:
        arrived()
        time.sleep(0.2)
        (tmp_path / "done").touch()

    pace.in_time(work, tmp_path)
    assert (tmp_path / "done").exists()


def test_nothing_of_the_users_is_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_text("mine")
    with pytest.raises(ValueError, match=r"train: exists but has only 1 of 2 train/\*\.png; nothing is overwritten"):
        install([archive(server)], tmp_path, fetch=unused)
    assert (tmp_path / "train" / "a.png").read_text() == "mine"
    (tmp_path / "train" / "mine.png").write_text("mine")  # whole by its count: left alone
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "test").mkdir()  # empty: may be used
    install([archive(server)], tmp_path)
    assert (tmp_path / "train" / "a.png").read_text() == "mine"
    assert tree(tmp_path) == (DONE - {"train/b.png"}) | {"train/mine.png", "notes.txt"}


def test_continues_after_being_killed_while_unpacking(server: Server, tmp_path: Path) -> None:
    wanted = archive(server)
    install([wanted], tmp_path)
    shutil.rmtree(tmp_path / "test")  # killed between the two folders
    stale = tmp_path / ".unpacking-set.zip" / "train"
    stale.mkdir(parents=True)
    (stale / "half.png").write_text("half")
    before = (tmp_path / "train" / "a.png").stat()
    install([wanted], tmp_path, fetch=unused)
    assert tree(tmp_path) == DONE
    assert (tmp_path / "train" / "a.png").stat() == before


def test_space_is_checked_before_anything_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 100_000))
    with pytest.raises(ValueError, match=r"downloading and unpacking set\.zip \(about\) needs 0\.2 MB, 0\.1 MB are"):
        install([archive(server)], tmp_path, fetch=unused)
    assert tree(tmp_path) == set()


def test_given_by_hand(tmp_path: Path) -> None:
    given, root = tmp_path / "elsewhere.zip", tmp_path / "root"
    given.write_bytes(GOOD)
    wanted = Archive("set.zip", "http://unused", 0, FOLDERS, f"md5:{hashlib.md5(GOOD).hexdigest()}")
    other = replace(wanted, name="other.zip", folders=(Folder("other", "other", {"*": 1}),))
    with pytest.raises(ValueError, match=r"elsewhere\.zip: which one is it\? .*set\.zip or other\.zip"):
        install([wanted, other], root, [given], unused)
    with pytest.raises(ValueError, match=r"--archive .*none\.zip: no such file"):
        install([wanted], root, [tmp_path / "none.zip"], unused)
    install([wanted], root, [given], unused)
    assert given.read_bytes() == GOOD
    assert tree(root) == UNPACKED | {f"archives/{SUMS}"}
    damaged = tmp_path / "set.zip"
    damaged.write_bytes(GOOD[:-1])
    with pytest.raises(ValueError, match=r"set\.zip: damaged, or not set\.zip"):
        install([wanted], tmp_path / "again", [damaged], unused)
    assert damaged.exists()


def test_put_into_the_folder_by_hand(tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "set.zip").write_bytes(make_tar(SET))  # packed anew as a tar: recognised by its content
    install([Archive("set.zip", "http://unused", 0, FOLDERS)], tmp_path, fetch=unused)
    assert tree(tmp_path) == DONE


def test_offline_is_reported_in_one_line(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/set.zip"
    with pytest.raises(SystemExit) as stop:
        launch(lambda: install([Archive("set.zip", url, 9, FOLDERS)], tmp_path))
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{url}: not downloaded (<urlopen error [Errno" in error
    assert f"fetch set.zip on another machine and put it into {tmp_path / 'archives'} (or give --archive FILE)" in error
    assert tree(tmp_path) == set()


def test_one_process_at_a_time(server: Server, tmp_path: Path) -> None:
    wanted = archive(server)

    def fetch(wanted: Archive, folder: Path) -> Archive:
        with pytest.raises(ValueError, match="another process is downloading into it"):
            install([wanted], tmp_path, fetch=unused)
        return fetch_url(wanted, folder)

    install([wanted], tmp_path, fetch=fetch)
    assert tree(tmp_path) == DONE


def test_an_interrupt_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        launch(main)
    assert stop.value.code == 130
    assert "the same command continues" in capsys.readouterr().err
