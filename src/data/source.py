"""What a dataset is: labelled images with classes, palette, splits, groups. Without torch: it is checked early."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from src.data.frame import ArrayFrame, Frame
from src.data.reading import FileFrame, read_mask
from src.errors import UserError
from src.labels import IGNORE_INDEX as IGNORE_INDEX


@dataclass(frozen=True)
class Sample:
    """One labelled image: `name` is unique in its split, `group` must never be on two sides of a split (a drive)."""

    name: str
    group: str
    image: Path | None = None
    mask: Path | None = None


class Source(ABC):
    """Labelled images of one dataset.

    Subclasses set `labels` (the name of the label set, part of every protocol tag), `classes` (name to RGB colour, in
    the order of the label ids 0..K-1), `splits`, and of these: `unlabelled`, which have images alone (a benchmark's
    test), and `extra_splits`, which are trained on beside train and never validated on (coarse labels).
    """

    labels: str
    classes: dict[str, tuple[int, int, int]]
    splits: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    extra_splits: tuple[str, ...] = ()

    @abstractmethod
    def samples(self, split: str) -> list[Sample]:
        """All samples of a split, in a fixed order. UserError when there is none, or the split is unknown."""

    @abstractmethod
    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` RGB and mask uint8 `(H, W)` with ids 0..K-1 or 255."""

    def open(self, sample: Sample) -> Frame:
        """The same, read as far as its windows are asked for."""
        return ArrayFrame(*self.read(sample))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def check_split(self, split: str) -> None:
        if split not in self.splits:
            raise UserError(f"split {split!r} is not one of this dataset's: {', '.join(self.splits)}")

    def check_labelled(self, split: str) -> None:
        """UserError where a split has no labels to train on or to evaluate against."""
        if split in self.unlabelled:
            others = ", ".join(name for name in self.splits if name not in self.unlabelled)
            raise UserError(
                f"split {split!r} of {self.labels} has no public labels; choose one of {others}, or write files for "
                f"the benchmark's server: python -m src.predict run=... split={split} format=labelids"
            )

    def weights(self, samples: list[Sample]) -> np.ndarray | None:
        """How often each comes in a training epoch, on average: float `(N,)` with sum N. None: each once."""
        return None

    @abstractmethod
    def image_id(self, sample: Sample) -> str:
        """The image's name wherever the data are, in whatever split, layout, label set or join of datasets."""

    def official_path(self, sample: Sample) -> str:
        """Where a benchmark's server looks for this prediction in an archive. UserError where there is no server."""
        raise UserError(f"format=labelids: no benchmark takes files of {self.labels}; use format=pictures")


class FileSource(Source):
    """Samples that are pairs of files: an image, and a PNG of raw labels that `table` turns into ids.

    `table` maps each raw label that may stand in a file to an id 0..K-1 or 255; any other label is an error, for
    silently ignoring it would hide a wrong label set. `colours` does so for colours, where masks hold them. `dataset`
    begins the ids of its images, whatever the label set.
    """

    root: Path
    dataset: str
    table: dict[int, int]
    colours: dict[tuple[int, int, int], int] = {}
    pack: "Pack | None" = None  # where its frames are read from instead, if they are in it

    def open(self, sample: Sample) -> Frame:
        packed = self.pack.open(sample) if self.pack else None
        return packed or FileFrame(sample, self.read_labels)

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        return self.open(sample).whole()

    def image_id(self, sample: Sample) -> str:
        return f"{self.dataset}/{sample.image.relative_to(self.root).with_suffix('').as_posix()}"

    def read_labels(self, sample: Sample) -> np.ndarray:
        """Ids uint8 `(H, W)`, 0..K-1 or 255. Overridden where a mask is not a PNG of one raw label a pixel."""
        return read_mask(sample.mask, self.table)


class Pack(Protocol):
    """Frames that were decoded before, of one source (`src.data.packed.PackedFrames`)."""

    def open(self, sample: Sample) -> Frame | None:
        """None where the sample is not in it."""
