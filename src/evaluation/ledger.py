"""The record of an output folder: the settings of its predictions, and each that is done, by the content of its source.

So a second call skips what is done, a changed image is done again, and no file is replaced that somebody has changed.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from src.data.reading import check_regular
from src.errors import DataError, UserError
from src.files import LOCK, damaged, lock

RECORD = ".predictions.jsonl"  # its first line has the settings, each other line one prediction that began or is done


class Ledger:
    """Locks an output folder, which this program has claimed, and its record. Safe for threads.

    Args:
        settings: all that changes a prediction, as plain values by dotted keys.

    Raises:
        UserError: the folder holds predictions by other settings (names them), another process writes into it, or its
            record is damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self._path = folder / RECORD
        self._guard = threading.Lock()
        self._done: dict[str, dict[str, Any]] = {}
        self._begun: set[str] = set()
        self._file: IO[str] | None = None
        self._length = 0  # of the whole lines of the record, in bytes

    def __enter__(self) -> "Ledger":
        self._lock = lock(self.folder / LOCK, f"{self.folder}: another process writes into this folder; wait for it")
        is_new = self._read() is None
        self._file = self._path.open("a")
        self._file.truncate(self._length)  # cuts off what a kill left of a line
        if is_new:
            self._append({"settings": self.settings})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        assert self._file is not None
        self._file.close()
        self._lock.close()

    def check(self) -> None:
        """Raises UserError if the folder holds predictions by other settings; before it is locked."""
        self._read()

    def is_done(self, name: str, content: str, files: Sequence[Path]) -> bool:
        """Returns whether a source with this content was predicted under a name, and all of its files are there."""
        entry = self._done.get(name)
        if entry is None or entry["content"] != content:
            return False
        return all(self._key(file) in entry["files"] and file.is_file() for file in files)

    def files_of(self, source: str, content: str) -> list[Path]:
        """Returns all files that are recorded of a source with this content."""
        entries = [each for each in self._done.values() if (each["source"], each["content"]) == (source, content)]
        return [self.folder / key for entry in entries for key in entry["files"]]

    def begin(self, name: str, source: str, files: Sequence[Path]) -> None:
        """Records that files are about to be written.

        Raises:
            DataError: one of them exists and is not as this program left it, or belongs to another source.
        """
        entry = self._done.get(name, {"source": source, "files": {}, "stale": {}})
        if entry["source"] != source:
            text = f"its outputs would replace those of {entry['source']} in {self.folder}; give another output=FOLDER"
            raise DataError(source, "output", text)
        for file in files:
            known = (entry["stale"] | entry["files"]).get(self._key(file))
            if file.exists() and name not in self._begun and known != _stamp(file):
                text = f"{file} is not as this program wrote it, and nothing is overwritten; move it away"
                raise DataError(source, "output", text)
        with self._guard:
            self._begun.add(name)
            self._append({"begun": name})

    def finish(self, name: str, source: str, content: str, files: Sequence[Path]) -> None:
        """Records a prediction whose files are written."""
        earlier = self._done.get(name, {"content": content, "files": {}, "stale": {}})
        stamps, stale = {self._key(file): _stamp(file) for file in files}, earlier["stale"]
        if earlier["content"] == content:
            stamps = earlier["files"] | stamps
        else:
            stale = stale | earlier["files"]
        entry = {"name": name, "source": source, "content": content, "files": stamps, "stale": stale}
        with self._guard:
            self._done[name] = entry
            self._begun.discard(name)
            self._append(entry)

    def _key(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()

    def _append(self, entry: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _read(self) -> dict[str, Any] | None:
        """Reads the record back; returns its settings, None if there is none yet."""
        if not self._path.is_file():
            return None
        data = self._path.read_bytes()
        self._length = data.rfind(b"\n") + 1
        lines = data[: self._length].splitlines()
        if not lines:
            return None
        try:
            earlier: dict[str, Any] = json.loads(lines[0])["settings"]
            for line in lines[1:]:
                entry = json.loads(line)
                if (begun := entry.get("begun")) is not None:
                    self._begun.add(begun)
                else:
                    self._begun.discard(entry["name"])
                    self._done[entry["name"]] = entry
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self._path, error) from error
        keys = sorted(
            key for key in earlier.keys() | self.settings.keys() if earlier.get(key) != self.settings.get(key)
        )
        if keys:
            found = "; ".join(f"{key}: {earlier.get(key)} -> {self.settings.get(key)}" for key in keys)
            raise UserError(f"{self.folder}: holds predictions by other settings ({found}); give another output=FOLDER")
        return earlier


def content_of(path: Path) -> str:
    """Hashes a file, all of it: a photo may be changed in any place.

    Raises:
        DataError: no regular file, or it cannot be read.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(path, "unreadable", f"cannot be read ({error.strerror}); replace or remove the file") from error


def _stamp(file: Path) -> list[int]:
    """Returns size and time of a file, by which a change shows."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]
