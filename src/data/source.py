"""The contract of a dataset: labelled images with classes, colours, splits and groups.

No module of datasets imports torch: a dataset is checked before torch is loaded.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from src.data.frame import RGB, ArrayFrame, Frame, ImageForm
from src.data.frame import Colour as Colour
from src.data.frame import Sample as Sample
from src.data.grouping import GroupedFrame, Grouping
from src.data.listing import list_images
from src.data.reading import FileFrame, check_regular, read_mask
from src.errors import DataError, UserError


def find_root(root: str, inside: str, remedy: str) -> Path:
    """Returns the folder of a dataset. UserError if it has no folder `inside` (empty: if there is no such folder)."""
    path = Path(root).expanduser()
    if not (path / inside).is_dir():
        fault = f"no folder {inside}/ there" if inside else "no such folder"
        raise UserError(f"data.root={root}: {fault}; give the folder that {remedy}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"data.root={root}: no permission to list this folder; make it readable for you (chmod)")
    return path


class Source(ABC):
    """Labelled images of one dataset.

    Subclasses set `labels` (the name of the label set, part of every protocol tag), `classes` (name to colour, in the
    order of the label ids 0..K-1), `splits`, and of these: `unlabelled`, which have only images (a benchmark's test),
    and `extra_splits`, which are trained on beside train and never validated on (coarse labels).
    """

    labels: str
    classes: dict[str, Colour]
    splits: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    extra_splits: tuple[str, ...] = ()
    terms: str = "Own images, under the terms of their owner."  # for downloads and model cards
    # For the figures of benchmarks: groups of classes, the mean pixels of an instance by class, and the class of a
    # benchmark that detects one (KITTI road).
    categories: dict[str, tuple[str, ...]] = {}
    instance_sizes: dict[str, float] = {}
    detected: str | None = None
    form: ImageForm = RGB  # of the files of images
    grouping: Grouping | None = None  # the files have other classes (`src.data.grouping.regroup`)

    @abstractmethod
    def samples(self, split: str) -> list[Sample]:
        """All samples of a split, in a fixed order. UserError if the split has none or is unknown."""

    @abstractmethod
    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` RGB and mask uint8 `(H, W)` with ids 0..K-1 or 255."""

    def open(self, sample: Sample) -> Frame:
        """The same image and mask, which are read as far as windows of them are asked for."""
        return ArrayFrame(*self.read(sample))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def stored(self) -> tuple[str, dict[str, Colour]]:
        """The label set and the classes of the files and packs."""
        return (self.grouping.labels, self.grouping.stored) if self.grouping else (self.labels, self.classes)

    def stored_tables(self) -> list[Any]:
        """Everything that decides which id a pixel of a file has, for digests: without the grouping."""
        labels, classes = self.stored
        return [labels, list(classes.items())]

    def grouped(self, ids: np.ndarray) -> np.ndarray:
        """Turns the ids of the files uint8 `(H, W)` into those of `classes`."""
        return cv2.LUT(ids, self.grouping.table) if self.grouping else ids

    def check_split(self, split: str) -> None:
        """Raises UserError if the dataset has no such split."""
        if split not in self.splits:
            raise UserError(f"split {split!r} is not one of this dataset's: {', '.join(self.splits)}")

    def check_labelled(self, split: str) -> None:
        """Raises UserError if a split has no labels to train on or to evaluate against."""
        if split in self.unlabelled:
            others = ", ".join(name for name in self.splits if name not in self.unlabelled)
            raise UserError(
                f"split {split!r} of {self.labels} has no public labels; choose one of {others}, or write files for "
                f"the benchmark's server: python -m src.predict run=... split={split} format=labelids"
            )

    def weights(self, samples: list[Sample]) -> np.ndarray | None:
        """Average number of times that a training epoch has each sample: float `(N,)` with sum N. None: once each."""
        return None

    @abstractmethod
    def image_id(self, sample: Sample) -> str:
        """The image's name, the same wherever the data are, in any split, layout, label set or join of datasets."""

    def read_instances(self, sample: Sample) -> np.ndarray | None:
        """Numbers of instances int `(H, W)`, 0 for none; None if the dataset has none of this sample."""
        return None

    def read_road_plane(self, sample: Sample) -> np.ndarray | None:
        """The `plane` of `src.metrics.road.birds_eye_pixels`, float `(3, 3)`; None if the dataset has no calibration.

        Raises:
            DataError: the calibration of this sample is missing or damaged.
        """
        return None

    def drawing(self, sample: Sample) -> str:
        """The settings that decide a sample that is drawn, not read from files."""
        return sample.name

    def official_path(self, sample: Sample) -> str:
        """Path at which a benchmark's server expects this prediction in an archive. UserError if it has no server."""
        raise UserError(f"format=labelids: no benchmark takes files of {self.labels}; use format=pictures")


class FileSource(Source):
    """Samples that are pairs of files: an image, and a PNG of raw labels that `table` turns into ids.

    A dataset states its image files (`images`) and the place of each one's mask (`mask_of`); this class pairs them,
    once per split. `samples` raises the first fault, `pairs` has them all for `src.check`.

    `table` maps each raw label that may stand in a file to an id 0..K-1 or 255; any other label is an error, because
    silently ignoring it would hide a wrong label set. `colours` does the same for masks of colours. `dataset` begins
    the ids of its images, in every label set. `mask_kind` says how masks are read, if that can vary.
    """

    root: Path
    dataset: str
    table: dict[int, int]
    colours: dict[Colour, int] = {}
    mask_kind: str = ""
    pack: "Pack | None" = None  # frames are read from it, as far as it has them

    @abstractmethod
    def images(self, split: str) -> Iterable[Sample | DataError]:
        """Samples of a split without their masks, in a fixed order; a DataError in place of an image to be refused.

        Raises:
            UserError: the split as a whole cannot be listed.
        """

    @abstractmethod
    def mask_of(self, image: Path) -> Path:
        """The path of an image's mask, which may have any suffix of an image file."""

    def image_of(self, mask: Path) -> Path | None:
        """The path of a mask's image but for its suffix; None if the file does not have the name of a mask."""
        return None

    def no_images(self, split: str) -> str:
        """The error if a split has no images: the folder, the files that belong in it, and how to get them."""
        return f"{self.root}: no image of split {split!r} there"

    def no_mask(self, split: str) -> str:
        """The remedy in the error about an image without mask."""
        return "add it or remove the image"

    def samples(self, split: str) -> list[Sample]:
        """All samples of a split, in a fixed order.

        Raises:
            UserError: no such split, or no images in it.
            DataError: the first fault of its files.
        """
        samples = []
        for found in self.pairs(split):
            if isinstance(found, DataError):
                raise found
            samples.append(found)
        return samples

    def pairs(self, split: str) -> list[Sample | DataError]:
        """All samples of a split and all faults of its files, in order. They are looked for once and remembered.

        Raises:
            UserError: no such split, or no images in it.
        """
        if split not in self._pairs:
            self.check_split(split)
            self._pairs[split] = list(self._pair(split))
        return self._pairs[split]

    @cached_property
    def _pairs(self) -> dict[str, list[Sample | DataError]]:
        return {}

    def _pair(self, split: str) -> Iterator[Sample | DataError]:
        images = list(self.images(split))
        if not images:
            raise UserError(self.no_images(split))
        first: dict[str, Path] = {}
        for found in images:
            if isinstance(found, Sample):
                assert found.image is not None
                if first.setdefault(found.name, found.image) != found.image:
                    found = _ambiguous(first[found.name], found.image)
                else:
                    found = self._checked(found, found.image, split)
            yield found

    def _checked(self, sample: Sample, image: Path, split: str) -> Sample | DataError:
        """Adds the mask, if the split has masks; a DataError for a file that is missing or not regular, or its name."""
        if (shown := _readable(sample.name)) != sample.name:
            text = f"the name {shown} is not UTF-8, so that no list could hold it; rename the file"
            return DataError(_readable(str(image)), "listing", text)
        found = sample if split in self.unlabelled else self._with_mask(sample, image, split)
        try:
            for file in (image, found.mask) if isinstance(found, Sample) else ():
                if file:
                    check_regular(file)
        except DataError as fault:
            return fault
        return found

    def _with_mask(self, sample: Sample, image: Path, split: str) -> Sample | DataError:
        expected = self.mask_of(image)
        masks = self.find(expected)
        if len(masks) > 1:
            return _ambiguous(*masks[:2])
        if not masks:
            text = f"image without mask; expected {expected}, {self.no_mask(split)}"
            return DataError(image, "missing mask", text)
        return replace(sample, mask=masks[0])

    def find(self, path: Path) -> list[Path]:
        """Image files of this path but for the suffix. Each folder is listed once."""
        if path.parent not in self._folders:
            found = self._folders[path.parent] = {}
            for image in list_images(path.parent) if path.parent.is_dir() else ():
                found.setdefault(image.stem, []).append(image)
        return self._folders[path.parent].get(path.stem, [])

    @cached_property
    def _folders(self) -> dict[Path, dict[str, list[Path]]]:
        return {}

    def stored_tables(self) -> list[Any]:
        return [*super().stored_tables(), sorted(self.table.items()), sorted(self.colours.items())]

    def open(self, sample: Sample) -> Frame:
        packed = self.pack.open(sample) if self.pack else None
        frame = packed or FileFrame(sample, self.read_labels, self.form)
        return GroupedFrame(frame, self.grouping.table) if self.grouping else frame

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        return self.open(sample).whole()

    def image_id(self, sample: Sample) -> str:
        assert sample.image is not None
        return f"{self.dataset}/{sample.image.relative_to(self.root).with_suffix('').as_posix()}"

    def read_labels(self, mask: Path) -> np.ndarray:
        """Ids of the files' classes uint8 `(H, W)`, or 255. Overridden unless masks are PNGs of one label per pixel."""
        return read_mask(mask, self.table)

    def read_ids(self, mask: Path) -> np.ndarray:
        """Ids uint8 `(H, W)`, 0..K-1 or 255, of a mask."""
        return self.grouped(self.read_labels(mask))


def _readable(name: str) -> str:
    """Returns a name with escapes for bytes that are not UTF-8, as names from other systems may have."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _ambiguous(first: Path, second: Path) -> DataError:
    return DataError(second, "listing", f"{first.name} has the same name; keep one of them")


class Pack(Protocol):
    """Decoded frames of one source (`src.data.packed.PackedFrames`)."""

    folder: Path

    def open(self, sample: Sample) -> Frame | None:
        """The frame of a sample; None if it is not in the pack."""
