"""How many pixels each class has in each labelled image, counted once and kept; class weights from these counts."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import Progress

from src.data.source import IGNORE_INDEX, FileSource, Sample, Source
from src.errors import UserError
from src.files import atomic_path
from src.machine import CACHE_VARIABLE, is_first_process, num_cores

log = logging.getLogger(__name__)
FORMAT = 1
LARGEST = 5.0  # weight that inverse_sqrt gives the rarest class (R3)
BETA = 0.999  # of effective_number


@dataclass(frozen=True)
class Statistics:
    """Pixels by image and class: `counts` int64 `(N, K)`, and those labelled 255: `ignored` int64 `(N,)`."""

    counts: np.ndarray
    ignored: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """Of each class: int64 `(K,)`."""
        return self.counts.sum(axis=0)

    @property
    def shares(self) -> np.ndarray:
        """Of each class among the labelled pixels: float `(K,)`, sum 1."""
        return self.pixels / self.pixels.sum()

    @property
    def ignored_share(self) -> float:
        """Of the pixels labelled 255 among all."""
        return float(self.ignored.sum() / (self.ignored.sum() + self.counts.sum()))

    @property
    def presence(self) -> np.ndarray:
        """Whether an image has any pixel of a class: bool `(N, K)`."""
        return self.counts > 0


def inverse_sqrt(statistics: Statistics) -> np.ndarray:
    """R3's 5 sqrt(min n / n), n being pixels."""
    pixels = statistics.pixels
    return LARGEST * np.sqrt(pixels.min() / pixels)


def enet(statistics: Statistics) -> np.ndarray:
    """1 / ln(1.02 + p), p being the share of the labelled pixels (Paszke et al. 2016): 1.4 to 50."""
    return 1 / np.log(1.02 + statistics.shares)


def median_frequency(statistics: Statistics) -> np.ndarray:
    """Median of f over f (Eigen and Fergus 2015): f is a class's pixels over all pixels of the images that have it."""
    sizes = statistics.counts.sum(axis=1) + statistics.ignored
    frequency = statistics.pixels / (sizes @ statistics.presence)
    return np.median(frequency) / frequency


def effective_number(statistics: Statistics, beta: float = BETA) -> np.ndarray:
    """(1 - beta) / (1 - beta^n), sum K (Cui et al. 2019). n is the number of images that have the class.

    Not of its pixels: neighbouring ones are the overlap that the paper wants left out, and beyond some thousands
    any usual beta would give all classes one weight.
    """
    weights = (1 - beta) / (1 - beta ** statistics.presence.sum(axis=0))
    return weights * (len(weights) / weights.sum())


WEIGHTINGS: dict[str, Callable[[Statistics], np.ndarray]] = {
    function.__name__: function for function in (inverse_sqrt, enet, median_frequency, effective_number)
}


def class_weights(name: str, statistics: Statistics) -> list[float]:
    """K weights of six digits. A class that no pixel has gets 0, and is not one of the K of the formula.

    Raises:
        UserError: an unknown name.
    """
    if name not in WEIGHTINGS:
        raise UserError(
            f"class_weights={name}: must be one of {', '.join(WEIGHTINGS)}, a list of one weight a class, or null"
        )
    there = statistics.pixels > 0
    weights = np.zeros(len(there))
    weights[there] = WEIGHTINGS[name](Statistics(statistics.counts[:, there], statistics.ignored))
    return [float(f"{weight:.6g}") for weight in weights]


def training_statistics(source: Source, samples: Sequence[Sample]) -> Statistics:
    """Of samples of train and the extra splits, such as the part of train that a fold leaves.

    Whole splits are counted and kept, so that folds share them.

    Raises:
        UserError: no pixel is labelled, or a mask that cannot be read.
    """
    rows: dict[Sample, int] = {}
    parts = []
    for split in ("train", *source.extra_splits):
        whole = source.samples(split)
        rows |= {sample: len(rows) + place for place, sample in enumerate(whole)}
        parts.append(split_statistics(source, split))
    chosen = [rows[sample] for sample in samples]
    counts, ignored = (np.concatenate([getattr(part, key) for part in parts]) for key in ("counts", "ignored"))
    if not counts[chosen].any():
        raise UserError(f"no pixel of the {len(samples)} training images is labelled; look at their masks")
    return Statistics(counts[chosen], ignored[chosen])


