"""Brings a dataset to disk: downloads its archives or takes given ones, checks them, and unpacks the needed folders.

The scripts `scripts/download_*.py` state the archives. torch.hub downloads: unlike torchvision's `download_url`, it
never retries a failed https address over http, and never leaves half a file under the final name.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from src.data.tools.pace import in_time
from src.data.tools.unpack import check_space, is_archive, megabytes, unpack
from src.errors import UserError
from src.files import write_text

SUMS = "SHA256SUMS"
TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Folder:
    """A folder of an archive ("" for its root; may be a pattern), its place under the root, and its number of files."""

    source: str
    target: str
    counts: dict[str, int]

    def shortfall(self, path: Path) -> str | None:
        """Returns the files that the folder at `path` lacks, in words; None if it is whole."""
        for pattern, count in self.counts.items():
            if (found := sum(1 for _ in path.glob(pattern))) < count:
                return f"{found} of {count} {self.target}/{pattern}"
        return None


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Args:
        size: bytes, approximately.
        checksum: "md5:..." or "sha256:..."; empty if none is published.
        stated_by: the source of the checksum.
    """

    name: str
    url: str
    size: int
    folders: tuple[Folder, ...]
    checksum: str = ""
    stated_by: str = ""

    def missing(self, root: Path) -> list[Folder]:
        """Returns the folders that `root` lacks. UserError if one exists in part: it may be the user's work."""
        lacking = [(folder, short) for folder in self.folders if (short := folder.shortfall(root / folder.target))]
        for folder, short in lacking:
            path = root / folder.target
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UserError(
                    f"{path}: exists but has only {short}; nothing is overwritten, move it away or give another --root"
                )
        return [folder for folder, _ in lacking]


def fetch_url(archive: Archive, folder: Path) -> Archive:
    """Downloads an archive into `folder`, with a progress bar. Raises OSError if nothing, or too little, arrives."""
    from torch.hub import download_url_to_file  # here, so that --help does not wait for torch

    socket.setdefaulttimeout(TIMEOUT)
    in_time(lambda arrived: download_url_to_file(archive.url, str(folder / archive.name)), folder)
    return archive


def install(
    archives: Sequence[Archive],
    root: Path,
    given: Sequence[Path] = (),
    fetch: Callable[[Archive, Path], Archive] = fetch_url,
) -> None:
    """Downloads the missing archives to `root/archives`, checks them, and unpacks them under `root`.

    Args:
        root: folder of the dataset, as `data.root`.
        given: archives that were downloaded by hand; used in their place.
        fetch: downloads an archive into a folder, continuing a part that lies there if it can, and returns the archive
            with the checksum that the server states now. Called only if something must be downloaded.

    Raises:
        UserError: it cannot be done; says why and what to do. Existing files are left unchanged.
    """
    store = root / "archives"
    files = {archive.name: store / archive.name for archive in archives} | _by_name(given, archives)
    todo = []
    for archive in archives:
        if folders := archive.missing(root):
            todo.append((archive, folders))
        else:
            print(f"{archive.name}: already unpacked in {root}, nothing to do", flush=True)
    if not todo:
        return
    store.mkdir(parents=True, exist_ok=True)
    with _lock(store):
        absent = [archive for archive, _ in todo if not files[archive.name].is_file()]
        if absent:
            arrived = sum(path.stat().st_size for path in (store / "partial").glob("*"))
            needed = sum(2 * archive.size for archive in absent) - arrived
            check_space(root, needed, f"downloading and unpacking {' and '.join(a.name for a in absent)} (about)")
        for archive, folders in sorted(todo, key=lambda item: item[0] in absent):  # those on disk first
            file = files[archive.name]
            sha256 = _download(archive, file, fetch) if archive in absent else _verify(file, archive, store)
            _place(archive, file, folders, root)
            # Only now: an archive that does not unpack must not become the standard for later downloads.
            sums = _read_sums(store) | {archive.name: sha256}
            write_text(store / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
            print(f"{archive.name}: unpacked in {root}; {file} is not needed any more", flush=True)


def arguments(description: str, archives: Sequence[Archive]) -> argparse.ArgumentParser:
    """Returns the common command line of the scripts; --help lists the archives and the sources of their checksums."""
    width = max(len(archive.name) for archive in archives)
    lines = [
        f"  {archive.name:<{width}}  {megabytes(archive.size):>11}  "
        + (f"{archive.checksum.split(':')[0]} {archive.stated_by}" if archive.checksum else "no checksum published")
        for archive in archives
    ]
    text = f"""archives, their approximate sizes, and their checksums:
{chr(10).join(lines)}

The sha256 of an archive is recorded in archives/{SUMS} when it is first unpacked, and later
downloads of it are compared with that."""
    parser = argparse.ArgumentParser(
        description=description, epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=_path, required=True, help="folder for the dataset: data.root of the training")
    text = "an archive that was downloaded by hand, used in place of a download; may be repeated"
    parser.add_argument("--archive", type=_path, action="append", default=[], metavar="FILE", help=text)
    return parser


def launch(main: Callable[[], None]) -> None:
    """Runs a script. Errors that a user can mend are printed in one line, with exit status 1."""
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _path(text: str) -> Path:
    return Path(text).expanduser()  # shells leave --root=~/data as it is


def _by_name(given: Sequence[Path], archives: Sequence[Archive]) -> dict[str, Path]:
    """Maps archive names to given files by their names; a single archive may have any."""
    names = [archive.name for archive in archives]
    files = {}
    for path in given:
        if not path.is_file():
            raise UserError(f"--archive {path}: no such file")
        if path.name not in names and len(names) > 1:
            raise UserError(f"--archive {path}: which one is it? Name it as it was published: {' or '.join(names)}")
        files[path.name if path.name in names else names[0]] = path
    return files


def _download(archive: Archive, file: Path, fetch: Callable[[Archive, Path], Archive]) -> str:
    """Downloads to `file`, in one step once the content is whole and right. Returns its sha256."""
    store, part = file.parent, file.parent / "partial" / archive.name
    part.parent.mkdir(exist_ok=True)
    try:
        archive = fetch(archive, part.parent)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"{archive.url}: not downloaded ({error}); run the same command again, or fetch {archive.name} on another "
            f"machine and put it into {store} (or give --archive FILE)"
        ) from error
    try:
        sha256 = _verify(part, archive, store)
    except UserError:
        part.unlink()  # must not be continued
        raise
    os.replace(part, file)
    return sha256


