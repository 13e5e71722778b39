"""The study of a search by optuna, in a file of the sweep's folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import UserError

if TYPE_CHECKING:
    from optuna import Study

JOURNAL = "optuna.log"
PRUNED = "pruned"  # attribute of a trial that was ended early


class PrunedError(UserError):
    """A training was ended early because its figures are below those of the other trials."""


@dataclass(frozen=True)
class Place:
    """The place of a trial, as one process hands it to another: the folder, its number, trials that are not pruned."""

    folder: Path
    number: int
    startup_trials: int | None  # None: none is pruned

    def __str__(self) -> str:
        return "\n".join([str(self.folder), str(self.number), str(self.startup_trials)])

    @classmethod
    def of(cls, text: str) -> "Place":
        folder, number, startup = text.split("\n")
        return cls(Path(folder), int(number), None if startup == "None" else int(startup))


def open_study(folder: Path, startup_trials: int | None) -> "Study":
    """Opens the study in a folder, or begins one that maximises.

    Its journal is a file to which each process adds: a killed one loses nothing, and several may work at a time.

    Args:
        startup_trials: number before the first that is pruned, by the median of those before it; None: none is.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.NopPruner()
    if startup_trials is not None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=startup_trials)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name="val/miou",
        direction="maximize",
        load_if_exists=True,
        pruner=pruner,
    )


@contextmanager
def claimed(folder: Path, number: int) -> Iterator[bool]:
    """Yields whether this process has a trial, which it has until the block ends; a dead process has none."""
    descriptor = os.open(folder / f"trial{number}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
