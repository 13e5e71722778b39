"""Writing packs: resumable after a kill, committed by one file: the old pack stays until the new one is whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import Progress

from src.data.packed import FORMAT, PackedFrames, fingerprint, stamp
from src.data.reading import FileFrame
from src.data.source import FileSource, Sample
from src.errors import UserError
from src.files import write_json, write_text

Record = dict[str, Any]  # of one frame, as the index keeps it


def pack_split(source: FileSource, split: str, folder: Path, num_threads: int) -> str:
    """Packs a split into `folder`, going on where an earlier try was stopped. Returns in words what was done.

    The pack is `SPLIT.json` and the two arrays that it names, whose names hold the fingerprint. As long as they are not
    complete, `SPLIT-*.unfinished` lists the frames that are.

    Raises:
        UserError: too little space, a file that cannot be read or does not fit its image, a disk that is full.
    """
    source.check_labelled(split)
    samples = source.samples(split)
    mark, content = fingerprint(source, samples), fingerprint(source, samples, times=False)
    target = folder / f"{split}.json"
    old = json.loads(target.read_text()) if target.is_file() else None
    if old and old["fingerprint"] == mark:
        return f"{len(samples)} frames, packed before"
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if old and old["content"] == content and not _changed(samples, old["frames"], num_threads):
            arrays = {key: old[key] for key in ("images", "masks")}
            records, done = old["frames"], "packed before; only the times of their files are new"
        else:
            arrays = {key: f"{split}-{mark}.{key}.npy" for key in ("images", "masks")}
            writer = SplitWriter(source, samples, folder, split, mark, arrays)
            records, done = writer.write(num_threads), f"packed, {4 * writer.total / 1e9:.2f} GB"
        index = {"format": FORMAT, "split": split, "labels": source.labels, "classes": source.classes}
        index |= {"fingerprint": mark, "content": content, **arrays}
        frames = [record | {"stamp": stamp(sample)} for record, sample in zip(records, samples, strict=True)]
        write_json(target, index | {"frames": frames})
        for path in folder.glob(f"{split}-*"):
            if path.name not in arrays.values():
                path.unlink()
    return f"{len(samples)} frames {done}"


def verify_split(source: FileSource, split: str, folder: Path, num_threads: int) -> str:
    """Compares every frame of a pack, and every file it was made of, with the hashes in its index.

    Raises:
        UserError: names what differs.
    """
    index, samples, frames = json.loads((folder / f"{split}.json").read_text()), source.samples(split), PackedFrames()
    frames.add(folder, index, samples)

    def is_sound(item: tuple[Sample, Record]) -> tuple[str, bool]:
        sample, record = item
        return record["name"], _hash(*frames.open(sample).whole()) == record["pixels"]

    pairs = list(zip(samples, index["frames"], strict=True))
    wrong = [name for name, sound in _in_threads(is_sound, pairs, num_threads, f"verify {split}") if not sound]
    wrong += _changed(samples, index["frames"], num_threads)
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} frames of {split} are not what was packed ({', '.join(sorted(wrong)[:3])}, ...); "
            f"remove {folder / f'{split}.json'} and pack again"
        )
    return f"{len(samples)} frames verified"


class SplitWriter:
    """Decodes the frames of a split in threads (decoders let go of Python's lock) and writes each at its place."""

    def __init__(
        self, source: FileSource, samples: Sequence[Sample], folder: Path, split: str, mark: str, arrays: dict[str, str]
    ) -> None:
        self.source, self.samples, self.split = source, samples, split
        areas = [_area(sample.image) for sample in samples]
        self.offsets = [0, *np.cumsum(areas).tolist()]  # in pixels
        self.total = self.offsets[-1]
        self.paths = {key: folder / name for key, name in arrays.items()}
        self.journal = folder / f"{split}-{mark}.unfinished"

    def write(self, num_threads: int) -> list[Record]:
        """Records of all frames, in order."""
        self._check_space()
        with (
            _flat(self.paths["images"], 3 * self.total) as self.images,
            _flat(self.paths["masks"], self.total) as self.masks,
        ):
            records = self._finished(num_threads)
            # A line that a kill cut in two must not swallow the next one.
            write_text(self.journal, "".join(f"{json.dumps(record)}\n" for record in records.values()))
            missing = [place for place in range(len(self.samples)) if place not in records]
            with self.journal.open("ab", buffering=0) as self.log:
                for record in _in_threads(self._write_frame, missing, num_threads, f"pack {self.split}"):
                    records[record["place"]] = record
        return [{key: value for key, value in records[place].items() if key != "place"} for place in sorted(records)]

    def _write_frame(self, place: int) -> Record:
        sample, offset = self.samples[place], self.offsets[place]
        frame = FileFrame(sample, self.source.read_labels)
        image, mask = frame.whole()
        assert mask.size == self.offsets[place + 1] - offset, sample.image
        self.images.write(image, 3 * offset)
        self.masks.write(mask, offset)
        record = {
            "place": place,
            "name": sample.name,
            "group": sample.group,
            "size": mask.shape,
            "offset": offset,
            "pixels": _hash(image, mask),
            "source": _hash_files(sample),
        }
        self.log.write(f"{json.dumps(record)}\n".encode())  # at once and in one piece, whatever other threads write
        return record

    def _finished(self, num_threads: int) -> dict[int, Record]:
        """What an earlier try has written, by place; hashed again, for the machine may have stopped and lost some."""
        records = []
        for line in self.journal.read_text().split("\n")[:-1] if self.journal.is_file() else []:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break

        def is_there(record: Record) -> tuple[Record, bool]:
            count = np.prod(record["size"])
            image, mask = self.images.read(3 * record["offset"], 3 * count), self.masks.read(record["offset"], count)
            return record, _hash(image, mask) == record["pixels"]

        found = _in_threads(is_there, records, num_threads, f"resume {self.split}")
        return {record["place"]: record for record, there in found if there}

    def _check_space(self) -> None:
        folder = self.journal.parent
        written = sum(path.stat().st_blocks * 512 for path in self.paths.values() if path.is_file())
        needed, free = 4 * self.total - written, shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(
                f"{folder}: packing {self.split} takes {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free there; make "
                "room, or choose another disk: out=DIR, and then data.pack=DIR in training"
            )


class _Flat:
    """A .npy file of one dimension, written and read at any place by any thread."""

    def __init__(self, file: int, start: int) -> None:
        self.file, self.start = file, start

    def write(self, array: np.ndarray, first: int) -> None:
        data, place = memoryview(np.ascontiguousarray(array)).cast("B"), self.start + first
        while data:
            done = os.pwrite(self.file, data, place)
            data, place = data[done:], place + done

    def read(self, first: int, count: int) -> bytes:
        return os.pread(self.file, int(count), self.start + int(first))


@contextmanager
def _flat(path: Path, count: int) -> Iterator[_Flat]:
    """Opens an array of `count` uint8, as it is or new; on disk when the block ends without an error."""
    with path.open("r+b" if path.is_file() else "w+b") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        os.truncate(file.fileno(), file.tell() + count)
        yield _Flat(file.fileno(), file.tell())
        os.fsync(file.fileno())


def _in_threads(function: Callable, items: Iterable, num_threads: int, title: str) -> Iterator[Any]:
    """Results as they come, under a progress bar. An error stops those that wait."""
    pool = ThreadPoolExecutor(num_threads)
    try:
        futures = [pool.submit(function, item) for item in items]
        with Progress(disable=not futures) as bar:
            for future in bar.track(as_completed(futures), total=len(futures), description=title):
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _changed(samples: Sequence[Sample], records: Sequence[Record], num_threads: int) -> list[str]:
    """Names of the frames whose files have another content than when they were packed."""

    def compare(item: tuple[Sample, Record]) -> tuple[str, bool]:
        return item[0].name, _hash_files(item[0]) == item[1]["source"]

    pairs = list(zip(samples, records, strict=True))
    return [name for name, same in _in_threads(compare, pairs, num_threads, "compare files") if not same]


def _hash(*parts: np.ndarray | bytes) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part)
    return total.hexdigest()


def _hash_files(sample: Sample) -> str:
    return _hash(sample.image.read_bytes(), sample.mask.read_bytes())


def _area(path: Path) -> int:
    """Pixels of an image, from its header."""
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); replace or remove the file") from error


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: packing stopped ({error}); what was packed before is as it was. Mend this and run the same "
            "command, which goes on where it stopped"
        ) from error
