"""Fingerprints of data: digests that follow the content of files, not their place, time, names of folders or packs.

A run, an evaluation, a fold and an average know their data by these.
"""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

from src.data.folds import HELD_OUT, Folds
from src.data.packed import form_tables
from src.data.source import Sample, Source
from src.errors import DataError

BLOCK = 4096  # bytes read at the beginning, in the middle and at the end of a file
PLAIN = (".bmp", ".tif", ".tiff")  # often not compressed: a change of pixels changes neither size nor checksums
THREADS = 16  # reading waits for disks and networks, not for cores

_known: WeakKeyDictionary[Source, dict[Sample, str]] = WeakKeyDictionary()


def fingerprint(source: Source, samples: Sequence[Sample]) -> str:
    """Hashes samples to 12 characters: classes in their order, label tables, and of each sample name, group, content.

    Contents are looked at once per process.

    Raises:
        DataError: a file that cannot be read.
    """
    known = _known.setdefault(source, {})
    unknown = [sample for sample in samples if sample not in known]
    if unknown:
        with ThreadPoolExecutor(THREADS) as pool:
            known.update(zip(unknown, pool.map(lambda sample: _content(source, sample), unknown), strict=True))
    tables = source.stored_tables() + form_tables(source.form)
    if source.grouping:
        tables += [source.grouping.new_labels]
    content = [tables, [[sample.name, sample.group, known[sample]] for sample in samples]]
    return hashlib.sha256(json.dumps(content, default=int).encode()).hexdigest()[:12]


def training_fingerprints(source: Source, folds: Folds) -> dict[str, str]:
    """Returns the fingerprints of the data that a training depends on, by split.

    All folds share that of `train`: it is of the whole split, with the extra splits.

    Raises:
        UserError: no such split, or an error of `fingerprint`.
    """
    train = [sample for split in ("train", *source.extra_splits) for sample in source.samples(split)]
    found = {"train": fingerprint(source, train)}
    if (validation := folds.validation_split) != HELD_OUT:
        found[validation] = fingerprint(source, folds.samples(source, validation))
    return found


def file_content(path: Path) -> str:
    """Hashes a file's size and its first, middle and last bytes; all bytes of a small file, a BMP or a TIFF.

    A changed mask shows in these: a PNG ends with checksums of all its pixels.

    Raises:
        DataError: no regular file (a pipe would never end), or it cannot be read.
    """
    try:
        mode, size = (found := path.stat()).st_mode, found.st_size
        if not stat.S_ISREG(mode):
            raise DataError(path, "unreadable", "is no regular file; replace or remove it")
        is_whole = size <= 3 * BLOCK or path.suffix.lower() in PLAIN
        digest = hashlib.blake2b(f"{size}:".encode(), digest_size=12)
        with path.open("rb", buffering=0) as file:
            for start in range(0, size, BLOCK) if is_whole else (0, size // 2, size - BLOCK):
                digest.update(os.pread(file.fileno(), BLOCK, start))
    except OSError as error:
        raise DataError(path, "unreadable", f"cannot be read ({error.strerror}); replace or remove the file") from error
    return digest.hexdigest()


def _content(source: Source, sample: Sample) -> str:
    """Identifies the content of a sample: its files, or the settings that it is drawn by."""
    files = [file_content(file) for file in (sample.image, sample.mask) if file is not None]
    return " ".join(files) if files else source.drawing(sample)
