"""Unpacking archives that others made: chosen folders of a zip or tar, and nothing outside the target."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from src.errors import UserError

CHUNK = 1 << 20
# What the two modules raise for damaged, truncated, encrypted or (a RuntimeError too) oddly compressed content.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name, its size in bytes, and what opens it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folders: dict[str, str], into: Path, report: Callable[[int, int], None]) -> None:
    """Unpacks folders of a zip or tar into an empty folder.

    Every member of the archive is looked at before the first byte is written, those that are not wanted too: an archive
    with one hostile member is refused whole. Permissions, owners and times of the archive are not taken over.

    Args:
        archive: a zip, tar, tar.gz, tar.bz2 or tar.xz, told by its content.
        folders: folder in the archive ("" for its root; each part may be a pattern, as `name-*`) to folder in `into`.
        into: existing folder.
        report: called with bytes unpacked and bytes in all.

    Raises:
        UserError: not an archive, damaged, encrypted; a member with an absolute path, `..`, a drive or a backslash; a
            link, device or pipe; two members of one name; nothing in one of `folders`; more than the disk has room for.
    """
    try:
        with _members(archive) as members:
            chosen = _choose(archive, members, folders)
            total = sum(member.size for member in chosen.values())
            check_space(into, total, f"unpacking {archive.name}")
            done = 0
            for target, member in chosen.items():
                path = into / target
                path.parent.mkdir(parents=True, exist_ok=True)
                # Both modules read no more than the stated size, which is what the space was checked for.
                with member.open() as source, path.open("xb") as file:
                    while block := source.read(CHUNK):
                        file.write(block)
                        done += len(block)
                        report(done, total)
    except DAMAGED as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); fetch the archive again") from error


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """UserError where the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {purpose} needs {readable(needed)}, {readable(free)} are free; "
            "make room, or give a folder on another disk"
        )


def readable(size: int) -> str:
    """Bytes as people write them: 241.0 MB."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _choose(archive: Path, members: Iterator[Member], folders: dict[str, str]) -> dict[str, Member]:
    """Path under the target to member, for the wanted members."""
    patterns = {PurePosixPath(source).parts: target for source, target in folders.items()}
    chosen: dict[str, Member] = {}
    found = set()
    for member in members:
        parts = PurePosixPath(member.name).parts
        for pattern, target in patterns.items():
            if len(parts) > len(pattern) and all(map(fnmatchcase, parts, pattern)):
                path = "/".join((target, *parts[len(pattern) :]))
                if path in chosen:
                    raise UserError(f"{archive}: {member.name} is in the archive twice; not used")
                chosen[path] = member
                found.add(pattern)
    if missing := [source for source in folders if PurePosixPath(source).parts not in found]:
        raise UserError(f"{archive}: holds no {', '.join(missing) or 'file'}; is it another archive?")
    return chosen


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    """The archive's files, open for reading as long as the block lasts."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield _zip_members(archive, file)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            yield _tar_members(archive, file)
    else:
        raise UserError(f"{archive}: neither a zip nor a tar archive, or cut short; fetch the archive again")


def _zip_members(archive: Path, file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        _check_name(archive, info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{archive}: {info.filename} is a link, a device or a pipe; not unpacked")
        if not info.is_dir():
            yield Member(info.filename, info.file_size, partial(file.open, info))


def _tar_members(archive: Path, file: tarfile.TarFile) -> Iterator[Member]:
    for info in file:
        _check_name(archive, info.name)
        if not (info.isreg() or info.isdir()):
            raise UserError(f"{archive}: {info.name} is a link, a device or a pipe; not unpacked")
        if info.isreg():
            yield Member(info.name, info.size, partial(file.extractfile, info))


def _check_name(archive: Path, name: str) -> None:
    """UserError for every name that could mean a place outside the folder that it is unpacked into."""
    outside = name.startswith("/") or ".." in PurePosixPath(name).parts
    if outside or "\\" in name or PureWindowsPath(name).drive:
        raise UserError(f"{archive}: {name!r} points outside the target folder; not unpacked")
