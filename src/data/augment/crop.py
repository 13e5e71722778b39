"""Random scale, rotation, crop and mirror: drawn first, from the seed and the frame's size only, then applied once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from src.data.augment.warp import Placement, warp_image, warp_mask
from src.data.frame import Frame
from src.errors import UserError
from src.labels import IGNORE_INDEX

ATTEMPTS = 10  # at a crop in which no class exceeds max_share, as in mmsegmentation


@dataclass
class Geometry:
    """A crop of one size, equal to scaling, rotating and mirroring the whole frame and then cropping at random.

    If the scaled frame is smaller than the crop, it lies at a random place in it, and the rest is padding: `fill` in
    the image, 255 in the mask.

    Args:
        crop_size: `(H, W)` of the result.
        resize: size of the frame before the random scale: `[H, W]`, or `{short: S}` or `{long: L}` for the length of
            that side; None keeps its own.
        scale: range of the random factor, uniform.
        scale_p: chance that it is applied.
        rotate: largest angle in degrees, uniform in both directions, about the frame's middle.
        rotate_p: chance that it is applied.
        flip_p: chance of a mirrored result.
        place_p: chance of a random place of the crop; otherwise it is the frame's middle.
        max_share: if one class has more of a crop's labelled pixels than this, another place is drawn, at most ten
            times (`cat_max_ratio` of mmsegmentation, usually .75). None takes every crop.
        fill: colour of the padding, RGB; ImageNet's mean, which is 0 after normalisation.

    Raises:
        UserError: an argument is out of its range.
    """

    crop_size: tuple[int, int]
    resize: Sequence[int] | dict[str, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    scale_p: float = 1.0
    rotate: float = 0.0
    rotate_p: float = 1.0
    flip_p: float = 0.0
    place_p: float = 1.0
    max_share: float | None = None
    fill: tuple[int, ...] = (124, 116, 104)

    def __post_init__(self) -> None:
        height, width = self.crop_size  # lists, if from a configuration
        self.crop_size, self.fill = (int(height), int(width)), tuple(self.fill)
        if isinstance(self.resize, dict) and self.resize.keys() not in ({"short"}, {"long"}):
            raise UserError(f"geometry.resize={self.resize}: must be [HEIGHT,WIDTH], {{short: S}}, {{long: L}} or null")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"geometry.scale={list(self.scale)}: must be [LOW,HIGH] with 0 < LOW <= HIGH")
        if not 0 <= self.rotate <= 180:
            raise UserError(f"geometry.rotate={self.rotate}: must be 0 to 180 degrees")
        for name in ("scale_p", "rotate_p", "flip_p", "place_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"geometry.{name}={getattr(self, name)}: must be 0 to 1")
        if self.max_share is not None and not 0 < self.max_share <= 1:
            raise UserError(f"geometry.max_share={self.max_share}: must be above 0 and at most 1, or null")

    def __call__(
        self, frame: Frame, rng: np.random.Generator, label: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns image uint8 `(*crop_size, 3)` and mask uint8 `crop_size`.

        The crop lies about a pixel of `label`, an id that the frame has, or anywhere if it is None.
        """
        place = self.draw(frame.size, rng)
        if label is not None:
            top, left = _aim(place, frame, label, rng)
            place = replace(place, top=top, left=left)
        mask = warp_mask(frame, place)
        for _ in range(ATTEMPTS - 1):
            if self.max_share is None or _largest_share(mask) <= self.max_share:
                break
            top, left = self._draw_corner(place.size, rng) if label is None else _aim(place, frame, label, rng)
            place = replace(place, top=top, left=left)
            mask = warp_mask(frame, place)
        return warp_image(frame, place, self.fill), mask

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Placement:
        """Draws a random placement in a frame of `size` `(H, W)`."""
        height, width = self._resized(size)
        factor, angle = rng.uniform(*self.scale), rng.uniform(-self.rotate, self.rotate)
        scales, turns, flips = rng.random(3) < (self.scale_p, self.rotate_p, self.flip_p)
        factor = factor if scales else 1.0
        scaled = (max(1, round(height * factor)), max(1, round(width * factor)))
        top, left = self._draw_corner(scaled, rng)
        return Placement(scaled, angle if turns else 0.0, top, left, self.crop_size, bool(flips))

    def _draw_corner(self, size: tuple[int, int], rng: np.random.Generator) -> list[int]:
        """Draws top and left of the crop in a frame of this size; negative values are the width of the padding."""
        free = [scaled - crop for scaled, crop in zip(size, self.crop_size, strict=True)]
        places = [int(rng.integers(min(0, space), max(0, space), endpoint=True)) for space in free]
        return places if rng.random() < self.place_p else [space // 2 for space in free]

    def _resized(self, size: tuple[int, int]) -> tuple[float, float]:
        if self.resize is None:
            return size
        if not isinstance(self.resize, dict):
            height, width = self.resize
            return height, width
        ((side, length),) = self.resize.items()
        factor = length / (min(size) if side == "short" else max(size))
        return size[0] * factor, size[1] * factor


def _aim(place: Placement, frame: Frame, label: int, rng: np.random.Generator) -> list[int]:
    """Draws top and left so that a random pixel of `label` lies in the middle half of the crop's height and width.

    At the frame's edge the pixel lies further out, since the crop stays inside, as without aim. A pixel in a corner
    that the rotation turns out of the frame is lost.
    """
    pixels = np.flatnonzero(frame.mask(0, 0, *frame.size) == label)
    assert len(pixels), f"the statistics say that there are pixels of label {label}"
    size, scaled, crop = np.array(frame.size), np.array(place.size), np.array(place.crop)
    point = np.array(divmod(int(pixels[rng.integers(len(pixels))]), frame.size[1]))  # row, column
    cos, sin = np.cos(np.radians(place.angle)), np.sin(np.radians(place.angle))
    turn = np.array([[cos, -sin], [sin, cos]])  # rows run down: counter-clockwise
    target = turn @ ((point + 0.5) * scaled / size - scaled / 2) + scaled / 2
    corner = np.floor(target - crop * rng.uniform(0.25, 0.75, 2))
    return np.clip(corner, np.minimum(0, scaled - crop), np.maximum(0, scaled - crop)).astype(int).tolist()


def _largest_share(mask: np.ndarray) -> float:
    """Returns the share of the most frequent class among the labelled pixels; 1 if no pixel is labelled."""
    counts = np.bincount(mask.ravel(), minlength=256)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
