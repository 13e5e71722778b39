"""Colour changes that are linear in RGB, in uint8: those that follow each other are composed into one 3x4 matrix.

Between composed steps nothing is rounded or clipped. Chances and ranges are drawn anew for every image.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np

from src.errors import UserError

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as torchvision's and OpenCV's grey
YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
FROM_YIQ = np.linalg.inv(YIQ)
Range = Sequence[float]


class Step:
    """A random change of an image.

    Args:
        p: chance that it is applied.
    """

    def __init__(self, p: float) -> None:
        if not 0 <= p <= 1:
            raise UserError(f"{type(self).__name__}: p={p} is not 0 to 1")
        self.p = p


class LinearStep(Step, ABC):
    """A change of colours that a matrix can state."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        """Matrix `(4, 4)` that acts on `(R, G, B, 1)` in 0..255, for an image of this mean colour `(4,)`."""


class LinearSteps:
    """Several in order, as one matrix product over the image (.3 ms at 512x1024)."""

    def __init__(self, steps: list[LinearStep]) -> None:
        self.steps = steps

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The image, written to `out` (which may be the image itself) if given, and the mask as it is."""
        matrix = self.draw(image, rng)
        if matrix is not None:
            image = cv2.transform(image, matrix[:3], dst=out)
        return image, mask

    def draw(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """The product `(4, 4)` of the steps whose turn it is; None where it is no step's."""
        product, mean = None, None
        for step in self.steps:
            if rng.random() < step.p:
                if mean is None:
                    rows = image[:: max(1, len(image) // 128)]  # enough to know the mean to a fraction of a level
                    mean = np.array([*cv2.mean(rows)[:3], 1.0])
                matrix = step.draw(rng, mean)
                product, mean = matrix if product is None else matrix @ product, matrix @ mean
        return product


class ColourJitter(LinearStep):
    """Brightness, contrast, saturation and hue as torchvision's ColorJitter draws them, and an additive shift.

    They commute where nothing is clipped, but for shift, which comes first: no order is drawn. Hue is turned in the
    plane of equal luma (YIQ), which is linear, rather than in HSV.

    Args:
        brightness: range of the factor of all channels.
        contrast: range of the factor of the distance to the image's mean grey.
        saturation: range of the factor of the distance to each pixel's own grey.
        hue: range of the turn, in whole turns (.5 is the complementary colour).
        shift: range of what is added to all channels, in grey levels.
        p: chance that it is applied.
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
    """Matrix `(4, 4)` of a `ColourJitter`; `mean` is the image's mean colour `(4,)`, with a 1."""
    cos, sin = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
    turn = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])  # keeps luma, and so grey
    chroma = saturation * (FROM_YIQ @ turn @ YIQ) + (1 - saturation) * LUMA
    matrix = np.eye(4)
    matrix[:3, :3] = brightness * contrast * chroma
    mean_grey = brightness * (LUMA @ mean[:3] + shift)
    matrix[:3, 3] = brightness * contrast * shift + (1 - contrast) * mean_grey
    return matrix


class ChannelGain(LinearStep):
    """Each channel times a factor of its own, uniform in the range `gain`."""

    def __init__(self, gain: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.gain = gain

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return np.diag([*rng.uniform(*self.gain, 3), 1.0])


class ChannelShuffle(LinearStep):
    """The three channels in random order."""

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return np.eye(4)[[*rng.permutation(3), 3]]


class Grey(LinearStep):
    """All channels become the pixel's luma."""

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        return jitter_matrix(1, 1, 0, 0, 0, mean)


class Blend(LinearStep):
    """A mean of the image and its jittered copy; the image's weight is uniform in the range `weight`."""

    def __init__(self, jitter: ColourJitter, weight: Range, p: float = 1.0) -> None:
        super().__init__(p)
        self.jitter, self.weight = jitter, weight

    def draw(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        weight = rng.uniform(*self.weight)
        return weight * np.eye(4) + (1 - weight) * self.jitter.draw(rng, mean)
