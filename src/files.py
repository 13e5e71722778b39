"""Writes files whole or not at all, only into folders of this program, reads them back, and locks them."""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields, is_dataclass
from itertools import chain, count
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

from src.errors import UserError

log = logging.getLogger(__name__)
PACKAGE = Path(__file__).parent
# The folder that holds conf/ and zoo/: the clone around src/, or the installed package, which has them inside.
HOME = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
MARKER = ".streetseg"  # a file in every folder that this program made
LOCK = ".lock"
LOCK_POLL_S = 1.0  # seconds between tries for a lock that another process has
TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")  # the names that `atomic_path` makes
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of file systems that cannot lock
LONGEST = 200  # bytes of a name; file systems take 255, and logs of folds have longer names than their folders


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it replaces `path` in one step if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, for writers that choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, busy: str) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which replaces it if the block ends without an error.

    Raises:
        UserError: with the text `busy`; another process writes the same folder.
    """
    temporary = beside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(lock(path.with_name(f".{path.name}{LOCK}"), busy)):
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir()
        try:
            yield temporary
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def walk(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yields each folder at or beneath a folder, its sub-folders sorted (which may be cut down) and its files.

    Links to folders are followed, after everything else. Each folder comes once, so that links in a circle end.
    """
    tops, seen = [str(top)], set[str]()
    for start in tops:
        for path, inner, files in os.walk(start):
            if (real := os.path.realpath(path)) in seen:
                inner.clear()
                continue
            seen.add(real)
            inner.sort()
            yield Path(path), inner, files
            tops += filter(os.path.islink, (os.path.join(path, name) for name in inner))


def beside(path: Path) -> Path:
    """Returns the folder in which `atomic_folder` has the content of `path` written, by any process."""
    return path.with_name(f".{path.name}.tmp")


def sweep(folder: Path) -> None:
    """Removes what killed processes left of `atomic_path` in a folder, which the caller has locked."""
    for path in folder.glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def check_name(key: str, name: Any) -> str:
    """Returns a name for a folder. Raises UserError if it would leave its parent, or if no file system takes it."""
    text = str(name)
    if text in ("", ".", "..") or "/" in text or not text.isprintable():
        raise UserError(f"{key}={text!r}: must be the name of one folder, without / and not . or ..")
    if len(os.fsencode(text)) > LONGEST:
        raise UserError(f"{key}={text[:20]}...: is {len(os.fsencode(text))} bytes long; give one of at most {LONGEST}")
    return text


def claim(folder: Path, key: str) -> None:
    """Makes a folder and marks it as one of this program, which may replace and remove files in it.

    Args:
        folder: may exist if it is empty or was claimed before.
        key: the key that chooses another folder, for the message.

    Raises:
        UserError: the folder holds files of somebody else, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / MARKER).is_file():
            return
        for path in folder.iterdir():
            if path.name != LOCK and not TEMPORARY.fullmatch(path.name):
                raise UserError(
                    f"{folder}: holds files that this program did not make ({path.name}), and they could be replaced; "
                    f"give another {key}=, or, if the folder was made by this program, an empty file {MARKER} in it"
                )
        (folder / MARKER).write_text("Made by streetseg, which replaces and removes files in this folder.\n")
    except FileExistsError as error:
        raise UserError(f"{folder}: is a file, and a folder is to be made; give another {key}=") from error
    except NotADirectoryError as error:
        raise UserError(f"{folder}: a file is in the way of this folder; give another {key}=") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be made or written to ({error.strerror}); give another {key}=") from error


def has_file(path: Path) -> bool:
    """Returns whether a record is there. Raises UserError if something else is in its place."""
    if path.is_file():
        return True
    if path.exists() or path.is_symlink():
        what = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "a device or a pipe"
        raise UserError(f"{path}: is {what} in the place of a file of this program; move it away")
    return False


def read_json(path: Path) -> Any:
    """Reads a JSON file. Raises UserError if it is damaged or missing."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError, FileNotFoundError, IsADirectoryError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> UserError:
    """Returns the error of a record that cannot be read back."""
    text = " ".join(str(why).split())[:150]
    return UserError(
        f"{path}: is damaged or not a file of this program ({text}); put back a copy of it, or remove it and repeat "
        "the command that wrote it"
    )


def write_text(path: Path, text: str) -> None:
    """Writes text in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON in one step: NaN becomes null, so that any reader takes it."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


_locks: WeakSet[IO] = WeakSet()


def lock(path: Path, busy: str) -> IO:
    """Locks a file, made if it is missing, for this process: until the result is closed or the process dies.

    Forked children do not share the lock: a data process that outlives its training must not hold its folder. A file
    system without locks is used without one, which is logged.

    Raises:
        UserError: with the text `busy`; another process has the lock.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(busy) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            file.close()
            raise
        log.warning("%s: this file system has no locks; do not start the same command twice at a time", path)
    _locks.add(file)
    return file


def wait_for_lock(path: Path, busy: str) -> IO:
    """Locks a file as `lock` does, but waits while another process has it, and logs the text `busy` then."""
    is_noted = False
    while True:
        try:
            return lock(path, busy)
        except UserError:
            if not is_noted:
                log.info(busy)
            is_noted = True
            time.sleep(LOCK_POLL_S)


def _forget_locks() -> None:
    """Closes, in a forked child, the files that its parent has locked; this leaves the parent its locks."""
    for file in list(_locks):
        file.close()


os.register_at_fork(after_in_child=_forget_locks)


def first_free(path: Path) -> Path:
    """Returns this path, or the first of `path-2`, `path-3`, ... that does not exist."""
    others = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(free for free in chain([path], others) if not free.exists())


def plain(value: Any) -> Any:
    """Returns the value as it is read back from a file of `write_json`, a dataclass as an object.

    A dataclass may have `add_texts(content)`, which returns its JSON object with texts added for readers; fields that
    give way to a text move into an object under the key `fields`.
    """
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        add_texts = getattr(value, "add_texts", None)
        return content if add_texts is None else add_texts(content)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and value != value:
        return None
    return value