def split_statistics(source: Source, split: str) -> Statistics:
    """Of all samples of a split, in their order; from the cache as long as no mask has changed.

    Raises:
        UserError: a mask that cannot be read, or with labels that are not in the table.
    """
    samples = source.samples(split)
    name = f"statistics-{source.labels}-{_fingerprint(source, samples)}.npy"
    counts = _load(name)
    if counts is None:
        counts = _count(source, samples, f"count {split}")
        _keep(name, counts)
    return Statistics(counts[:, :-1], counts[:, -1])


def cache_folder() -> Path:
    """Where statistics are kept for all runs of a user."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streetseg"


def _load(name: str) -> np.ndarray | None:
    """Counts `(N, K + 1)` that were kept; None where there are none, or none that can be read: a cache may be lost."""
    try:
        return np.load(cache_folder() / name)
    except (OSError, ValueError, EOFError, RuntimeError):
        return None


def _keep(name: str, counts: np.ndarray) -> None:
    try:
        with atomic_path(cache_folder() / name) as temporary:
            np.save(temporary, counts)
    except (OSError, RuntimeError) as error:  # of Path.home: this user has none
        log.warning(
            "class statistics cannot be kept (%s) and will be counted anew; set %s=DIR, a folder to write to",
            error, CACHE_VARIABLE,
        )  # fmt: skip


def _count(source: Source, samples: Sequence[Sample], title: str) -> np.ndarray:
    """Pixels int64 `(N, K + 1)` of each class and of 255. Threads: decoders let go of Python's lock."""
    counts = np.zeros((len(samples), source.num_classes + 1), dtype=np.int64)

    def count(row: int) -> None:
        found = np.bincount(_read_ids(source, samples[row]).ravel(), minlength=IGNORE_INDEX + 1)
        assert found[source.num_classes : IGNORE_INDEX].sum() == 0, samples[row]
        counts[row] = [*found[: source.num_classes], found[IGNORE_INDEX]]

    pool = ThreadPoolExecutor(num_cores())
    try:
        futures = [pool.submit(count, row) for row in range(len(samples))]
        with Progress(disable=not is_first_process()) as bar:
            for future in bar.track(as_completed(futures), total=len(futures), description=title):
                future.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return counts


def _read_ids(source: Source, sample: Sample) -> np.ndarray:
    """A mask, without its image where there are files."""
    if not isinstance(source, FileSource):
        return source.read(sample)[1]
    packed = source.pack.open(sample) if source.pack else None
    return packed.mask(0, 0, *packed.size) if packed else source.read_labels(sample)


def _fingerprint(source: Source, samples: Sequence[Sample]) -> str:
    """Stands for all masks of a split without reading them, and for how they are read; not for their place."""
    masks = [[sample.name, *_stamp(sample)] for sample in samples]
    content = [FORMAT, source.labels, list(source.classes.items()), _settings(source), masks]
    if isinstance(source, FileSource):
        content += [sorted(source.table.items()), sorted(source.colours.items())]
    else:
        content += [cv2.__version__, _drawing_code(source)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _stamp(sample: Sample) -> list[int]:
    """Bytes of the mask's file and its time of change (ns)."""
    if sample.mask is None:
        return []
    status = sample.mask.stat()
    return [status.st_size, status.st_mtime_ns]


def _settings(source: Source) -> list[Any]:
    """A source's own arguments that are no places, and those of the sources that it is made of."""
    plain = {key: value for key, value in vars(source).items() if isinstance(value, str | int | float | tuple)}
    return [type(source).__name__, plain, [_settings(part) for part in getattr(source, "datasets", {}).values()]]


def _drawing_code(source: Source) -> str:
    """Hashes the code that draws a source without files: its module and those beside it."""
    files = sorted(Path(sys.modules[type(source).__module__].__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
