"""Checks whether a dataset can be trained on: reads every file of every split and collects all faults."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from src.data.listing import foreign_fault, is_image, walk
from src.data.source import FileSource, Sample
from src.data.tools.check_files import Reading, read_all
from src.errors import DataError, UserError
from src.labels import IGNORE_INDEX

# With errors training would fail, or its figures would be wrong; with warnings it would not.
ERRORS = (
    "missing mask", "listing", "split", "unreadable", "pixel format", "kind of mask", "label", "colour", "size",
    "leak", "contradiction",
)  # fmt: skip
WARNINGS = (
    "mask without image", "alpha or CMYK", "turned by EXIF", "blank image", "void mask", "duplicate", "shared mask",
    "empty class", "absent split", "not read",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault, of a kind in ERRORS or WARNINGS, with its files.

    `counts` are the pixels of each label or colour outside the table, for the kinds `label` and `colour`.
    """

    kind: str
    split: str
    files: tuple[Path, ...]
    text: str
    counts: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def is_error(self) -> bool:
        return self.kind in ERRORS


@dataclass
class Report:
    """The faults of a dataset, errors first, and the contents of each split."""

    source: FileSource
    readings: dict[str, list[Reading]]
    faults: list[Fault]

    @property
    def errors(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.is_error]

    @property
    def num_images(self) -> int:
        """Number of images that were read; one in several splits counts once."""
        return len({reading.sample.image for readings in self.readings.values() for reading in readings})

    def sizes(self, split: str) -> dict[str, int]:
        """Number of images of each size, the most frequent first."""
        sizes = Counter(reading.size for reading in self.readings[split] if reading.size)
        return {f"{height}x{width}": count for (height, width), count in sizes.most_common()}

    def counts(self, split: str) -> np.ndarray:
        """int64 `(256,)`: pixels of each id in the masks of a split that could be read."""
        counts = [reading.counts for reading in self.readings[split] if reading.counts is not None]
        return np.sum([np.zeros(256, dtype=np.int64), *counts], axis=0)

    def shares(self, split: str) -> dict[str, float]:
        """Share of each class in the pixels of a split that are not void; NaN without such pixels."""
        counts = self.counts(split)[: self.source.num_classes]
        total = counts.sum() or np.nan
        return {name: float(count / total) for name, count in zip(self.source.classes, counts, strict=True)}

    def void(self, split: str) -> float:
        """Share of void in all pixels of a split; NaN without masks."""
        counts = self.counts(split)
        return float(counts[IGNORE_INDEX] / (counts.sum() or np.nan))

    def channel_statistics(self, split: str) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each channel, in 0..1, over all pixels of a split; None for RGB of 8 bits."""
        found = [(r.moments, r.size[0] * r.size[1]) for r in self.readings[split] if r.moments is not None and r.size]
        if not found:
            return None
        mean, square = np.average([moments for moments, _ in found], axis=0, weights=[pixels for _, pixels in found])
        return mean.round(4).tolist(), np.sqrt(square - mean**2).round(4).tolist()

    def outside_the_table(self) -> dict[str, int]:
        """Labels and colours outside the table, with their pixels in all files, the most frequent first."""
        total: Counter[str] = Counter()
        for fault in self.faults:
            total.update(fault.counts)
        return dict(total.most_common())


def check(source: FileSource, splits: Sequence[str] | None = None, num_processes: int = 1) -> Report:
    """Reads every file of a dataset.

    Args:
        splits: names of splits that must exist; None: all, of which those other than train and val may be absent.
        num_processes: processes that read files; 1: only this one.

    Raises:
        UserError: the dataset has no such split.
    """
    for split in splits or ():
        source.check_split(split)
    samples, faults = _list(source, splits or source.splits, splits or ("train", "val"))
    everyone = [sample for found in samples.values() for sample in found]
    # Splits may overlap (those of `Concat` do); a pair is read once.
    unique = list({(sample.image, sample.mask): sample for sample in everyone}.values())
    read = {(reading.sample.image, reading.sample.mask): reading for reading in read_all(source, unique, num_processes)}
    readings = {split: [read[sample.image, sample.mask] for sample in found] for split, found in samples.items()}
    for split, found in readings.items():
        faults += [_fault(split, error) for reading in found for error in reading.faults]
    files = list(walk(source.root))
    report = Report(source, readings, [])
    faults += [
        *_masks_without_image(source, files),
        *_files_not_read(everyone, files),
        *_faults_of_contents(source, readings),
        *_empty_classes(report),
    ]
    # A file in several splits is a fault of the first.
    distinct = {(fault.kind, fault.files, fault.text): fault for fault in reversed(faults)}
    order = (*ERRORS, *WARNINGS)
    report.faults = sorted(distinct.values(), key=lambda fault: (order.index(fault.kind), fault.text))
    return report


def _list(
    source: FileSource, splits: Sequence[str], needed: Sequence[str]
) -> tuple[dict[str, list[Sample]], list[Fault]]:
    """Lists the samples of the splits that can be listed, and all faults of their files."""
    samples: dict[str, list[Sample]] = {}
    faults: list[Fault] = []
    for split in splits:
        try:
            pairs = source.pairs(split)
        except UserError as error:
            kind = "split" if split in needed else "absent split"
            faults.append(Fault(kind, split, (), f"split {split}: {error}"))
            continue
        samples[split] = [found for found in pairs if isinstance(found, Sample)]
        faults += [_fault(split, found) for found in pairs if isinstance(found, DataError)]
    return samples, faults


def _fault(split: str, error: DataError) -> Fault:
    return Fault(error.kind, split, (Path(error.path),), str(error), error.counts)


def _masks_without_image(source: FileSource, files: Iterable[Path]) -> Iterator[Fault]:
    """Finds files that have the name of a mask, but no image. A folder of images that is absent is another fault."""
    images = [path for path in files if is_image(path)]
    present = {path.with_suffix("") for path in images}
    for path in images:
        image = source.image_of(path)
        if image and image.with_suffix("") not in present and image.parent.is_dir():
            text = f"{path}: mask without image; add the image, or remove the mask"
            yield Fault("mask without image", "", (path,), text)


def _files_not_read(samples: Iterable[Sample], files: Iterable[Path]) -> Iterator[Fault]:
    """Finds files beside the images that are no images by their suffix (`.gif`, `.png.part`)."""
    folders = {sample.image.parent for sample in samples if sample.image}
    found: dict[Path, list[Path]] = {}
    for path in files:
        if path.parent in folders and not is_image(path) and path.name.lower() not in ("thumbs.db", "desktop.ini"):
            found.setdefault(path.parent, []).append(path)
    for folder, paths in found.items():
        names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        remedy = next((f"; {path.name} {fault.text}" for path in paths if (fault := foreign_fault(path))), "")
        text = f"{folder}: among the images, {len(paths)} not read because of their suffix ({names}){remedy}"
        yield Fault("not read", "", tuple(paths), text)


def _faults_of_contents(source: FileSource, readings: dict[str, list[Reading]]) -> Iterator[Fault]:
    """Finds images that occur twice, and masks that several images have."""
    splits: dict[Path, list[str]] = {}
    by_pixels: dict[bytes, dict[Path, Reading]] = {}
    by_labels: dict[bytes, dict[Path, Reading]] = {}
    for split, found in readings.items():
        for reading in found:
            path = reading.sample.image
            assert path is not None
            splits.setdefault(path, []).append(split)
            if reading.pixels:
                by_pixels.setdefault(reading.pixels, {})[path] = reading
            has_classes = reading.counts is not None and np.count_nonzero(reading.counts[:IGNORE_INDEX]) > 1
            if has_classes and reading.labels:
                by_labels.setdefault(reading.labels, {})[path] = reading
    for group in by_pixels.values():
        files, first = tuple(group), splits[next(iter(group))][0]
        names = ", ".join(f"{path} ({splits[path][0]})" for path in files)
        sides = {_side(source, split) for path in files for split in splits[path]}
        if len(group) > 1 and len({reading.labels for reading in group.values() if reading.labels}) > 1:
            text = f"{names}: the same image with different masks; keep the right one"
            yield Fault("contradiction", first, files, text)
        elif len(group) > 1 and len(sides) == 1:
            yield Fault("duplicate", first, files, f"{names}: the same image; remove one")
        if len(sides) > 1:
            yield Fault("leak", first, files, f"{names}: the same image is trained on and evaluated on; remove one")
    for group in by_labels.values():
        if len({reading.pixels for reading in group.values()}) > 1:
            masks = tuple(reading.sample.mask for reading in group.values() if reading.sample.mask)
            text = f"{', '.join(map(str, masks))}: the same mask for different images; was one saved by another's name?"
            yield Fault("shared mask", splits[next(iter(group))][0], masks, text)


def _side(source: FileSource, split: str) -> str:
    """Whether a split is trained on or evaluated on; an image in both makes every figure too good."""
    return "train" if split.endswith("train") or split in source.extra_splits else "evaluation"


def _empty_classes(report: Report) -> Iterator[Fault]:
    for split in report.readings:
        counts = report.counts(split)
        for index, name in enumerate(report.source.classes):
            if counts.any() and not counts[index]:
                yield Fault("empty class", split, (), f"split {split}: no pixel of class {name}")
