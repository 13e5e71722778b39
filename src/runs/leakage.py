"""Leakage of runs (see `src.runs.records`), which `exposure.json` hands on to the runs that start from them.

A figure on images that its weights were trained or chosen on flatters; it is logged, and marked wherever it stands.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from src.data.source import Sample, Source
from src.errors import UserError
from src.files import has_file, write_json
from src.runs.folder import LEAKAGE, RunFolder
from src.runs.records import Leakage, LeakageRecord
from src.runs.serial import read_record

log = logging.getLogger(__name__)


def image_ids(source: Source, samples: Iterable[Sample]) -> list[str]:
    """Returns the `Source.image_id` of each sample."""
    return [source.image_id(sample) for sample in samples]


def write_leakage(folder: Path, trained: Iterable[str], before: Leakage) -> None:
    """Writes the images that a run trains on, and the leakage of the weights it starts from."""
    write_json(folder / LEAKAGE, LeakageRecord(tuple(trained), before))


def note_leakage(folder: Path, trained: Iterable[str], *starts: Path) -> None:
    """Writes the leakage of a run that starts from some files of weights, or learns from networks with them.

    Logs a note if the leakage of a file is unknown, for example because it is in no run folder.
    """
    before = Leakage()
    for start in starts:
        before |= leakage_after(RunFolder.of(start).path)
        if not (RunFolder.of(start).path / LEAKAGE).is_file():
            log.info("note: %s does not say what it was trained on; figures on such images have no mark", start)
    write_leakage(folder, trained, before)


def leakage_before(folder: Path) -> Leakage:
    """Leakage of the weights that a run starts from, by which its figures are tainted.

    Raises:
        UserError: the record of the run is damaged or missing.
    """
    if not has_file(path := folder / LEAKAGE):
        raise UserError(
            f"{path}: is missing, so that nothing says which images the weights have seen; put back a copy of it, or "
            "train anew beside this run with resume=false"
        )
    return _read(folder).before


def leakage_after(folder: Path) -> Leakage:
    """Leakage of the weights that a run leaves, for runs that start from them; empty if not recorded."""
    record = _read(folder)
    return record.before | Leakage(trained=frozenset(record.trained))


def leakage_of(run: RunFolder, weights: Path) -> Leakage:
    """Leakage by which figures of a run are tainted: `leakage_before`; of another run's weights, `leakage_after` that.

    Logs a note if weights from outside of the run do not say what they were trained on.

    Raises:
        UserError: the record is damaged or missing.
    """
    other = RunFolder.of(weights)
    if other.path.resolve() == run.path.resolve():
        return leakage_before(run.path)
    if has_file(other.path / LEAKAGE):
        return leakage_after(other.path)
    log.info("note: %s does not say what it was trained on, and is taken for weights of %s", weights, run.path)
    return leakage_before(run.path)


def _read(folder: Path) -> LeakageRecord:
    path = folder / LEAKAGE
    return read_record(path, LeakageRecord) if has_file(path) else LeakageRecord((), Leakage())
