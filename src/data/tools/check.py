"""Whether a dataset can be trained on: every file of every split is read, and every fault is told, not the first."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.progress import Progress

from src.data.reading import read_image
from src.data.source import IGNORE_INDEX, FileSource, Sample
from src.data.tools.listing import Listing, files_not_read, list_all, masks_without_image

# With errors training would fail, or its figures would lie; with warnings it would not.
ERRORS = (
    "missing mask", "listing", "split", "unreadable", "pixel format", "label", "colour", "size", "leak",
    "contradiction",
)  # fmt: skip
WARNINGS = (
    "mask without image", "alpha or CMYK", "turned by EXIF", "blank image", "void mask", "duplicate", "shared mask",
    "empty class", "absent split", "not read",
)  # fmt: skip
ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, of a kind in ERRORS or WARNINGS, with the files that it concerns."""

    kind: str
    split: str
    files: tuple[Path, ...]
    text: str

    @property
    def is_error(self) -> bool:
        return self.kind in ERRORS


@dataclass
class Reading:
    """What was found in one pair of files: faults as (kind, file, text), None where something could not be read.

    `size` is (height, width); `pixels` and `labels` stand for the contents of image and mask, decoded; `counts` int64
    `(256,)` are the pixels of each id.
    """

    sample: Sample
    faults: list[tuple[str, Path, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    pixels: bytes | None = None
    labels: bytes | None = None
    counts: np.ndarray | None = None


@dataclass
class Report:
    """Of a dataset: faults, errors first, and what each split holds."""

    source: FileSource
    root: Path
    readings: dict[str, list[Reading]]
    faults: list[Fault]

    @property
    def errors(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.is_error]

    def sizes(self, split: str) -> dict[str, int]:
        """How many images of each size there are, the most frequent first."""
        sizes = Counter(reading.size for reading in self.readings[split] if reading.size)
        return {f"{height}x{width}": count for (height, width), count in sizes.most_common()}

    def counts(self, split: str) -> np.ndarray:
        """int64 `(256,)`: pixels of each id in the masks of a split that could be read."""
        counts = [reading.counts for reading in self.readings[split] if reading.counts is not None]
        return np.sum([np.zeros(256, dtype=np.int64), *counts], axis=0)

    def shares(self, split: str) -> dict[str, float]:
        """Share of each class in the pixels of a split that are not void; nan where there are none."""
        counts = self.counts(split)[: self.source.num_classes]
        total = counts.sum() or np.nan
        return {name: float(count / total) for name, count in zip(self.source.classes, counts, strict=True)}

    def void(self, split: str) -> float:
        """Share of void in all pixels of a split."""
        counts = self.counts(split)
        return float(counts[IGNORE_INDEX] / (counts.sum() or np.nan))

    def wrong_labels(self) -> dict[str, int]:
        """Labels and colours outside the table, with their pixels in all files."""
        total: Counter[str] = Counter()
        for fault in self.faults:
            if fault.kind in ("label", "colour"):
                text = fault.text.removeprefix(str(fault.files[0]))
                for label, count in re.findall(r"(\d+|\(\d+, \d+, \d+\)) \((\d+) px\)", text):
                    total[label] += int(count)
        return dict(total.most_common())


def check(
    build: Callable[[str], FileSource], root: Path, splits: Sequence[str] | None = None, num_processes: int = 1
) -> Report:
    """Reads every file of a dataset.

    Args:
        build: makes the dataset of its root.
        splits: None: all; those but train and val may be absent.

    Raises:
        UserError: there is no dataset in that root, or no such split.
    """
    source = build(str(root))
    for split in splits or ():
        source.check_split(split)
    listing = list_all(build, root, splits or source.splits)
    everyone = [sample for samples in listing.samples.values() for sample in samples]
    # Splits may overlap (those of `Concat` do); a pair is read once.
    unique = list({(sample.image, sample.mask): sample for sample in everyone}.values())
    found = {(reading.sample.image, reading.sample.mask): reading for reading in _read(source, unique, num_processes)}
    readings = {
        split: [found[sample.image, sample.mask] for sample in samples] for split, samples in listing.samples.items()
    }
    report = Report(source, root, readings, [])
    faults = [
        *_faults_of_listing(listing, everyone, splits or ("train", "val")),
        *_faults_of_files(readings),
        *_faults_of_contents(source, readings),
        *_empty_classes(report),
    ]
    order = (*ERRORS, *WARNINGS)
    report.faults = sorted(dict.fromkeys(faults), key=lambda fault: (order.index(fault.kind), fault.text))
    return report


def _read(source: FileSource, samples: list[Sample], num_processes: int) -> Iterator[Reading]:
    # Not forked: a fork inherits the locks that OpenCV's and torch's threads hold, and waits for them for ever.
    context = get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = [pool.submit(partial(read_pair, source), sample) for sample in samples]
        with Progress(disable=not futures) as bar:
            for future in bar.track(as_completed(futures), total=len(futures), description="check"):
                yield future.result()


def read_pair(source: FileSource, sample: Sample) -> Reading:
    """Reads an image and its mask, as training would, and looks at what is in them."""
    reading = Reading(sample)
    image = _try(reading, sample.image, lambda: read_image(sample.image))
    if image is not None:
        reading.size, reading.pixels = image.shape[:2], _hash(image)
        _look_at_format(reading)
        if (image == image[0, 0]).all():
            reading.faults.append(("blank image", sample.image, f"{sample.image}: all pixels have one colour"))
    if sample.mask is None:
        return reading
    ids = _try(reading, sample.mask, lambda: source.read_labels(sample))
    if ids is None:
        return reading
    if image is not None and ids.shape != reading.size:
        sizes = [f"{height}x{width}" for height, width in (ids.shape, reading.size)]
        text = f"{sample.mask}: mask is {sizes[0]} (HxW), its image {sample.image} is {sizes[1]}"
        reading.faults.append(("size", sample.mask, text))
        return reading
    reading.counts, reading.labels = np.bincount(ids.ravel(), minlength=256), _hash(ids)
    if reading.counts[IGNORE_INDEX] == ids.size:
        reading.faults.append(("void mask", sample.mask, f"{sample.mask}: all pixels are void, nothing to learn"))
    return reading


def _try(reading: Reading, path: Path, read: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return read()
    except ValueError as error:
        reading.faults.append((_kind(str(error).removeprefix(f"{path}: ")), path, str(error)))
    except Exception as error:  # a decoder given rubbish may raise anything, and the other files are still to be read
        text = f"{path}: cannot be read ({type(error).__name__}: {error}); replace or remove the file"
        reading.faults.append(("unreadable", path, text))
    return None


def _kind(message: str) -> str:
    """Of what a reader says of a file."""
    starts = {"cannot be read": "unreadable", "label ": "label", "colour ": "colour"}
    return next((kind for start, kind in starts.items() if message.startswith(start)), "pixel format")


def _look_at_format(reading: Reading) -> None:
    path = reading.sample.image
    with Image.open(path) as image:
        # A PNG would be decoded whole to find it.
        turn = 1 if image.format == "PNG" else image.getexif().get(ORIENTATION, 1)
        if image.mode in ("RGBA", "LA", "PA", "CMYK") or "transparency" in image.info:
            text = f"{path}: {image.mode} with transparency" if image.mode != "CMYK" else f"{path}: CMYK"
            text += ", is read as RGB, which may look otherwise; convert it"
            reading.faults.append(("alpha or CMYK", path, text))
    if turn != 1:
        text = f"{path}: is turned or mirrored by its EXIF tag ({turn}); make sure that its mask is so as well"
        reading.faults.append(("turned by EXIF", path, text))


def _faults_of_listing(listing: Listing, samples: list[Sample], needed: Sequence[str]) -> Iterator[Fault]:
    for split, message, file in listing.refused:
        if file is not None:
            is_pair = "image without" in message
            yield Fault("missing mask" if is_pair else "listing", split, (file,), message)
        else:
            yield Fault("split" if split in needed else "absent split", split, (), f"split {split}: {message}")
    for path in masks_without_image(samples, listing.files):
        text = f"{path}: mask without image; add the image, or remove the mask"
        yield Fault("mask without image", "", (path,), text)
    for folder, paths in files_not_read(samples, listing.files).items():
        names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        text = f"{folder}: among the images, {len(paths)} not read because of their suffix ({names})"
        yield Fault("not read", "", tuple(paths), text)


def _faults_of_files(readings: dict[str, list[Reading]]) -> Iterator[Fault]:
    told = set()
    for split, found in readings.items():
        for fault in (fault for reading in found for fault in reading.faults):
            if fault not in told:
                told.add(fault)
                kind, file, text = fault
                yield Fault(kind, split, (file,), text)


def _faults_of_contents(source: FileSource, readings: dict[str, list[Reading]]) -> Iterator[Fault]:
    """Images that are there twice, and masks that several images have."""
    places: dict[Path, list[str]] = {}
    by_pixels: dict[bytes, dict[Path, Reading]] = {}
    by_labels: dict[bytes, dict[Path, Reading]] = {}
    for split, found in readings.items():
        for reading in found:
            path = reading.sample.image
            places.setdefault(path, []).append(split)
            if reading.pixels:
                by_pixels.setdefault(reading.pixels, {})[path] = reading
            if reading.counts is not None and np.count_nonzero(reading.counts[:IGNORE_INDEX]) > 1:
                by_labels.setdefault(reading.labels, {})[path] = reading
    for group in by_pixels.values():
        files, first = tuple(group), places[next(iter(group))][0]
        names = ", ".join(f"{path} ({places[path][0]})" for path in files)
        sides = {_side(source, split) for path in files for split in places[path]}
        if len(group) > 1 and len({reading.labels for reading in group.values() if reading.labels}) > 1:
            text = f"{names}: the same image with different masks; keep the right one"
            yield Fault("contradiction", first, files, text)
        elif len(group) > 1 and len(sides) == 1:
            yield Fault("duplicate", first, files, f"{names}: the same image; remove one")
        if len(sides) > 1:
            yield Fault("leak", first, files, f"{names}: the same image is trained on and evaluated on; remove one")
    for group in by_labels.values():
        if len({reading.pixels for reading in group.values()}) > 1:
            masks = tuple(reading.sample.mask for reading in group.values())
            text = f"{', '.join(map(str, masks))}: the same mask for different images; was one saved by another's name?"
            yield Fault("shared mask", places[next(iter(group))][0], masks, text)


def _side(source: FileSource, split: str) -> str:
    """Whether a split is trained on, or evaluated on; an image that is in both flatters every figure."""
    return "train" if split.endswith("train") or split in source.extra_splits else "evaluation"


def _empty_classes(report: Report) -> Iterator[Fault]:
    for split in report.readings:
        counts = report.counts(split)
        for index, name in enumerate(report.source.classes):
            if counts.any() and not counts[index]:
                yield Fault("empty class", split, (), f"split {split}: no pixel of class {name}")


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array), digest_size=16, person=str(array.shape).encode()[:16]).digest()
