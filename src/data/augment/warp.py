"""Scales, rotates, crops and mirrors in one step that reads only the source window that the crop shows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from src.data.frame import Frame
from src.labels import IGNORE_INDEX

LEAD = 64  # source pixels around the window among which a resize may begin and end
DRIFT = 1 / 8  # of a scaled pixel; up to here a resize replaces the exact warp, at a third of its cost


@dataclass(frozen=True)
class Placement:
    """The place of a crop: the frame is scaled to `size`, turned about its middle, cropped and mirrored, in this order.

    Args:
        size: `(H, W)` of the scaled frame.
        angle: degrees, counter-clockwise.
        top: first row of the crop in the scaled frame; negative if it begins in the padding.
        left: first column of the crop, likewise.
        crop: `(H, W)` of the crop.
    """

    size: tuple[int, int]
    angle: float
    top: int
    left: int
    crop: tuple[int, int]
    flip: bool


def warp_image(frame: Frame, place: Placement, fill: tuple[int, ...]) -> np.ndarray:
    """Returns RGB uint8 `(*place.crop, 3)`, with `fill` outside the frame.

    Equal to scaling the whole frame with OpenCV, then turning and cropping it: bilinear down to a half, as far as its
    two taps per axis still meet every source pixel, and area means below.
    """
    spans = None if place.angle else _resizable(frame.size, place)
    if spans:
        shrinks = min(span.length / (span.end - span.begin) for span in spans) < 0.5
        inside = _resize(frame.image, spans, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    else:
        inside = _warp_image(frame, place, fill)
    return _finish(inside, place, fill)


def warp_mask(frame: Frame, place: Placement) -> np.ndarray:
    """Returns ids uint8 `place.crop`, of the nearest pixel from centre to centre; 255 outside the frame."""
    spans = None if place.angle else _resizable(frame.size, place)
    inside = _resize(frame.mask, spans, cv2.INTER_NEAREST_EXACT) if spans else _warp_mask(frame, place)
    return _finish(inside, place, IGNORE_INDEX)


class _Span(NamedTuple):
    """One axis of a source window: pixels `begin` to `end`, resized to `length`, hold the crop's from `skip` on."""

    begin: int
    end: int
    length: int
    skip: int
    count: int


@lru_cache(maxsize=1)  # mask and image have the same
def _resizable(size: tuple[int, int], place: Placement) -> list[_Span] | None:
    """Returns the window that gives the crop by a resize; None if no window does."""
    spans = []
    axes = zip(_covered(place), (place.top, place.left), place.size, size, strict=True)
    for (first, last), offset, scaled, source in axes:
        span = _span(offset + first, offset + last, scaled, source)
        if span is None:
            return None
        spans.append(span)
    return spans


def _covered(place: Placement) -> list[tuple[int, int]]:
    """Returns the crop's rows and its columns, first and last, that lie in the scaled frame."""
    offsets = (place.top, place.left)
    return [
        (max(0, -offset), min(crop, scaled - offset))
        for offset, crop, scaled in zip(offsets, place.crop, place.size, strict=True)
    ]


def _span(start: int, stop: int, scaled: int, size: int) -> _Span | None:
    """Finds a window around the scaled pixels `start` to `stop` that begins and ends at whole pixels in both scales.

    Only such a window can be resized. The frame's own edges qualify; otherwise the first pixels within `DRIFT` are
    taken. Close to simple factors, such as 1 and 2, none exist (in 2 % of all draws from .5 to 2).
    """
    factor = scaled / size
    # Bilinear weights reach to the pixels beside the outermost centres, area means to the outermost edges.
    begin = max(0, math.floor(min((start + 0.5) / factor - 0.5, start / factor)))
    end = min(size, math.ceil(max((stop - 0.5) / factor + 1.5, stop / factor)))
    begin = _first_whole(range(begin, max(begin - LEAD, -1), -1), factor)
    end = _first_whole(range(end, min(end + LEAD, size) + 1), factor)
    if begin is None or end is None:
        return None
    before = round(begin * factor)
    return _Span(begin, end, round(end * factor) - before, start - before, stop - start)


