"""Unpacks archives made by others: plain files only, and nothing outside the target folder."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from src.errors import UserError

# Raised by the standard library for damaged, truncated, encrypted (a RuntimeError) or oddly compressed archives.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError)


def unpack(archive: Path, into: Path) -> None:
    """Unpacks a zip or tar, recognised by its content, into an existing folder.

    The names, kinds and sizes of all members are checked before the first byte is written.

    Raises:
        UserError: not an archive, damaged, encrypted; a member with an absolute path or `..`; a link, device or pipe;
            more than the disk has room for.
    """
    try:
        with _open(archive) as file:
            members = _members(file)
            for name, _, is_plain in members:
                if name.startswith("/") or ".." in PurePosixPath(name).parts:
                    raise UserError(f"{archive}: {name!r} points outside the target folder; not unpacked")
                if not is_plain:
                    raise UserError(f"{archive}: {name} is a link, a device or a pipe; not unpacked")
            check_space(into, sum(size for _, size, _ in members), f"unpacking {archive.name}")
            if isinstance(file, tarfile.TarFile) and hasattr(tarfile, "data_filter"):
                file.extractall(into, filter="data")
            else:  # zipfile has no filter, and tarfile none before Python 3.11.4: the checks above suffice
                file.extractall(into)
    except DAMAGED as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); remove it and fetch it again") from error


def check_space(folder: Path, needed: int, purpose: str, elsewhere: str = "give a folder on another disk") -> None:
    """Raises UserError if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {purpose} needs {megabytes(needed)}, {megabytes(free)} are free; make room, or {elsewhere}"
        )


def megabytes(size: int) -> str:
    """Returns bytes as people read them, such as 11,600.0 MB."""
    return f"{size / 1e6:,.1f} MB"


def is_archive(file: Path) -> bool:
    """Returns whether a file is a zip or tar; a zip that was cut short is none."""
    return zipfile.is_zipfile(file) or tarfile.is_tarfile(file)


def _open(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    if not is_archive(archive):
        raise UserError(f"{archive}: neither a zip nor a tar archive, or cut short; remove it and fetch it again")
    return zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)


def _members(file: zipfile.ZipFile | tarfile.TarFile) -> list[tuple[str, int, bool]]:
    """Returns the name and size of each member, and whether it is a plain file or a folder."""
    if isinstance(file, tarfile.TarFile):
        return [(info.name, info.size, info.isreg() or info.isdir()) for info in file]
    plain = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: not made on Unix
    return [(info.filename, info.file_size, stat.S_IFMT(info.external_attr >> 16) in plain) for info in file.infolist()]
