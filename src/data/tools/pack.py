"""Writes packs. A killed one continues; one file commits it, so that the old pack stays until the new one is whole."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from src.data.packed import FORMAT, PackedFrames, pack_fingerprint, pair_stamp
from src.data.reading import FileFrame, read_size
from src.data.source import FileSource, Sample
from src.data.threads import in_threads
from src.data.tools.unpack import check_space
from src.errors import UserError
from src.files import claim, read_json, write_json, write_text

Record = dict[str, Any]  # one frame's entry in the index


def pack_split(source: FileSource, split: str, folder: Path, num_threads: int) -> str:
    """Packs a split into `folder`, continuing from where an earlier try was stopped. Returns a line for the log.

    The pack is `SPLIT.json` and the two arrays that it names, whose names hold the fingerprint. As long as they are not
    complete, `SPLIT-*.unfinished` lists the frames that are written.

    Raises:
        UserError: too little space, or a disk that is full.
        DataError: a file that cannot be read, or a mask that does not fit its image.
    """
    source.check_labelled(split)
    samples = source.samples(split)
    fingerprint, content = pack_fingerprint(source, samples), pack_fingerprint(source, samples, times=False)
    target = folder / f"{split}.json"
    old = read_json(target) if target.is_file() else None
    if old and old["fingerprint"] == fingerprint:
        return f"{len(samples)} frames, packed before"
    try:
        claim(folder, "out")
        if old and old["content"] == content and not _changed(samples, old["frames"], num_threads):
            arrays = {key: old[key] for key in ("images", "masks")}
            records, done = old["frames"], "packed before; only the times of their files are new"
        else:
            arrays = {key: f"{split}-{fingerprint}.{key}.npy" for key in ("images", "masks")}
            writer = SplitWriter(source, samples, split, folder / f"{split}-{fingerprint}.unfinished", arrays)
            records, done = writer.write(num_threads), f"packed, {(writer.channels + 1) * writer.total / 1e9:.2f} GB"
        labels, classes = source.stored  # a grouping of classes acts on the frames that are read from the pack
        index = {"format": FORMAT, "split": split, "labels": labels, "classes": classes}
        index |= {"fingerprint": fingerprint, "content": content, **arrays}
        frames = [record | {"stamp": pair_stamp(sample)} for record, sample in zip(records, samples, strict=True)]
        write_json(target, index | {"frames": frames})
        for path in folder.glob(f"{split}-*"):
            if path.name not in arrays.values():
                path.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: packing stopped ({error}); an earlier pack is as it was. Mend this and run the same command, "
            "which continues from where it stopped"
        ) from error
    return f"{len(samples)} frames {done}"


def verify_split(source: FileSource, split: str, folder: Path, num_threads: int) -> str:
    """Compares every frame of a pack, and every file it was made of, with its index. Returns a line for the log.

    Raises:
        UserError: names the frames that differ.
    """
    index, samples = read_json(folder / f"{split}.json"), source.samples(split)
    pack = PackedFrames(folder, source.form.channels)
    pack.add(index, samples)

    def hash_packed(sample: Sample) -> str:
        frame = pack.open(sample)
        assert frame is not None
        return _hash(*frame.whole())

    hashes = zip(index["frames"], in_threads(hash_packed, samples, num_threads, f"verify {split}"), strict=True)
    wrong = [record["name"] for record, found in hashes if found != record["pixels"]]
    wrong += _changed(samples, index["frames"], num_threads)
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} frames of {split} differ from those packed ({', '.join(sorted(wrong)[:3])}, ...); "
            f"remove {folder / f'{split}.json'} and pack again"
        )
    return f"{len(samples)} frames verified"


class SplitWriter:
    """Decodes the frames of a split in threads (decoders release Python's lock) and writes each at its offset.

    Args:
        journal: file that lists the finished frames, one line of JSON each; in the folder of the pack.
        arrays: names of the arrays `images` and `masks` in that folder.
    """

    def __init__(
        self, source: FileSource, samples: Sequence[Sample], split: str, journal: Path, arrays: dict[str, str]
    ) -> None:
        self.source, self.samples, self.split = source, samples, split
        self.offsets = [0]  # in pixels
        for sample in samples:
            height, width = read_size(sample.files[0])
            self.offsets.append(self.offsets[-1] + height * width)
        self.total = self.offsets[-1]
        self.paths = {key: journal.parent / name for key, name in arrays.items()}
        self.journal, self.channels = journal, source.form.channels

    def write(self, num_threads: int) -> list[Record]:
        """Writes all frames that are not written yet. Returns the records of all, in order."""
        self._check_space()
        with (
            _flat(self.paths["images"], self.channels * self.total) as self.images,
            _flat(self.paths["masks"], self.total) as self.masks,
        ):
            records = self._finished(num_threads)
            # A line that a kill cut in two must not spoil the next one.
            write_text(self.journal, "".join(f"{json.dumps(record)}\n" for record in records.values()))
            missing = [index for index in range(len(self.samples)) if index not in records]
            with self.journal.open("ab", buffering=0) as self.log:
                for record in in_threads(self._write_frame, missing, num_threads, f"pack {self.split}"):
                    records[record["place"]] = record
        return [{key: value for key, value in records[index].items() if key != "place"} for index in sorted(records)]

    def _write_frame(self, index: int) -> Record:
        sample, offset = self.samples[index], self.offsets[index]
        frame = FileFrame(sample, self.source.read_labels, self.source.form)
        image, mask = frame.whole()
        assert mask.size == self.offsets[index + 1] - offset, sample.image
        self.images.write(image, self.channels * offset)
        self.masks.write(mask, offset)
        record = {"place": index, "name": sample.name, "group": sample.group, "size": mask.shape, "offset": offset}
        record |= {"pixels": _hash(image, mask), "source": _hash_files(sample)}
        self.log.write(f"{json.dumps(record)}\n".encode())  # one unbuffered write, which other threads cannot cut
        return record

    def _finished(self, num_threads: int) -> dict[int, Record]:
        """Records of the frames that an earlier try wrote, by index; hashed again: a crash may have lost some."""
        records = []
        for line in self.journal.read_text().split("\n")[:-1] if self.journal.is_file() else []:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break

        def hash_written(record: Record) -> str:
            count = np.prod(record["size"])
            return _hash(
                self.images.read(self.channels * record["offset"], self.channels * count),
                self.masks.read(record["offset"], count),
            )

        hashes = in_threads(hash_written, records, num_threads, f"resume {self.split}")
        pairs = zip(records, hashes, strict=True)
        return {record["place"]: record for record, found in pairs if found == record["pixels"]}

    def _check_space(self) -> None:
        folder = self.journal.parent
        written = sum(path.stat().st_blocks * 512 for path in self.paths.values() if path.is_file())
        elsewhere = "choose another disk: out=DIR, and then data.pack=DIR in training"
        check_space(folder, (self.channels + 1) * self.total - written, f"packing {self.split}", elsewhere)


class _Flat:
    """A .npy file of one dimension, which any thread writes and reads at any offset."""

    def __init__(self, file: int, start: int) -> None:
        self.file, self.start = file, start

    def write(self, array: np.ndarray, first: int) -> None:
        data, offset = np.ascontiguousarray(array).data.cast("B"), self.start + first
        while data:
            done = os.pwrite(self.file, data, offset)
            data, offset = data[done:], offset + done

    def read(self, first: int, count: int) -> bytes:
        return os.pread(self.file, int(count), self.start + int(first))


@contextmanager
def _flat(path: Path, count: int) -> Iterator[_Flat]:
    """Opens an array of `count` uint8, old or new; it is on disk when the block ends without an error."""
    with path.open("r+b" if path.is_file() else "w+b") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        os.truncate(file.fileno(), file.tell() + count)
        yield _Flat(file.fileno(), file.tell())
        os.fsync(file.fileno())


def _changed(samples: Sequence[Sample], records: Sequence[Record], num_threads: int) -> list[str]:
    """Names of the frames whose files have changed in content since they were packed."""
    hashes = in_threads(_hash_files, samples, num_threads, "compare files")
    return [record["name"] for record, found in zip(records, hashes, strict=True) if found != record["source"]]


def _hash(*parts: np.ndarray | bytes) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return total.hexdigest()


def _hash_files(sample: Sample) -> str:
    return _hash(*(file.read_bytes() for file in sample.files))
