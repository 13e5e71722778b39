"""Bringing a dataset to disk: its archives downloaded or given by hand, checked, unpacked into the layout that is read.

The scripts `scripts/download_*.py` state what there is to fetch. Standard library and rich alone.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import OpenerDirector

from src.data.tools.fetch import Bar, UnreachableError, discard, fetch, make_opener
from src.data.tools.unpack import CHUNK, check_space, readable, unpack
from src.errors import UserError
from src.files import write_text

SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Folder:
    """A folder of an archive (each part may be a pattern), where it belongs, and the files it must then hold."""

    source: str
    target: str
    counts: dict[str, int]

    def shortfall(self, root: Path) -> str | None:
        """What is missing of it under `root`, in words; None where it is whole."""
        for pattern, count in self.counts.items():
            found = sum(1 for _ in (root / self.target).glob(pattern))
            if found < count:
                return f"{found} of {count} {self.target}/{pattern}"
        return None


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    Args:
        size: bytes, about: the server says it exactly.
        checksum: "md5:..." or "sha256:..."; empty where none is published: then what came first is recorded.
        stated_by: who states the checksum.
    """

    name: str
    url: str
    size: int
    folders: tuple[Folder, ...]
    checksum: str = ""
    stated_by: str = ""

    def missing(self, root: Path) -> list[Folder]:
        """Folders that are not under `root`. UserError where one is there in part: it may be the user's work."""
        missing = [(folder, short) for folder in self.folders if (short := folder.shortfall(root))]
        for folder, short in missing:
            path = root / folder.target
            if path.exists() and not (path.is_dir() and not any(path.iterdir())):
                raise UserError(
                    f"{path}: exists but has only {short}; nothing is overwritten, move it away or give another --root"
                )
        return [folder for folder, _ in missing]


@dataclass(frozen=True)
class Session:
    """An HTTP client, logged in where that is needed, and the checksum of each archive."""

    opener: OpenerDirector
    checksum: Callable[[Archive], str]


def open_session() -> Session:
    return Session(make_opener(), lambda archive: archive.checksum)


def install(
    archives: Sequence[Archive],
    root: Path,
    given: Sequence[Path] = (),
    connect: Callable[[], Session] = open_session,
) -> None:
    """Fetches what is not on disk yet, checks it and unpacks it under `root`; archives are kept in `root/archives`.

    Args:
        given: archives that were fetched by hand; used where they lie.
        connect: called when, and only when, something must be downloaded.

    Raises:
        UserError: what cannot be done, and what to do about it. What was there before is left as it was; a download
            that was cut short stays as `<name>.part`.
    """
    files = _by_name(given, archives)
    store = root / "archives"
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
        absent = [archive for archive, _ in todo if not files.get(archive.name, store / archive.name).is_file()]
        if absent:
            needed = sum(2 * archive.size - _size(_part(store, archive)) for archive in absent)
            check_space(root, needed, f"downloading and unpacking {' and '.join(a.name for a in absent)} (about)")
        session = None
        try:
            for archive, folders in sorted(todo, key=lambda item: item[0] in absent):  # what is here already first
                file = files.get(archive.name, store / archive.name)
                if archive in absent:
                    session = session or connect()
                    sha256 = _download(archive, store, session)
                else:
                    sha256 = _verify(file, archive, archive.checksum, store)
                _place(archive, file, folders, root)
                # Only now: what does not unpack must not become the standard for what is fetched after it.
                _record(store, archive.name, sha256)
                print(f"{archive.name}: unpacked in {root}; {file} is not needed any more", flush=True)
        except UnreachableError as error:
            absent = [archive for archive in absent if not (store / archive.name).is_file()]
            wanted = ", ".join(f"{archive.name} from {archive.url}" for archive in absent)
            raise UserError(
                f"no connection to {error}; on a machine with internet fetch {wanted}, put it into {store} (or give "
                "--archive FILE) and run this again"
            ) from error


def arguments(description: str, archives: Sequence[Archive]) -> argparse.ArgumentParser:
    """The command line that the scripts have in common; --help lists the archives, and who states their checksums."""
    width = max(len(archive.name) for archive in archives)
    lines = [
        f"  {archive.name:<{width}}  {readable(archive.size):>8}  "
        + (f"{archive.checksum.split(':')[0]} {archive.stated_by}" if archive.checksum else "no checksum published")
        for archive in archives
    ]
    text = f"""archives, about their size, and what they are checked by:
{chr(10).join(lines)}

Without a published checksum, the sha256 of an archive is recorded in archives/{SUMS} when it is
first unpacked, and what is fetched later is checked by that. A download that was cut short
continues when the same command is given again."""
    parser = argparse.ArgumentParser(
        description=description, epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=_path, required=True, help="folder for the dataset: data.root of the training")
    parser.add_argument(
        "--archive",
        type=_path,
        action="append",
        default=[],
        metavar="FILE",
        help="an archive that was fetched by hand, used in place of a download; may be repeated",
    )
    return parser


