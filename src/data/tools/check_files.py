"""Reads images and their masks as training would, and collects the faults and contents of each pair of files."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.progress import Progress

from src.data.frame import RGB
from src.data.reading import ORIENTATION, read_image, wrong_size
from src.data.source import FileSource, Sample
from src.errors import DataError
from src.labels import IGNORE_INDEX


@dataclass
class Reading:
    """The faults and contents of one pair of files; None for anything that could not be read.

    `size` is (height, width); `pixels` and `labels` are hashes of the decoded image and mask; `counts` int64 `(256,)`
    are the pixels of each id; `moments` float64 `(2, C)` are the means of the values in 0..1 and of their squares, if
    images are not RGB of 8 bits.
    """

    sample: Sample
    faults: list[DataError] = field(default_factory=list)
    size: tuple[int, ...] | None = None
    pixels: bytes | None = None
    labels: bytes | None = None
    counts: np.ndarray | None = None
    moments: np.ndarray | None = None

    def add(self, path: Path, kind: str, text: str) -> None:
        """Adds a fault of one of the two files."""
        self.faults.append(DataError(path, kind, text))


def read_all(source: FileSource, samples: list[Sample], num_processes: int) -> Iterator[Reading]:
    """Yields the reading of each sample as it comes, under a progress bar; one process reads in this one."""
    with Progress(disable=not samples) as bar:
        if num_processes == 1:
            yield from bar.track((read_pair(source, sample) for sample in samples), len(samples), description="check")
            return
        # Not forked: a fork inherits the locks that OpenCV's and torch's threads hold, and waits for them for ever.
        context = get_context("spawn")
        with ProcessPoolExecutor(num_processes, context, initializer=_start, initargs=(source,)) as pool:
            futures = [pool.submit(_read, sample) for sample in samples]
            for future in bar.track(as_completed(futures), len(futures), description="check"):
                yield future.result()


_source: FileSource  # of a process of the pool: sent once, not with each sample


def _start(source: FileSource) -> None:
    global _source
    _source = source
    cv2.setNumThreads(1)


def _read(sample: Sample) -> Reading:
    return read_pair(_source, sample)


def read_pair(source: FileSource, sample: Sample) -> Reading:
    """Reads an image and its mask, if it has one, and checks their contents."""
    reading, path = Reading(sample), sample.image
    assert path is not None
    image = _try(reading, path, lambda: read_image(path, source.form))
    if image is not None:
        reading.size, reading.pixels = image.shape[:2], _hash(image)
        if source.form == RGB:
            _check_format(reading, path)
        else:
            values = image.reshape(-1, image.shape[2]) / 255
            reading.moments = np.stack([values.mean(0), (values**2).mean(0)])
        if (image == image[0, 0]).all():
            reading.add(path, "blank image", "all pixels have one colour")
    if sample.mask is None:
        return reading
    mask = sample.mask
    ids = _try(reading, mask, lambda: source.read_ids(mask))
    if ids is None:
        return reading
    if reading.size and ids.shape != reading.size:
        reading.faults.append(wrong_size(sample, ids.shape, reading.size))
        return reading
    reading.counts, reading.labels = np.bincount(ids.ravel(), minlength=256), _hash(ids)
    if reading.counts[IGNORE_INDEX] == ids.size:
        reading.add(mask, "void mask", "all pixels are void, nothing to learn")
    return reading


def _try(reading: Reading, path: Path, read: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return read()
    except DataError as error:
        reading.faults.append(error)
    except Exception as error:  # a decoder of a damaged file may raise anything, and the other files are still to come
        reading.add(path, "unreadable", f"cannot be read ({type(error).__name__}: {error}); replace or remove the file")
    return None


def _check_format(reading: Reading, path: Path) -> None:
    with Image.open(path) as image:
        # A PNG would be decoded whole to find it.
        turn = 1 if image.format == "PNG" else image.getexif().get(ORIENTATION, 1)
        if image.mode in ("RGBA", "LA", "PA", "CMYK") or "transparency" in image.info:
            found = "CMYK" if image.mode == "CMYK" else f"{image.mode} with transparency"
            text = f"{found}, is read as RGB, which may look otherwise; convert it"
            reading.add(path, "alpha or CMYK", text)
    if turn != 1:
        text = f"is turned or mirrored by its EXIF tag ({turn}); make sure that its mask is turned the same way"
        reading.add(path, "turned by EXIF", text)


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(
        np.ascontiguousarray(array).data, digest_size=16, person=str(array.shape).encode()[:16]
    ).digest()
