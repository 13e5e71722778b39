"""Counts the pixels of each class in each labelled image, once; computes class weights from these counts."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from src.data.source import FileSource, Sample, Source
from src.data.threads import in_threads
from src.errors import UserError
from src.files import atomic_path
from src.labels import IGNORE_INDEX
from src.machine import CACHE_VARIABLE, num_cores

log = logging.getLogger(__name__)
CACHE_FORMAT = 3
LARGEST = 5.0  # weight that inverse_sqrt gives the rarest class (R3)
NUM_COUNTED = 1000  # images whose masks are counted only for a note, in a few seconds
BETA = 0.999  # beta of effective_number


@dataclass(frozen=True)
class Statistics:
    """Pixels per image: `counts` int64 `(N, K)` of each class, `ignored` int64 `(N,)` of those labelled 255."""

    counts: np.ndarray
    ignored: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """Pixels of each class: int64 `(K,)`."""
        return self.counts.sum(axis=0)

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the labelled pixels: float `(K,)`, sum 1."""
        return self.pixels / self.pixels.sum()

    @property
    def presence(self) -> np.ndarray:
        """Whether an image has any pixel of a class: bool `(N, K)`."""
        return self.counts > 0


def inverse_sqrt(statistics: Statistics) -> np.ndarray:
    """Weights 5 sqrt(min n / n) of report R3; n is a class's pixels."""
    pixels = statistics.pixels
    return LARGEST * np.sqrt(pixels.min() / pixels)


def enet(statistics: Statistics) -> np.ndarray:
    """Weights 1 / ln(1.02 + p), 1.4 to 50 (Paszke et al. 2016); p is a class's share of the labelled pixels."""
    return 1 / np.log(1.02 + statistics.shares)


def median_frequency(statistics: Statistics) -> np.ndarray:
    """Weights median(f) / f (Eigen and Fergus 2015); f is a class's pixels over those of all images that have it."""
    sizes = statistics.counts.sum(axis=1) + statistics.ignored
    frequency = statistics.pixels / (sizes @ statistics.presence)
    return np.median(frequency) / frequency


def effective_number(statistics: Statistics, beta: float = BETA) -> np.ndarray:
    """Weights (1 - beta) / (1 - beta^n) with sum K (Cui et al. 2019); n is the number of images that have the class.

    The number of pixels would not do: neighbouring ones are the overlap that the paper leaves out, and beyond some
    thousands any usual beta gives all classes one weight.
    """
    weights = (1 - beta) / (1 - beta ** statistics.presence.sum(axis=0))
    return weights * (len(weights) / weights.sum())


WEIGHTINGS: dict[str, Callable[[Statistics], np.ndarray]] = {
    function.__name__: function for function in (inverse_sqrt, enet, median_frequency, effective_number)
}


def class_weights(name: str, statistics: Statistics) -> list[float]:
    """Computes K weights of six digits. A class without pixels gets 0, and is not one of the K of the formula.

    Raises:
        UserError: an unknown name.
    """
    if name not in WEIGHTINGS:
        raise UserError(
            f"class_weights={name}: must be one of {', '.join(WEIGHTINGS)}, a list of one weight per class, or null"
        )
    present = statistics.pixels > 0
    weights = np.zeros(len(present))
    weights[present] = WEIGHTINGS[name](Statistics(statistics.counts[:, present], statistics.ignored))
    return [float(f"{weight:.6g}") for weight in weights]


def training_statistics(source: Source, samples: Sequence[Sample]) -> Statistics:
    """Statistics of samples of train and the extra splits, such as those of train that a fold does not hold out.

    Whole splits are counted, so that all folds share one count.

    Raises:
        UserError: no pixel is labelled, or an error of `split_statistics`.
    """
    rows: dict[Sample, int] = {}
    parts = []
    for split in ("train", *source.extra_splits):
        first = len(rows)
        rows |= {sample: row for row, sample in enumerate(source.samples(split), first)}
        parts.append(split_statistics(source, split))
    chosen = [rows[sample] for sample in samples]
    counts, ignored = (np.concatenate([getattr(part, key) for part in parts]) for key in ("counts", "ignored"))
    if not counts[chosen].any():
        raise UserError(f"no pixel of the {len(samples)} training images is labelled; look at their masks")
    return Statistics(counts[chosen], ignored[chosen])


