"""Colour steps that are linear in RGB: neighbouring ones are composed into one 3x4 matrix and applied in uint8.

Between composed steps nothing is rounded or clipped. Chances and ranges are drawn again for every image.
"""

from abc import ABC, abstractmethod

import cv2
import numpy as np

from src.errors import UserError

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as torchvision's and OpenCV's grey
YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
FROM_YIQ = np.linalg.inv(YIQ)
Range = tuple[float, float]


class Step:
    """A random change of an image.

    Args:
        p: chance that it is applied.
    """

    def __init__(self, p: float) -> None:
        if not 0 <= p <= 1:
            raise UserError(f"{type(self).__name__}: p={p}: must be 0 to 1")
        self.p = p


class LinearStep(Step, ABC):
    """A change of colours that a matrix can express."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        """Draws a matrix `(4, 4)` that acts on `(R, G, B, 1)` in 0..255, for an image of this mean colour `(4,)`."""


class LinearSteps:
    """Linear steps in order, applied as one matrix product over the image (.3 ms at 512x1024)."""

    def __init__(self, steps: list[LinearStep]) -> None:
        self.steps = steps

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns the changed image `(H, W, 3)` and the mask unchanged."""
        matrix = self.draw(image, rng)
        return (image if matrix is None else cv2.transform(image, matrix[:3])), mask

    def draw(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Draws the product `(4, 4)` of the steps that chance selects; None if it selects none."""
        product, mean = None, None
        for step in self.steps:
            if rng.random() < step.p:
                if mean is None:
                    rows = image[:: max(1, len(image) // 128)]  # they give the mean to a fraction of a level
                    mean = np.array([*cv2.mean(rows)[:3], 1.0])
                matrix = step.draw(rng, mean)
                product, mean = matrix if product is None else matrix @ product, matrix @ mean
        return product


class ColourJitter(LinearStep):
    """Brightness, contrast, saturation and hue as torchvision's ColorJitter draws them, and an additive shift.

    Shift comes first; the others commute as long as nothing is clipped, so no order is drawn. Hue is turned in the
    plane of equal luma (YIQ), which is linear, not in HSV.

    Args:
        brightness: range of the factor of all channels.
        contrast: range of the factor of the distance to the image's mean grey.
        saturation: range of the factor of the distance to each pixel's own grey.
        hue: range of the turn, in whole turns (.5 gives the complementary colour).
        shift: range of the grey levels that are added to all channels.
    """

    def __init__(
        self,
        brightness: Range = (1, 1),
        contrast: Range = (1, 1),
        saturation: Range = (1, 1),
        hue: Range = (0, 0),
        shift: Range = (0, 0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        limits = {"brightness": (0, np.inf), "contrast": (0, np.inf), "saturation": (0, np.inf), "hue": (-0.5, 0.5),
                  "shift": (-255, 255)}  # fmt: skip
        self.ranges = [brightness, contrast, saturation, hue, shift]
        for (name, (low, high)), given in zip(limits.items(), self.ranges, strict=True):
            if not low <= given[0] <= given[1] <= high:
                raise UserError(f"ColourJitter: {name}={list(given)} must be [LOW,HIGH] within {low} to {high}")

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return jitter_matrix(*(rng.uniform(*given) for given in self.ranges), mean=mean)


def jitter_matrix(
    brightness: float, contrast: float, saturation: float, hue: float, shift: float, mean: np.ndarray
) -> np.ndarray:
    """Returns the matrix `(4, 4)` of a `ColourJitter`; `mean` is the image's mean colour and a 1, `(4,)`."""
    cos, sin = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
    turn = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])  # keeps luma, and so grey
    chroma = saturation * (FROM_YIQ @ turn @ YIQ) + (1 - saturation) * LUMA
    matrix = np.eye(4)
    matrix[:3, :3] = brightness * contrast * chroma
    mean_grey = brightness * (LUMA @ mean[:3] + shift)
    matrix[:3, 3] = brightness * contrast * shift + (1 - contrast) * mean_grey
    return matrix


class ChannelGain(LinearStep):
    """Multiplies each channel by its own factor, uniform in the range `gain`."""

    def __init__(self, gain: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.gain = gain

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return np.diag([*rng.uniform(*self.gain, 3), 1.0])


class ChannelShuffle(LinearStep):
    """Puts the three channels in random order."""

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return np.eye(4)[[*rng.permutation(3), 3]]


class Grey(LinearStep):
    """Sets all channels to the pixel's luma."""

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return jitter_matrix(1, 1, 0, 0, 0, mean)


class Blend(LinearStep):
    """Averages the image and a jittered copy; the image's weight is uniform in the range `weight`."""

    def __init__(self, jitter: ColourJitter, weight: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.jitter, self.weight = jitter, weight

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        weight = rng.uniform(*self.weight)
        return weight * np.eye(4) + (1 - weight) * self.jitter.draw(rng, mean)
