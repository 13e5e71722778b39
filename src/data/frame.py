"""One labelled image: its sample, and the frame whose windows are read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Colour = tuple[int, int, int]  # RGB, 0..255


@dataclass(frozen=True)
class ImageForm:
    """The form of image files: their channels, and the range of their values.

    Args:
        channels: 3, RGB (greys are repeated), or 4, RGB and one more, such as infrared.
        span: the values of 16 bits that become 0 and 255, those between linearly, those beyond clipped; None: files
            have 8 bits.
    """

    channels: int = 3
    span: tuple[int, int] | None = None


RGB = ImageForm()


@dataclass(frozen=True)
class Sample:
    """One labelled image: `name` is unique in its split, `group` must never be on two sides of a split (a drive)."""

    name: str
    group: str
    image: Path | None = None
    mask: Path | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        """The image file and the mask file of a labelled sample of a `FileSource`."""
        assert self.image is not None
        assert self.mask is not None
        return self.image, self.mask


class Frame(ABC):
    """An image and its mask, of the same `size` `(H, W)`. Windows may be views: do not write to them."""

    size: tuple[int, int]

    @abstractmethod
    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window inside the frame, RGB uint8 `(height, width, C)`, C 3, or 4 with another channel."""

    @abstractmethod
    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns the ids of a window inside the frame, uint8 `(height, width)`, 0..K-1 or 255."""

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns image `(H, W, C)` and mask `(H, W)`."""
        return self.image(0, 0, *self.size), self.mask(0, 0, *self.size)


class ArrayFrame(Frame):
    """A frame in memory."""

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        assert image.shape[:2] == mask.shape, (image.shape, mask.shape)
        self.size = mask.shape
        self._image, self._mask = image, mask

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._image[top : top + height, left : left + width]

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._mask[top : top + height, left : left + width]
