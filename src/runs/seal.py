"""The seal of a checkpoint: a digest of its content in the comment at the end of the zip archive that torch writes."""

import hashlib
import os
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from src.errors import UserError

END = b"PK\x05\x06"  # of the 22 bytes that end an archive without a comment
MAGIC = b"streetseg sha256 "
LENGTH = len(MAGIC) + 64  # bytes of the comment
BLOCK = 1 << 20


def seal(path: Path) -> None:
    """Writes the digest of a checkpoint into its comment; torch reads the file as before."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 22)
        assert file.read(4) == END, f"{path} is no archive"
        comment = MAGIC + _digest(path, size - 2).encode()
        file.seek(size - 2)
        file.write(LENGTH.to_bytes(2, "little") + comment)


def fault(path: Path) -> str | None:
    """Returns the fault of a checkpoint, or None; the sums in the archive stand in for a seal that is missing."""
    stat = path.stat()
    return _fault(path, stat.st_mtime_ns, stat.st_size)


def check_sound(path: Path, remedy: str) -> None:
    """Raises UserError with the remedy if a checkpoint is damaged."""
    if found := fault(path):
        raise UserError(f"{path}: is damaged ({found}); {remedy}")


def is_archive(path: Path) -> bool:
    """Returns whether a file begins as the archives of torch.save do; those of before torch 1.6 do not."""
    with path.open("rb") as file:
        return file.read(2) == END[:2]


@cache
def _fault(path: Path, mtime: int, size: int) -> str | None:
    if size == 0:
        return "it is empty"
    with path.open("rb") as file:
        file.seek(max(0, size - LENGTH))
        comment = file.read()
    if comment.startswith(MAGIC):
        is_same = comment.removeprefix(MAGIC) == _digest(path, size - LENGTH - 2).encode()
        return None if is_same else "its content is not what was written"
    if not comment[-22:].startswith(END):
        return "it is cut off, or no checkpoint"
    try:
        with ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # zipfile raises errors of many kinds
        return str(error) or type(error).__name__
    return None if wrong is None else f"{wrong} in it is not what was written"


def _digest(path: Path, size: int) -> str:
    """Hashes the first bytes of a file."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(BLOCK, size))):
            content.update(block)
            size -= len(block)
    return content.hexdigest()


def keep_before(path: Path, before: Path) -> None:
    """Keeps a file under a second name beside it; the first name stays until another file takes it."""
    temporary = before.with_name(f".{before.stem}.{os.getpid()}.tmp{before.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        os.replace(path, before)
    else:
        os.replace(temporary, before)
