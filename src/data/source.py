"""What a dataset is: labelled images with classes, palette, splits and groups. No torch, so that it can be checked early."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

IGNORE_INDEX = 255
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


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
    the order of the label ids 0..K-1) and `splits`.
    """

    labels: str
    classes: dict[str, tuple[int, int, int]]
    splits: tuple[str, ...]

    @abstractmethod
    def samples(self, split: str) -> list[Sample]:
        """All samples of a split, in a fixed order. ValueError when there is none, or the split is unknown."""

    @abstractmethod
    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` RGB and mask uint8 `(H, W)` with ids 0..K-1 or 255."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def check_split(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(f"split {split!r} is not one of this dataset's: {', '.join(self.splits)}")
