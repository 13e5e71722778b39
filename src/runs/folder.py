"""The run folder: every file that one training leaves, and the only thing that reports read."""

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import yaml

from src.errors import UserError
from src.files import LOCK, MARKER, damaged, has_file, lock, read_json, sweep, write_json
from src.runs.records import Evaluation, Results
from src.runs.seal import check_sound, fault, keep_before
from src.runs.serial import read_record
from src.runs.sessions import describe_session, differences, time_now

log = logging.getLogger(__name__)

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # builds plain data only; in C in a fifth of the time
# Names of the records; FOLDS is that of a cross-validation, LEAKAGE that of the images that weights have seen.
RESULTS, ENVIRONMENT, IDENTITY, LEAKAGE = "results.json", "environment.json", "identity.json", "exposure.json"
WEIGHTS = "weights.safetensors"
FOLDS, AVERAGE, STAGES = "crossval.json", "aggregate.json", "stages.json"


class _File:
    """The path of a file in a run folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunFolder", owner: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The files of `runs/<name>/`, and its records `environment.json` (how it was made) and `results.json`."""

    path: Path

    config = _File("config.yaml")  # the resolved configuration
    identity = _File(IDENTITY)  # the part of the configuration that a resumed run must match
    last = _File("checkpoints/last.ckpt")  # a resumed run continues from it
    before = _File("checkpoints/before.ckpt")  # the last but one, if the last is damaged
    best = _File("checkpoints/best.ckpt")
    weights = _File(WEIGHTS)  # those of a published run, in place of checkpoints
    metrics = _File("metrics.csv")  # logged figures by step
    results = _File(RESULTS)  # all evaluations
    environment = _File(ENVIRONMENT)  # the sessions of the run: commands, commits, versions, machines
    cost = _File("cost.json")  # parameters and operations of the network
    log = _File("train.log")  # everything that the training logged

    @classmethod
    def of(cls, weights: Path) -> "RunFolder":
        """Returns the folder that the file of weights is in, if it is the file of a run."""
        return cls(weights.parent if weights.name == WEIGHTS else weights.parent.parent)

    @property
    def is_published(self) -> bool:
        """Whether the run was published (`src.publish`): it has weights to use, and no checkpoints to continue from."""
        return self.weights.is_file() and has_file(self.config) and not self._checkpoints("checkpoints/*.ckpt")

    @property
    def has_weights(self) -> bool:
        """Whether there is a checkpoint, or was one to evaluate."""
        return bool(self._checkpoints("**/*.ckpt")) or self.read_results().finished

    @property
    def palette(self) -> dict[str, list[int]]:
        """RGB colour of each class, in the order of the ids, from the configuration."""
        try:
            classes = self.read_config()["data"]["classes"]
        except (KeyError, TypeError) as error:
            raise damaged(self.config, error) from error
        if not isinstance(classes, dict):
            raise damaged(self.config, "its classes are no colours by name")
        return classes

    def read_config(self) -> dict[str, Any]:
        """Reads the configuration as plain values, not to be changed: the same file is read once.

        Raises:
            UserError: it is damaged or missing.
        """
        try:
            stat = self.config.stat()
            content = _read_yaml(self.config, stat.st_mtime_ns, stat.st_size)
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise damaged(self.config, error) from error
        if not isinstance(content, dict):
            raise damaged(self.config, "it has no keys")
        return content

    def clear(self) -> None:
        """Removes the files of a run without weights, for one of another configuration; the log and sessions stay.

        The configuration goes first: a folder without one is not a run yet, so that a kill in between does no harm.
        """
        assert (self.path / MARKER).is_file(), "only folders that this program made are cleared"
        for path in (self.config, self.identity, self.metrics):
            path.unlink(missing_ok=True)
        for name in ("folds", "panels", "evaluations"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        if environment := self.read_environment():
            # By the same id W&B would add to the earlier run.
            write_json(self.environment, {**environment, "id": uuid.uuid4().hex[:8]})

    def checkpoint(self, which: str) -> Path:
        """Returns the path of `best`, `last` or a file; the best ones of a published run are its only ones.

        Raises:
            UserError: there is no such checkpoint; lists those of the run.
        """
        is_name = which in ("best", "last", "before")
        path = self._file(which) if is_name else Path(which)
        if which == "best" and self.is_published:
            return self.weights
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in self._checkpoints("checkpoints/*.ckpt")))
            names = names or ("best" if self.is_published else "none yet")
            raise UserError(f"checkpoint={which}: no file {path}; this run has {names}")
        return path

    def mend(self) -> None:
        """Prepares the folder, which this process has locked, for a training that continues.

        Removes the temporary files of processes that were killed. Puts `before.ckpt` in the place of a last checkpoint
        that is damaged, and logs this.

        Raises:
            UserError: no sound checkpoint to continue from, or a damaged best one.
        """
        for name in (".", "checkpoints", "folds", "panels"):
            sweep(self.path / name)
        beside = "or train anew beside this run with resume=false"
        for path in (self.best, self.results, self.metrics):
            has_file(path)  # raises for something else in its place, which would cost the training its result
        found = fault(self.last) if has_file(self.last) else "it is missing"
        if has_file(self.before) and found:
            check_sound(self.before, f"and so is {self.last.name}: put back a copy of one, {beside}")
            log.warning("%s: %s; the run continues from the checkpoint before it, %s", self.last, found, self.before)
            keep_before(self.before, self.last)
            if not self.before.is_file():
                shutil.copyfile(self.last, self.before)
        elif self.last.is_file():
            check_sound(self.last, f"there is none before it: put back a copy of it, {beside}")
        if self.last.is_file() and self.best.is_file():
            check_sound(self.best, f"the result of the run would be lost: put back a copy of it, {beside}")

    def _file(self, which: str) -> Path:
        return self.path / "checkpoints" / f"{which}.ckpt"

    def _checkpoints(self, pattern: str) -> list[Path]:
        """Lists checkpoints, but for those that are being written or were cut off: their names begin with a dot."""
        return [path for path in self.path.glob(pattern) if not path.name.startswith(".")]

    def read_results(self) -> Results:
        """Reads `results.json`; without evaluations before the first."""
        if not has_file(self.results):
            return Results(False, {})
        results = read_record(self.results, Results)
        if results.finished and not results.evaluations:
            raise damaged(self.results, "finished, and without a figure")
        return results

    def add_evaluation(self, evaluation: Evaluation, *, finished: bool) -> None:
        """Adds an evaluation under its tag, in place of an earlier one of the same protocol, data and checkpoint.

        The evaluation that finishes the training stands first, whenever it is made: tables and sweeps report it, and no
        later one takes its place: one of the same tag only adds its details. A training and evaluations of its run may
        write at the same time.
        """
        with _alone(self.path):
            results = self.read_results()
            earlier = results.evaluations.get(evaluation.tag)
            if earlier and earlier.details and evaluation.details and earlier.matrix == evaluation.matrix:
                evaluation = replace(evaluation, details=evaluation.details.keep(earlier.details))
            if results.finished and not finished and earlier and evaluation.tag == results.own.tag:
                if evaluation.details is None:
                    return
                evaluation = replace(results.own, details=evaluation.details)
            if finished:
                evaluation = replace(evaluation, protocol=replace(evaluation.protocol, is_other_data=False))
            own = {evaluation.tag: evaluation}
            evaluations = (own if finished else {}) | results.evaluations | own
            write_json(self.results, replace(results, finished=results.finished or finished, evaluations=evaluations))

    def note_session(self, module: str = "src.train", words: Sequence[str] | None = None) -> None:
        """Adds this start of a command to `environment.json`: command line, code, versions, machine.

        `words` are those of a job of a sweep, which are not those of the process.

        Logs a note if other code or versions than those of the last session continue the work, and records this.
        """
        record = self.read_environment() or {"id": uuid.uuid4().hex[:8], "sessions": []}
        session = describe_session(module, words, continues=self.last.is_file())
        has_work = self.last.is_file() or module != "src.train"  # a folder without weights is begun anew
        if record["sessions"] and has_work and (found := differences(record["sessions"][-1], session)):
            session["differs"] = found
            log.warning(
                "note: the last session of %s had other code or versions (%s), and what is trained now differs from "
                "what was trained before; resume=false begins anew beside it",
                self.path, "; ".join(found),
            )  # fmt: skip
        record["sessions"].append(session)
        write_json(self.environment, record)

    def note_end(self) -> None:
        """Adds the time to the last session in `environment.json`; a session that was killed has none."""
        record = self.read_environment()
        record["sessions"][-1]["ended"] = time_now()
        write_json(self.environment, record)

    def read_environment(self) -> dict[str, Any]:
        """Reads `environment.json`; empty before the first session."""
        if not has_file(self.environment):
            return {}
        content = read_json(self.environment)
        sessions = content.get("sessions") if isinstance(content, dict) else None
        is_whole = isinstance(sessions, list) and all(isinstance(session, dict) for session in sessions)
        if not is_whole or not isinstance(content.get("id"), str):
            raise damaged(self.environment, "no sessions in it")
        return content

    def lock(self) -> IO:
        """Locks the folder for this process, until the returned file is closed or the process dies.

        Raises:
            UserError: another process has the lock.
        """
        return lock(
            self.path / LOCK,
            f"{self.path}: another process is training in this run folder; wait for it, or set resume=false to start a "
            "run beside it",
        )


@cache
def _read_yaml(path: Path, mtime: int, size: int) -> Any:
    loader = SafeLoader(path.read_bytes())
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is within such a block for this folder, as far as its file system has locks."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
