"""What no matrix states: gamma, blur, sharpening, noise, and an elastic warp of image and mask."""

from abc import ABC, abstractmethod

import cv2
import numpy as np

from src.data.augment.photometric import Range, Step

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # PIL's ImageFilter.SMOOTH


class Filter(Step, ABC):
    """A change of the image alone."""

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return (self.apply(image, rng) if rng.random() < self.p else image), mask

    @abstractmethod
    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """RGB uint8 `(H, W, 3)`, of the same size."""


class Gamma(Filter):
    """`255 (x / 255)^g` with g uniform in the range `gamma`."""

    def __init__(self, gamma: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.gamma = gamma

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        table = 255 * (np.arange(256) / 255) ** rng.uniform(*self.gamma)
        return cv2.LUT(image, np.rint(table).astype(np.uint8))


class Blur(Filter):
    """Gaussian blur with a standard deviation in pixels, uniform in the range `sigma` (PIL calls it radius)."""

    def __init__(self, sigma: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.sigma = sigma

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(*self.sigma))


class Sharpen(Filter):
    """PIL's ImageEnhance.Sharpness with a factor uniform in the range `factor`: 1 leaves the image, 0 smooths it."""

    def __init__(self, factor: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.factor = factor

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        factor = rng.uniform(*self.factor)
        kernel = (1 - factor) * SMOOTH
        kernel[1, 1] += factor
        return cv2.filter2D(image, -1, kernel)


class Noise(Filter):
    """Gaussian noise of standard deviation `sigma`, in grey levels, for each pixel and channel."""

    def __init__(self, sigma: float, p: float = 1.0) -> None:
        super().__init__(p)
        self.sigma = sigma

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = self.sigma * rng.standard_normal(image.shape, dtype=np.float32)
        return cv2.add(image, noise, dtype=cv2.CV_8U)


class Elastic(Step):
    """Each pixel is moved along a smooth random field (Simard et al. 2003), the mask with the image.

    The field is uniform noise in -1..1, blurred, times `alpha`. Beyond the edge image and mask are mirrored.

    Args:
        sigma: range of the blur's standard deviation in pixels.
        alpha: range of the field's strength in pixels.
        p: chance that it is applied.
    """

    def __init__(self, sigma: Range, alpha: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.sigma, self.alpha = sigma, alpha

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if rng.random() >= self.p:
            return image, mask
        x, y = self.draw(mask.shape, rng)
        border = {"borderMode": cv2.BORDER_REFLECT_101}
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, **border), cv2.remap(mask, x, y, cv2.INTER_NEAREST, **border)

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel comes from: float32 `(H, W)` columns and rows."""
        sigma, alpha = rng.uniform(*self.sigma), rng.uniform(*self.alpha)
        rows, columns = np.indices(size, dtype=np.float32)
        field = 2 * rng.random((2, *size), dtype=np.float32) - 1
        return tuple(
            place + alpha * cv2.GaussianBlur(noise, (0, 0), sigma)
            for place, noise in zip((columns, rows), field, strict=True)
        )