def launch(main: Callable[[], None]) -> None:
    """Runs a script; what a user can mend is told in one line, exit status 1."""
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
    """Archive name to file, by the file's name; any name where only one archive is in question."""
    names = [archive.name for archive in archives]
    files = {}
    for path in given:
        if not path.is_file():
            raise UserError(f"--archive {path}: no such file")
        if path.name not in names and len(names) > 1:
            raise UserError(f"--archive {path}: which one is it? Name it as it was published: {' or '.join(names)}")
        files[path.name if path.name in names else names[0]] = path
    return files


def _download(archive: Archive, store: Path, session: Session) -> str:
    """Fetches an archive into `store`, in one step when it is whole and right; its sha256."""
    expected, part = session.checksum(archive), _part(store, archive)
    with Bar(archive.name) as bar:
        fetch(archive.url, part, session.opener, bar)
    try:
        sha256 = _verify(part, archive, expected, store)
    except ValueError:
        discard(part)
        raise
    os.replace(part, store / archive.name)
    discard(part)
    return sha256


def _verify(file: Path, archive: Archive, expected: str, store: Path) -> str:
    """Its sha256. UserError where the file is not what was recorded of the archive or, before that, published."""
    found = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    done, total = 0, _size(file)
    with Bar(f"checking {archive.name}") as bar, file.open("rb") as stream:
        while block := stream.read(CHUNK):
            done += len(block)
            bar(done, total)
            for digest in found.values():
                digest.update(block)
    sha256 = found["sha256"].hexdigest()
    if recorded := _read_sums(store).get(archive.name):
        if recorded != sha256:
            raise UserError(
                f"{file}: not the {archive.name} that was here before (sha256 {sha256}, recorded {recorded}), not "
                f"used; fetch it again, or, if the publisher replaced it, remove its line from {store / SUMS}"
            )
    elif expected:
        algorithm, value = expected.split(":")
        if found[algorithm].hexdigest() != value:
            raise UserError(
                f"{file}: damaged, or not {archive.name} ({algorithm} {found[algorithm].hexdigest()}, {value} "
                f"{archive.stated_by}), not used; fetch it again. If you know by other means that it is right, put the "
                f"line '{sha256}  {archive.name}' into {store / SUMS}"
            )
        print(f"{archive.name}: {algorithm} is the one {archive.stated_by}", flush=True)
    else:
        print(
            f"{archive.name}: no checksum of it is published; its sha256 {sha256} goes into {store / SUMS}", flush=True
        )
    return sha256


def _place(archive: Archive, file: Path, folders: Sequence[Folder], root: Path) -> None:
    """Unpacks beside the target, looks whether all is there, and moves each folder to its place in one step."""
    temporary = root / f".unpacking-{archive.name}"
    if temporary.exists():  # of a run that was killed; the lock says that none is under way
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        with Bar(f"unpacking {archive.name}") as bar:
            unpack(file, {folder.source: folder.target for folder in folders}, temporary, bar)
        for folder in folders:
            if short := folder.shortfall(temporary):
                raise UserError(f"{file}: holds only {short}; it is not the {archive.name} that is known, not used")
        os.sync()
        for folder in folders:
            (root / folder.target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(temporary / folder.target, root / folder.target)  # raises where a file came there meanwhile
    finally:
        shutil.rmtree(temporary)


def _record(store: Path, name: str, sha256: str) -> None:
    sums = {**_read_sums(store), name: sha256}
    write_text(store / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def _read_sums(store: Path) -> dict[str, str]:
    """Name to sha256, as `sha256sum` writes them."""
    path, sums = store / SUMS, {}
    for line in filter(str.strip, path.read_text().splitlines() if path.is_file() else []):
        found = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(.+)", line)
        if not found:
            raise UserError(f"{path}: line {line!r} is not a sha256 and a name; mend or remove it")
        sums[found[2]] = found[1].lower()
    return sums


@contextmanager
def _lock(store: Path) -> Iterator[None]:
    """Holds `store` for this process. UserError where another one downloads into it."""
    path = store / ".lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{store}: another process is downloading into it; wait for it") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _part(store: Path, archive: Archive) -> Path:
    return store / f"{archive.name}.part"


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