def absent_classes(source: Source, samples: Sequence[Sample]) -> list[str]:
    """Names the classes without a pixel in the training samples; none if they are too many to count, or drawn."""
    splits = ("train", *source.extra_splits)
    is_known = all(split in _counted.get(source, {}) for split in splits)
    if not is_known and not (
        isinstance(source, FileSource) and sum(len(source.samples(split)) for split in splits) <= NUM_COUNTED
    ):
        return []
    pixels = training_statistics(source, samples).pixels
    return [name for name, count in zip(source.classes, pixels, strict=True) if not count]


def check_any_label(source: Source, samples: Sequence[Sample], split: str) -> None:
    """Raises UserError if no pixel of these samples is labelled; usually only the first mask is read.

    Raises:
        DataError: a mask that cannot be read, or with labels that are not in the table.
    """
    if not any((_read_ids(source, sample) != IGNORE_INDEX).any() for sample in samples):
        raise UserError(
            f"no pixel of the {len(samples)} images of split {split!r} is labelled; look at their masks, or choose "
            "other images"
        )


_counted: WeakKeyDictionary[Source, dict[str, Statistics]] = WeakKeyDictionary()


def split_statistics(source: Source, split: str) -> Statistics:
    """Statistics of all samples of a split, in their order.

    They are counted once per process and source. Those of files are kept on disk, and used as long as no mask changes;
    drawn scenes are counted by each process.

    Raises:
        DataError: a mask that cannot be read, or with labels that are not in the table.
    """
    known = _counted.setdefault(source, {})
    if split not in known:
        samples = source.samples(split)
        is_files = isinstance(source, FileSource)
        name = f"statistics-{source.labels}-{_cache_key(source, samples)}.npy" if is_files else None
        counts = _load(name) if name else None
        if counts is None:
            counts = _count(source, samples, f"count {split}")
            if name:
                _keep(name, counts)
        known[split] = Statistics(counts[:, :-1], counts[:, -1])
    return known[split]


def cache_folder() -> Path:
    """The folder that keeps statistics for all runs of a user."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streetseg"


def _load(name: str) -> np.ndarray | None:
    """Reads counts `(N, K + 1)` from the cache; None if it has none that can be read: a cache may be lost."""
    try:
        return np.load(cache_folder() / name)
    except (OSError, ValueError, EOFError, RuntimeError):
        return None


def _keep(name: str, counts: np.ndarray) -> None:
    try:
        with atomic_path(cache_folder() / name) as temporary:
            np.save(temporary, counts)
    except (OSError, RuntimeError) as error:  # RuntimeError: Path.home of a user without one
        log.warning(
            "class statistics cannot be kept (%s) and will be counted again; set %s=DIR, a folder to write to",
            error, CACHE_VARIABLE,
        )  # fmt: skip


def _count(source: Source, samples: Sequence[Sample], title: str) -> np.ndarray:
    """Counts pixels int64 `(N, K + 1)` of each class and of 255."""

    def count(sample: Sample) -> np.ndarray:
        found = np.bincount(_read_ids(source, sample).ravel(), minlength=IGNORE_INDEX + 1)
        assert found[source.num_classes : IGNORE_INDEX].sum() == 0, sample
        return np.append(found[: source.num_classes], found[IGNORE_INDEX])

    return np.stack(list(in_threads(count, samples, num_cores(), title)))


def _read_ids(source: Source, sample: Sample) -> np.ndarray:
    """Reads a mask; without its image if they are files."""
    if not isinstance(source, FileSource):
        return source.read(sample)[1]
    packed = source.pack.open(sample) if source.pack else None
    if packed:
        return source.grouped(packed.mask(0, 0, *packed.size))
    return source.read_ids(sample.files[1])


def _cache_key(source: FileSource, samples: Sequence[Sample]) -> str:
    """Hashes how masks are read, and their sizes and times of change, but not their contents or folder."""
    stats = [(sample.name, sample.files[1].stat()) for sample in samples]
    masks = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    content = [CACHE_FORMAT, source.labels, source.stored_tables(), _settings(source), masks]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _settings(source: Source) -> list[Any]:
    """A source's own arguments but for folders, and those of the sources that it is made of."""
    plain = {key: value for key, value in vars(source).items() if isinstance(value, str | int | float | tuple)}
    return [type(source).__name__, plain, [_settings(part) for part in getattr(source, "datasets", {}).values()]]
