"""The record of a sweep: its jobs, what differs between them, and how much of the figures each factor explains."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from src.files import has_file, write_json
from src.runs.folder import RunFolder
from src.runs.records import Evaluation, Summary
from src.runs.serial import read_record
from src.runs.statistics import summarise
from src.runs.summary import minutes_of

PLAN, JOB = "sweep.json", "job.json"
REPEATS = ("seed", "data.fold")  # factors whose levels repeat the same experiment


@dataclass(frozen=True)
class Plan:
    """The factors of a sweep and the number of its jobs."""

    factors: list[str]  # keys that have several values on the command line
    jobs: int | None  # their number, if it is known before they run
    dropped: dict[str, str] = field(default_factory=dict)  # why a combination was left out, by its words


@dataclass(frozen=True)
class JobNote:
    """The command line of a job, its run folder, and its error; `job.json` in the folder of the job."""

    words: list[str]  # its own command line
    run: str | None = None  # path of the run folder
    error: str | None = None  # why it failed
    is_pruned: bool = False  # whether a search ended it early


@dataclass(frozen=True)
class Job:
    """A job of a sweep."""

    number: int
    note: JobNote
    evaluation: Evaluation | None  # that of the finished training
    has_begun: bool = True  # since the last start of the sweep

    @property
    def state(self) -> str:
        """`done`, `pruned`, `failed` or `not finished`."""
        if self.evaluation:
            return "done"
        return "pruned" if self.note.is_pruned else "failed" if self.note.error else "not finished"

    @property
    def is_running(self) -> bool:
        """Whether it began since the last start of the sweep, and has not ended."""
        return self.state == "not finished" and self.has_begun

    @property
    def minutes(self) -> float | None:
        """Minutes that its training took; None if it was killed in between, or is not finished."""
        if self.evaluation is None or self.note.run is None:
            return None
        return minutes_of(RunFolder(Path(self.note.run)).read_environment().get("sessions", []))

    @cached_property
    def values(self) -> dict[str, str]:
        """The value of each key on its command line."""
        pairs = (word.lstrip("+~").partition("=") for word in self.note.words)
        return {key: value for key, _, value in pairs}


@dataclass(frozen=True)
class Group:
    """The finished jobs that differ only in seed and fold."""

    values: dict[str, str]  # by factor, without those
    summary: Summary
    evaluations: list[Evaluation]


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder has it now."""

    plan: Plan
    jobs: list[Job] = field(default_factory=list)

    @property
    def done(self) -> list[Job]:
        """The finished jobs; those that have one run count once."""
        first = {job.note.run: job for job in reversed(self.jobs) if job.evaluation}
        return [job for job in self.jobs if job.evaluation and first[job.note.run] is job]

    @property
    def best(self) -> Job | None:
        """The finished job of the highest mIoU."""
        return max(self.done, key=_miou, default=None)

    @property
    def running(self) -> list[Job]:
        """The jobs that are trained now, if the sweep is."""
        return [job for job in self.jobs if job.is_running]

    @property
    def queued(self) -> int | None:
        """The number of jobs that are still to begin; None if that of all jobs is not known."""
        if self.plan.jobs is None:
            return None
        return self.plan.jobs - sum(job.has_begun or job.state == "done" for job in self.jobs)

    @property
    def minutes_left(self) -> float | None:
        """Estimates the minutes until the end from the mean of the finished jobs; a running one is half done."""
        minutes = [job.minutes for job in self.done if job.minutes is not None]
        if not minutes or self.queued is None:
            return None
        return math.fsum(minutes) / len(minutes) * (self.queued + len(self.running) / 2) / max(1, len(self.running))

    def groups(self) -> list[Group]:
        """Returns the means over seeds and folds; empty if neither differs, or nothing else does."""
        others = [name for name in self.plan.factors if name not in REPEATS]
        if not others or len(others) == len(self.plan.factors):
            return []
        found: dict[tuple[str, ...], list[Job]] = {}
        for job in self.done:
            found.setdefault(tuple(job.values.get(name, "") for name in others), []).append(job)
        return [
            Group(dict(zip(others, key, strict=True)), summarise([_miou(job) for job in jobs]), _evaluations(jobs))
            for key, jobs in found.items()
        ]

    def effects(self) -> dict[str, float]:
        """Returns the share of the variance of mIoU that each factor explains by itself, 0 to 1 (eta squared).

        They do not add up to 1: the rest is interactions and chance. Empty unless each combination of two factors or
        more is finished once, since shares would overlap otherwise.
        """
        factors, jobs = self.plan.factors, self.done
        levels = {name: {job.values.get(name, "") for job in jobs} for name in factors}
        combinations = {tuple(job.values.get(name, "") for name in factors) for job in jobs}
        is_full = len(combinations) == len(jobs) == math.prod(map(len, levels.values()))
        if not is_full or len(factors) < 2 or len(jobs) < 4:
            return {}
        mean = math.fsum(map(_miou, jobs)) / len(jobs)
        total = math.fsum((_miou(job) - mean) ** 2 for job in jobs)
        if total == 0:
            return {}
        return {name: _between(jobs, name, mean) / total for name in factors if len(levels[name]) > 1}


def _between(jobs: Iterable[Job], factor: str, mean: float) -> float:
    """Returns the sum of squares between the levels of a factor."""
    key = lambda job: job.values.get(factor, "")  # noqa: E731
    parts = [list(map(_miou, part)) for _, part in itertools.groupby(sorted(jobs, key=key), key)]
    return math.fsum(len(part) * (math.fsum(part) / len(part) - mean) ** 2 for part in parts)


def _miou(job: Job) -> float:
    assert job.evaluation is not None
    return job.evaluation.miou


def _evaluations(jobs: Sequence[Job]) -> list[Evaluation]:
    return [job.evaluation for job in jobs if job.evaluation]


def write_plan(folder: Path, plan: Plan) -> None:
    """Writes the plan of a sweep into its folder."""
    write_json(folder / PLAN, plan)


def note_job(folder: Path, **changes: object) -> None:
    """Changes what is noted of a job in its folder: `words`, `run`, `error`, `is_pruned`."""
    path = folder / JOB
    before: Mapping[str, object] = vars(read_record(path, JobNote)) if has_file(path) else {"words": []}
    write_json(path, JobNote(**{**before, **changes}))  # pyright: ignore[reportArgumentType]


def read_sweep(folder: Path) -> Sweep:
    """Reads a sweep and the results of its runs.

    Raises:
        UserError: a record is damaged.
    """
    plan = read_record(folder / PLAN, Plan) if has_file(folder / PLAN) else Plan([], None)
    began = _written(folder / PLAN)
    paths = sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    jobs = []
    for path in paths:
        note = read_record(path / JOB, JobNote) if has_file(path / JOB) else JobNote([])
        results = RunFolder(Path(note.run)).read_results() if note.run else None
        evaluation = results.own if results and results.finished else None
        jobs.append(Job(int(path.name), note, evaluation, has_begun=0 < _written(path / JOB) >= began))
    return Sweep(plan, jobs)


def _written(path: Path) -> int:
    """Returns when a file was written last, in ns; 0 if there is none."""
    return path.stat().st_mtime_ns if has_file(path) else 0
