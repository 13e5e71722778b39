"""One labelled image, of which windows are read."""

from abc import ABC, abstractmethod

import numpy as np


class Frame(ABC):
    """An image and its mask, of the same `size` `(H, W)`. Windows may be views: do not write to them."""

    size: tuple[int, int]

    @abstractmethod
    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns a window inside the frame, RGB uint8 `(height, width, 3)`."""

    @abstractmethod
    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Returns the ids of a window inside the frame, uint8 `(height, width)`, 0..K-1 or 255."""

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns image `(H, W, 3)` and mask `(H, W)`."""
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
