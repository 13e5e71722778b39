"""Packs: the decoded frames of a split in two flat arrays, memory-mapped, used as long as their source is unchanged."""

import hashlib
import json
import mmap
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.data.frame import RGB, Frame, ImageForm
from src.data.source import FileSource, Sample, Source
from src.errors import UserError
from src.files import read_json

FORMAT = 2
AUTO = "auto"
KEPT = 2**28  # bytes of an array that a process has mapped at most, plus one frame


def attach(source: Source, where: str | None) -> Source:
    """Makes a source read frames from its pack, if there is one. Returns the source.

    Args:
        source: the dataset; a pack that it already reads is not attached again.
        where: folder of the pack; `auto`: `default_folder`, which may have a pack or not; None: files are read.

    Raises:
        UserError: no pack in a folder that was named, or a pack of other files than the source has now.
    """
    if where is None or (where == AUTO and not isinstance(source, FileSource)):
        return source
    if not isinstance(source, FileSource):
        raise UserError(f"data.pack={where}: {source.labels} is drawn, not read from files; set data.pack=null")
    folder = default_folder(source) if where == AUTO else Path(where).expanduser()
    if source.pack and source.pack.folder == folder:
        return source
    indices = [_read_index(path) for path in sorted(folder.glob("*.json"))]
    if not indices and where != AUTO:
        raise UserError(f"data.pack={where}: no pack there; make it (python -m src.pack ... out={where})")
    pack = PackedFrames(folder, source.form.channels)
    for index in indices:
        if index["split"] not in source.splits:
            raise UserError(
                f"{folder}: has a pack of {index['split']}, and the data have only {', '.join(source.splits)}; remove "
                f"{folder / index['split']}.json, or set data.pack=null to read the files"
            )
        samples = source.samples(index["split"])
        if index["fingerprint"] != pack_fingerprint(source, samples):
            raise UserError(
                f"{folder}: the pack of {index['split']} was made from other data ({difference(source, samples, index)}"
                "); run the same python -m src.pack again, or set data.pack=null to read the files"
            )
        pack.add(index, samples)
    if indices:
        source.pack = pack
    return source


def _read_index(path: Path) -> dict[str, Any]:
    """Reads the index of one split. UserError if the file is damaged, or none of a pack."""
    index = read_json(path)
    if not isinstance(index, dict) or not {"split", "labels", "classes", "fingerprint", "frames"} <= index.keys():
        raise UserError(
            f"{path}: is no index of a pack; move it away, or give data.pack= the folder of a pack, or null"
        )
    return index


def default_folder(source: FileSource) -> Path:
    """The folder of a pack beside the data: `ROOT.pack/LABELS`."""
    root = source.root.absolute()
    return root.with_name(f"{root.name}.pack") / source.stored[0]


def pair_stamp(sample: Sample) -> list[int]:
    """Bytes of the image and of the mask, and their times of change (ns), which differ if a file has changed."""
    image, mask = (file.stat() for file in sample.files)
    return [image.st_size, mask.st_size, image.st_mtime_ns, mask.st_mtime_ns]


def pack_fingerprint(source: FileSource, samples: Sequence[Sample], *, times: bool = True) -> str:
    """Hashes the label set and all files of a split, by name, group, size and time of change, not by their folder.

    Args:
        samples: all samples of the split, in order.
        times: False leaves out the times of change, which a copy may not keep.
    """
    frames = [
        [sample.name, sample.group, *(file.name for file in sample.files), pair_stamp(sample)[: 4 if times else 2]]
        for sample in samples
    ]
    content = [FORMAT, source.stored_tables() + form_tables(source.form), source.mask_kind, frames]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def form_tables(form: ImageForm) -> list[Any]:
    """Describes the form of the images, for digests; empty for RGB of 8 bits, the only form of earlier versions."""
    return [] if form == RGB else [asdict(form)]


def difference(source: FileSource, samples: Sequence[Sample], index: dict[str, Any]) -> str:
    """Describes how the files of a source differ from those that its pack was made of."""
    labels, stored = source.stored
    classes = {name: list(colour) for name, colour in stored.items()}
    if (index["labels"], list(index["classes"].items())) != (labels, list(classes.items())):
        return f"labels {index['labels']}, not {labels}"
    old = {frame["name"]: frame["stamp"] for frame in index["frames"]}
    new = {sample.name: pair_stamp(sample) for sample in samples}
    changed = [name for name in new if name in old and new[name] != old[name]]
    for names, change in ((new.keys() - old.keys(), "new"), (old.keys() - new.keys(), "gone"), (changed, "changed")):
        if names:
            return f"{change}: {', '.join(sorted(names)[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    return "another order, grouping, label table or way to read masks"


class PackedFrames:
    """The frames of the splits in a pack's folder. Each process opens the arrays itself, and all share their pages."""

    def __init__(self, folder: Path, channels: int = 3) -> None:
        self.folder, self.channels = folder, channels
        self.frames: dict[tuple[Path | None, Path | None], PackedFrame] = {}

    def add(self, index: dict[str, Any], samples: Sequence[Sample]) -> None:
        """Adds the samples of a split by the pack's index of it."""
        images, masks = FlatArray(self.folder / index["images"]), FlatArray(self.folder / index["masks"])
        for sample, record in zip(samples, index["frames"], strict=True):
            frame = PackedFrame(images, masks, tuple(record["size"]), record["offset"], self.channels)
            self.frames[sample.image, sample.mask] = frame

    def open(self, sample: Sample) -> Frame | None:
        """The frame of a sample; None if it is not in the pack."""
        return self.frames.get((sample.image, sample.mask))


class FlatArray:
    """A one-dimensional uint8 array in a .npy file, which each process maps into memory when it first reads it.

    The pages are the system's cache, which processes share. A process unmaps them now and then, so that its own memory
    does not grow to the size of the set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mapped = 0

    @cached_property
    def _map(self) -> np.memmap:
        try:
            return np.lib.format.open_memmap(self.path, mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be read ({error}); pack again, or set data.pack=null") from error

    def view(self, first: int, count: int) -> np.ndarray:
        """Returns `count` bytes from `first` on; not writable."""
        self.mapped += count
        if self.mapped > KEPT:
            memory: Any = self._map.base  # an mmap
            memory.madvise(mmap.MADV_DONTNEED)  # views of a file stay valid: their pages are mapped again
            self.mapped = count
        return np.asarray(self._map)[first : first + count]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mapped": 0}


class PackedFrame(Frame):
    """A frame that begins `offset` pixels after the beginning of both arrays."""

    def __init__(
        self, images: FlatArray, masks: FlatArray, size: tuple[int, int], offset: int, channels: int = 3
    ) -> None:
        self.images, self.masks, self.size, self.offset, self.channels = images, masks, size, offset, channels

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        full, channels = self.size[1], self.channels
        rows = self.images.view(channels * (self.offset + top * full), channels * height * full)
        return rows.reshape(height, full, channels)[:, left : left + width]

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        full = self.size[1]
        rows = self.masks.view(self.offset + top * full, height * full)
        return rows.reshape(height, full)[:, left : left + width]
