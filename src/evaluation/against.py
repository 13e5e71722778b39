"""Compares two runs on the same images, by a paired test. Without torch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from src.errors import UserError, shortened
from src.files import write_json
from src.metrics.intervals import Paired, paired
from src.runs.folder import RunFolder
from src.runs.per_image import EVALUATIONS, TABLE, PerImage, find_images
from src.runs.records import Evaluation


@dataclass(frozen=True)
class AgainstRecord:
    """Content of `evaluations/<key>/against_<run>_<digest of its path>.json`."""

    run: str  # path of the run that this one is compared with
    key: str  # of its evaluation
    checkpoint: str  # of its evaluation
    images: int
    result: Paired  # of the mIoU, this run minus the other

    def __str__(self) -> str:
        found = self.result
        return (
            f"mIoU {100 * found.difference:+.2f} points against {self.run} ({self.checkpoint}) on the same "
            f"{self.images} images: 95 % interval {100 * found.low:+.2f} to {100 * found.high:+.2f}, "
            f"p = {found.p:.4f} (permutation test)"
        )


def comparable(run: RunFolder, split: str) -> list[Evaluation]:
    """Returns the evaluations of another run on a split that have scores by image.

    Raises:
        UserError: there is none; says how to get one.
    """
    found = [
        each
        for each in run.read_results().evaluations.values()
        if [part.name for part in each.protocol.splits] == [split]
        and (run.path / EVALUATIONS / each.key / TABLE).is_file()
    ]
    if not found:
        raise UserError(
            f"against={run.path}: has no evaluation on {split} with scores by image; make it first: python -m src.eval "
            f"run={run.path} split={split}"
        )
    return found


def compare(
    run: RunFolder, evaluation: Evaluation, other: RunFolder, candidates: Iterable[Evaluation]
) -> AgainstRecord:
    """Compares an evaluation with that of another run by the same protocol, and writes the record beside its images.

    Raises:
        UserError: no evaluation of the other run is by this protocol on these images.
    """
    own, name, known = evaluation.protocol, evaluation.checkpoint.name, list(candidates)
    itself = evaluation.key if other.path.resolve() == run.path.resolve() else None
    same = [each for each in known if _comparable(each) == _comparable(evaluation) and each.key != itself]
    if not same:
        tags = shortened([each.tag for each in known])
        raise UserError(
            f"against={other.path}: none of its evaluations is by the protocol of this one ({own.labels} {own.split}, "
            f"{own.inference}, data {own.data}); it has {tags}"
        )
    # That of the same checkpoint if there is one, and among those that of the same precision.
    chosen = min(same, key=lambda each: (each.checkpoint.name != name, each.protocol.precision != own.precision))
    first, second = find_images(run.path, evaluation.key), find_images(other.path, chosen.key)
    result = paired(*_aligned(first, second, other.path))
    record = AgainstRecord(str(other.path), chosen.key, chosen.checkpoint.name, len(first.rows), result)
    write_json(run.path / EVALUATIONS / evaluation.key / record_name(other.path), record)
    return record


def record_name(other: Path) -> str:
    """Returns the name of the record of a comparison; runs of one name in other folders have names of their own."""
    return f"against_{other.name}_{sha256(str(other.resolve()).encode()).hexdigest()[:6]}.json"


def _comparable(evaluation: Evaluation) -> object:
    """Returns the parts of a protocol that two evaluations to compare share."""
    return replace(evaluation.protocol, precision="", file="", taints=(), is_other_data=False)


def _aligned(first: PerImage, second: PerImage, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrices of two evaluations, in the order of the images of the first."""
    places = {row.image: place for place, row in enumerate(second.rows)}
    if missing := [row.image for row in first.rows if row.image not in places]:
        raise UserError(f"against={path}: its evaluation lacks images of this one ({shortened(missing)}); repeat it")
    return first.matrices, second.matrices[[places[row.image] for row in first.rows]]