def _verify(file: Path, archive: Archive, store: Path) -> str:
    """Returns the sha256 of a file. UserError if it is not as recorded of the archive or, before that, as published."""
    print(f"{archive.name}: checking", flush=True)
    sha256 = digest(file, "sha256")
    algorithm, _, value = archive.checksum.partition(":")
    if recorded := _read_sums(store).get(archive.name):
        if recorded != sha256:
            raise UserError(
                f"{file}: not the {archive.name} that was here before (sha256 {sha256}, recorded {recorded}), not "
                f"used; fetch it again, or, if the publisher replaced it, remove its line from {store / SUMS}"
            )
    elif algorithm:
        if (found := digest(file, algorithm)) != value:
            raise UserError(
                f"{file}: damaged, or not {archive.name} ({algorithm} {found}, {value} {archive.stated_by}), not used; "
                f"fetch it again. If you know by other means that it is right, put the line '{sha256}  {archive.name}' "
                f"into {store / SUMS}"
            )
        print(f"{archive.name}: {algorithm} is the one {archive.stated_by}", flush=True)
    elif not is_archive(file):
        raise UserError(f"{file}: neither a zip nor a tar archive, or cut short; fetch it again")
    else:
        text = f"no checksum of it is published; its sha256 {sha256} goes into {store / SUMS}"
        print(f"{archive.name}: {text}", flush=True)
    return sha256


def _place(archive: Archive, file: Path, folders: Sequence[Folder], root: Path) -> None:
    """Unpacks beside the target, checks that all files are there, and moves each folder to its place in one step."""
    temporary = root / f".unpacking-{archive.name}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed; the lock says that none is under way
    temporary.mkdir()
    print(f"{archive.name}: unpacking", flush=True)
    try:
        unpack(file, temporary)
        places = {}
        for folder in folders:
            path = next(temporary.glob(folder.source), None) if folder.source else temporary
            if path is None:
                raise UserError(f"{file}: holds no {folder.source}; is it another archive?")
            if short := folder.shortfall(path):
                raise UserError(f"{file}: holds only {short}; it is not the {archive.name} that is known, not used")
            places[path] = root / folder.target
        os.sync()
        for path, target in places.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target)  # raises if files have appeared there meanwhile
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digest(file: Path, algorithm: str) -> str:
    """Returns the hash of a file's content in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _read_sums(store: Path) -> dict[str, str]:
    """Returns the sha256 of each name, from lines as `sha256sum` writes them."""
    path, sums = store / SUMS, {}
    for line in filter(str.strip, path.read_text().splitlines() if path.is_file() else []):
        sha256, _, name = line.partition("  ")
        if not name:
            raise UserError(f"{path}: line {line!r} is not a sha256 and a name; mend or remove it")
        sums[name] = sha256.lower()
    return sums


@contextmanager
def _lock(store: Path) -> Iterator[None]:
    """Holds `store` for this process. UserError if another one downloads into it."""
    descriptor = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(f"{store}: another process is downloading into it; wait for it") from error
    finally:
        os.close(descriptor)