def _first_whole(pixels: range, factor: float) -> int | None:
    return next((pixel for pixel in pixels if abs(pixel * factor - round(pixel * factor)) <= DRIFT), None)


def _resize(read: Callable[[int, int, int, int], np.ndarray], spans: list[_Span], method: int) -> np.ndarray:
    rows, columns = spans
    window = read(rows.begin, columns.begin, rows.end - rows.begin, columns.end - columns.begin)
    if window.shape[:2] != (rows.length, columns.length):
        window = cv2.resize(window, (columns.length, rows.length), interpolation=method)
    return window[rows.skip : rows.skip + rows.count, columns.skip : columns.skip + columns.count]


def _warp_image(frame: Frame, place: Placement, fill: tuple[int, ...]) -> np.ndarray:
    matrix, window, shape = _source_window(frame.size, place)
    image = frame.image(*window)
    factors = np.minimum(1, np.array(place.size[::-1]) / frame.size[::-1])
    if factors.min() < 0.5:  # bilinear taps would skip pixels: area means come first
        image = cv2.resize(image, None, fx=factors[0], fy=factors[1], interpolation=cv2.INTER_AREA)
        matrix = matrix * factors[:, None]
        matrix[:, 2] += (factors - 1) / 2
    # A frame that is not turned ends between two pixels: its outermost pixel is repeated, as a resize does.
    border = cv2.BORDER_CONSTANT if place.angle else cv2.BORDER_REPLICATE
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, shape, flags=flags, borderMode=border, borderValue=fill)


def _warp_mask(frame: Frame, place: Placement) -> np.ndarray:
    matrix, window, shape = _source_window(frame.size, place)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame.mask(*window), matrix, shape, flags=flags, borderValue=IGNORE_INDEX)


def _source_window(
    size: tuple[int, int], place: Placement
) -> tuple[np.ndarray, tuple[int, int, int, int], tuple[int, int]]:
    """Finds the source window that the crop's covered part shows, and the matrix between them.

    Returns:
        The matrix `(2, 3)`, which maps the part's pixels `(x, y, 1)` to the window's (whole numbers are pixel centres
        in both), the window `(top, left, height, width)`, and the part's `(W, H)`.
    """
    (top, bottom), (left, right) = _covered(place)
    scaled, limits = np.array(place.size[::-1]), np.array(size[::-1])
    cos, sin = np.cos(np.radians(place.angle)), np.sin(np.radians(place.angle))
    turn = np.array([[cos, -sin], [sin, cos]])  # rows run down: back from a counter-clockwise turn
    corner, middle = np.array([place.left + left, place.top + top]), (scaled - 1) / 2
    linear = (limits / scaled)[:, None] * turn
    shift = limits / scaled * (turn @ (corner - middle) + middle + 0.5) - 0.5
    width, height = right - left, bottom - top
    corners = linear @ np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1]]) + shift[:, None]
    low = np.clip(np.floor(corners.min(axis=1)).astype(int) - 1, 0, limits - 1)
    high = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 2, low + 1, limits)
    window = (*low[::-1].tolist(), *(high - low)[::-1].tolist())
    return np.column_stack([linear, shift - low]), window, (width, height)


def _finish(inside: np.ndarray, place: Placement, fill: tuple[int, ...] | int) -> np.ndarray:
    """Returns the crop `(H, W, ...)`: its part in the frame, surrounded by padding, mirrored if it is to be."""
    crop = inside
    if inside.shape[:2] != place.crop:
        (top, bottom), (left, right) = _covered(place)
        crop = np.full((*place.crop, *inside.shape[2:]), fill, dtype=np.uint8)
        crop[top:bottom, left:right] = inside
    return cv2.flip(crop, 1) if place.flip else crop
