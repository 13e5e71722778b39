"""Elastic displacement of image and mask, with strength and smoothness drawn from ranges (albumentations takes one)."""

import cv2
import numpy as np

from src.data.augment.photometric import Range, Step


class Elastic(Step):
    """Moves each pixel along a smooth random field (Simard et al. 2003), the mask with the image.

    The field is uniform noise in -1..1, blurred, times `alpha`. Beyond the edge, image and mask are mirrored.

    Args:
        sigma: range of the blur's standard deviation in pixels.
        alpha: range of the field's strength in pixels.
    """

    def __init__(self, sigma: Range, alpha: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.sigma, self.alpha = sigma, alpha

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if rng.random() >= self.p:
            return image, mask
        x, y = self.draw(mask.shape, rng)
        image = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return image, cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)

    def draw(self, size: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws the source column and row of each pixel, two float32 `(H, W)`."""
        sigma, alpha = rng.uniform(*self.sigma), rng.uniform(*self.alpha)
        rows, columns = np.indices(size, dtype=np.float32)
        field = 2 * rng.random((2, *size), dtype=np.float32) - 1
        x, y = (
            index + alpha * cv2.GaussianBlur(noise, (0, 0), sigma)
            for index, noise in zip((columns, rows), field, strict=True)
        )
        return x, y
