"""Scale, rotate, crop and mirror in one step that reads only the source window that the crop shows."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from src.data.frame import Frame
from src.data.source import IGNORE_INDEX

Colour = tuple[int, int, int]
LEAD = 32  # pixels before the crop among which a resize may begin
DRIFT = 1 / 8  # of a pixel; up to here a resize stands for the exact warp, at a third of its cost


@dataclass(frozen=True)
class Placement:
    """Where a crop lies. The frame is scaled to `size`, turned about its middle, cropped, mirrored: in this order.

    Args:
        size: `(H, W)` of the scaled frame.
        angle: degrees, counter-clockwise.
        top, left: of the crop in the scaled frame; negative where it begins in the padding.
        crop: `(H, W)` of the crop.
        flip: whether it is mirrored.
    """

    size: tuple[int, int]
    angle: float
    top: int
    left: int
    crop: tuple[int, int]
    flip: bool


def warp_image(frame: Frame, place: Placement, fill: Colour) -> np.ndarray:
    """RGB uint8 `(*place.crop, 3)`; `fill` outside the frame.

    As scaling the whole frame with OpenCV, turning and cropping it would give: bilinear down to a half, where its two
    taps a side still meet every source pixel, and area means below.
    """
    rows, columns = _spans(frame.size, place)
    if place.angle or max(rows.drift, columns.drift) > DRIFT:
        inside = _warp_image(frame, place, rows, columns, fill)
    else:
        inside = _resize_image(frame, place, rows, columns)
    return _finish(inside, place, rows, columns, fill)


def warp_mask(frame: Frame, place: Placement) -> np.ndarray:
    """Ids uint8 `place.crop`: of the nearest pixel, centre to centre (no half pixel is lost); 255 outside the frame."""
    rows, columns = _spans(frame.size, place)
    inside = _warp_mask(frame, place, rows, columns) if place.angle else _pick_mask(frame, place, rows, columns)
    return _finish(inside, place, rows, columns, IGNORE_INDEX)


class _Span(NamedTuple):
    """One axis of a crop: its pixels `first` to `last` lie in the frame.

    Source pixels `begin` to `end`, resized, hold them from the pixel `skip` on, `drift` pixels beside their place.
    """

    first: int
    last: int
    begin: int
    end: int
    skip: int
    drift: float


@lru_cache(maxsize=1)  # the mask's and the image's are the same
def _spans(size: tuple[int, int], place: Placement) -> list[_Span]:
    return [_span(*values) for values in zip((place.top, place.left), place.crop, place.size, size, strict=True)]


def _span(offset: int, crop: int, scaled: int, size: int) -> _Span:
    """A resize can only begin at a whole source pixel: of the `LEAD` ways to begin, the one nearest to a whole pixel.

    That is exact at the frame's edge, and where scaled and source pixels have common multiples; it is poor close to
    whole factors such as 1 and 2, in a twentieth of all draws from .5 to 2.
    """
    first, last = max(0, -offset), min(crop, scaled - offset)
    start, factor = offset + first, scaled / size
    if start == 0:
        begin = skip = 0
        drift = 0.0
    else:
        least = max(1, int(np.ceil(factor / 2)))  # the resize repeats its outermost pixels, so far into the result
        skips = np.arange(least, least + LEAD).clip(max=start)
        begins = np.rint((start - skips) / factor)
        drifts = np.abs(start - skips - begins * factor)
        best = drifts.argmin()
        begin, skip, drift = int(begins[best]), int(skips[best]), float(drifts[best])
    end = min(size, int(np.ceil(begin + (skip + last - first + 1) / factor)) + 1)
    return _Span(first, last, begin, end, skip, drift)


def _resize_image(frame: Frame, place: Placement, rows: _Span, columns: _Span) -> np.ndarray:
    window = frame.image(rows.begin, columns.begin, rows.end - rows.begin, columns.end - columns.begin)
    fy, fx = place.size[0] / frame.size[0], place.size[1] / frame.size[1]
    if (fy, fx) != (1, 1):
        method = cv2.INTER_AREA if min(fy, fx) < 0.5 else cv2.INTER_LINEAR
        window = cv2.resize(window, None, fx=fx, fy=fy, interpolation=method)
    height, width = rows.last - rows.first, columns.last - columns.first
    return window[rows.skip : rows.skip + height, columns.skip : columns.skip + width]


def _warp_image(frame: Frame, place: Placement, rows: _Span, columns: _Span, fill: Colour) -> np.ndarray:
    matrix, (top, left, height, width) = _source_window(frame.size, place, rows, columns)
    window = frame.image(top, left, height, width)
    factors = np.minimum(1, np.array(place.size[::-1]) / frame.size[::-1])
    if factors.min() < 0.5:  # bilinear taps would jump over pixels: area means come first
        window = cv2.resize(window, None, fx=factors[0], fy=factors[1], interpolation=cv2.INTER_AREA)
        matrix = matrix * factors[:, None]
        matrix[:, 2] += (factors - 1) / 2
    return cv2.warpAffine(
        window,
        matrix,
        (columns.last - columns.first, rows.last - rows.first),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        # A frame that is not turned ends between two pixels: its outermost one is repeated, as by a resize.
        borderMode=cv2.BORDER_CONSTANT if place.angle else cv2.BORDER_REPLICATE,
        borderValue=fill,
    )


def _warp_mask(frame: Frame, place: Placement, rows: _Span, columns: _Span) -> np.ndarray:
    matrix, window = _source_window(frame.size, place, rows, columns)
    shape = (columns.last - columns.first, rows.last - rows.first)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame.mask(*window), matrix, shape, flags=flags, borderValue=IGNORE_INDEX)


def _pick_mask(frame: Frame, place: Placement, rows: _Span, columns: _Span) -> np.ndarray:
    """Half the cost of a warp."""
    row, column = (
        ((np.arange(span.first, span.last) + offset + 0.5) * size / scaled).astype(np.intp)
        for span, offset, size, scaled in zip(
            (rows, columns), (place.top, place.left), frame.size, place.size, strict=True
        )
    )
    window = frame.mask(row[0], column[0], row[-1] + 1 - row[0], column[-1] + 1 - column[0])
    row, column = row - row[0], column - column[0]
    # Columns cost more than rows: they are picked from whichever has fewer rows.
    if len(row) < len(window):
        return window.take(row, axis=0).take(column, axis=1)
    return window.take(column, axis=1).take(row, axis=0)


def _source_window(
    size: tuple[int, int], place: Placement, rows: _Span, columns: _Span
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """The source window `(top, left, height, width)` of the crop's part in the frame, and the matrix `(2, 3)` to it.

    The matrix maps the part's pixels `(x, y, 1)` to the window's; whole numbers are pixel centres in both.
    """
    scaled, limits = np.array(place.size[::-1]), np.array(size[::-1])
    cos, sin = np.cos(np.radians(place.angle)), np.sin(np.radians(place.angle))
    turn = np.array([[cos, -sin], [sin, cos]])  # rows run down: back from a counter-clockwise turn
    corner, middle = np.array([place.left + columns.first, place.top + rows.first]), (scaled - 1) / 2
    linear = (limits / scaled)[:, None] * turn
    shift = limits / scaled * (turn @ (corner - middle) + middle + 0.5) - 0.5
    right, bottom = columns.last - columns.first - 1, rows.last - rows.first - 1
    corners = linear @ np.array([[0, right, 0, right], [0, 0, bottom, bottom]]) + shift[:, None]
    low = np.clip(np.floor(corners.min(axis=1)).astype(int) - 1, 0, limits - 1)
    high = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 2, low + 1, limits)
    (left, top), (width, height) = low.tolist(), (high - low).tolist()
    return np.column_stack([linear, shift - low]), (top, left, height, width)


def _finish(inside: np.ndarray, place: Placement, rows: _Span, columns: _Span, fill: Colour | int) -> np.ndarray:
    """The crop `(H, W, ...)`: its part in the frame, surrounded by padding, mirrored."""
    crop = inside
    if inside.shape[:2] != place.crop:
        crop = np.full((*place.crop, *inside.shape[2:]), fill, dtype=np.uint8)
        crop[rows.first : rows.last, columns.first : columns.last] = inside
    return cv2.flip(crop, 1) if place.flip else crop
