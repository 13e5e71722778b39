"""Packs: the decoded frames of a split in two flat arrays, memory-mapped, used as long as their source is unchanged."""

import hashlib
import json
import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.data.frame import Frame
from src.data.source import FileSource, Sample, Source
from src.errors import UserError

FORMAT = 1
AUTO = "auto"
KEPT = 2**28  # bytes of an array that a process has mapped at most, but for one frame


def attach(source: Source, where: str | None) -> Source:
    """Lets a source read frames from its pack, where there is one. Returns the source.

    Args:
        where: folder of the pack; `auto`: `default_folder`, where a pack may be or not; None: files are read.

    Raises:
        UserError: no pack in the folder that was named, or a pack of other files than are there now.
    """
    if where is None or (where == AUTO and not isinstance(source, FileSource)):
        return source
    if not isinstance(source, FileSource):
        raise UserError(f"data.pack={where}: {source.labels} is drawn, not read from files; set data.pack=null")
    folder = default_folder(source) if where == AUTO else Path(where).expanduser()
    indices = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not indices and where != AUTO:
        raise UserError(f"data.pack={where}: no pack there; make it (python -m src.pack ... out={where})")
    if indices:
        source.pack = PackedFrames()
    for index in indices:
        samples = source.samples(index["split"])
        if index["fingerprint"] != fingerprint(source, samples):
            raise UserError(
                f"{folder}: the pack of {index['split']} was made from other data ({difference(source, samples, index)}"
                "); run the same python -m src.pack again, or set data.pack=null to read the files"
            )
        source.pack.add(folder, index, samples)
    return source


def default_folder(source: FileSource) -> Path:
    """Beside the data: `ROOT.pack/LABELS`."""
    root = Path(source.root).expanduser().absolute()
    return root.with_name(f"{root.name}.pack") / source.labels


def stamp(sample: Sample) -> list[int]:
    """Bytes of the image and of the mask, and their times of change (ns): tells a changed file without reading it."""
    image, mask = sample.image.stat(), sample.mask.stat()
    return [image.st_size, mask.st_size, image.st_mtime_ns, mask.st_mtime_ns]


def fingerprint(source: FileSource, samples: Sequence[Sample], *, times: bool = True) -> str:
    """Stands for the label set and all files of a split, by name, group, size and time of change; not by their place.

    Args:
        times: False leaves the times out, which a copy may not keep.
    """
    frames = [
        [sample.name, sample.group, sample.image.name, sample.mask.name, stamp(sample)[: 4 if times else 2]]
        for sample in samples
    ]
    labels = [source.labels, list(source.classes.items()), sorted(source.table.items()), sorted(source.colours.items())]
    content = [FORMAT, labels, frames]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def difference(source: FileSource, samples: Sequence[Sample], index: dict[str, Any]) -> str:
    """What a source has that its pack does not know, in words."""
    classes = {name: list(colour) for name, colour in source.classes.items()}
    if (index["labels"], list(index["classes"].items())) != (source.labels, list(classes.items())):
        return f"labels {index['labels']}, not {source.labels}"
    old = {frame["name"]: frame["stamp"] for frame in index["frames"]}
    new = {sample.name: stamp(sample) for sample in samples}
    changed = [name for name in new if name in old and new[name] != old[name]]
    for names, what in ((new.keys() - old.keys(), "new"), (old.keys() - new.keys(), "gone"), (changed, "changed")):
        if names:
            return f"{what}: {', '.join(sorted(names)[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    return "another order, grouping or label table"


class PackedFrames:
    """Frames of several splits, by their files. Every process opens the arrays itself, and all share their pages."""

    def __init__(self) -> None:
        self.places: dict[tuple[Path, Path], PackedFrame] = {}

    def add(self, folder: Path, index: dict[str, Any], samples: Sequence[Sample]) -> None:
        images, masks = FlatArray(folder / index["images"]), FlatArray(folder / index["masks"])
        for sample, frame in zip(samples, index["frames"], strict=True):
            place = PackedFrame(images, masks, tuple(frame["size"]), frame["offset"])
            self.places[sample.image, sample.mask] = place

    def open(self, sample: Sample) -> Frame | None:
        return self.places.get((sample.image, sample.mask))


class FlatArray:
    """A one-dimensional uint8 array in a .npy file, mapped into memory by each process when it first reads it.

    The pages themselves are the system's cache and shared; a process lets go of its view of them now and then, so that
    its own memory does not grow to the size of the set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mapped = 0

    @cached_property
    def _map(self) -> tuple[mmap.mmap, int]:
        """The file's memory, and where the array begins in it."""
        try:
            with self.path.open("rb") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), file.tell()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be read ({error}); pack again, or set data.pack=null") from error

    def view(self, first: int, count: int) -> np.ndarray:
        memory, start = self._map
        self.mapped += count
        if self.mapped > KEPT:
            memory.madvise(mmap.MADV_DONTNEED)  # of a file: views stay valid, their pages are mapped again
            self.mapped = count
        return np.frombuffer(memory, np.uint8, count, start + first)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mapped": 0}


class PackedFrame(Frame):
    """A frame at `offset` pixels from the beginning of both arrays."""

    def __init__(self, images: FlatArray, masks: FlatArray, size: tuple[int, int], offset: int) -> None:
        self.images, self.masks, self.size, self.offset = images, masks, size, offset

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        full = self.size[1]
        rows = self.images.view(3 * (self.offset + top * full), 3 * height * full)
        return rows.reshape(height, full, 3)[:, left : left + width]

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        full = self.size[1]
        rows = self.masks.view(self.offset + top * full, height * full)
        return rows.reshape(height, full)[:, left : left + width]
