"""The jobs of a sweep (`-m`): in processes of their own if they need several devices; the record of the sweep."""

import gc
import logging
import os
import shlex
import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from src.config.checks import has_several_devices
from src.config.messages import printable, user_message
from src.config.resolvers import register_resolvers
from src.errors import UserError
from src.files import LOCK, wait_for_lock
from src.machine import RUN_VARIABLE, SWEPT_VARIABLE, describe_end
from src.processes.children import PROMPT, last_error, run
from src.reports.sweep import draw_summary, progress, summary, write_summary
from src.reports.sweep_live import following
from src.runs.folder import RunFolder
from src.runs.study import PrunedError
from src.runs.sweep import Plan, note_job, read_sweep, write_plan

log = logging.getLogger(__name__)
OUTPUT = "output.log"  # in the folder of a job that a launcher runs elsewhere: all that it printed
_open: Path | None = None  # the folder of the sweep that this process runs
_locks: dict[Path, IO] = {}  # of the jobs that this process runs, by their folders


def note_run(run: RunFolder) -> None:
    """Notes which run folder this job uses in the folder of its sweep, if it is a job of one."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        note_job(Path(hydra.runtime.output_dir), run=str(run.path.absolute()))


def swept_words() -> list[str]:
    """Returns those words of this job that differ between the jobs of its sweep; none outside of a sweep."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return shlex.split(os.environ.get(SWEPT_VARIABLE, ""))
    factors = read_sweep(Path(hydra.sweep.dir)).plan.factors
    return [word for word in hydra.overrides.task if word.lstrip("+~").partition("=")[0] in factors]


def runs_elsewhere(launcher: DictConfig) -> bool:
    """Returns whether a launcher runs the jobs in other processes than the sweep's own."""
    return launcher["_target_"] != f"{BasicLauncher.__module__}.{BasicLauncher.__name__}"


def needs_own_process(cfg: DictConfig) -> bool:
    """Returns whether this is a job of a sweep that may use several devices, or that a launcher has begun elsewhere.

    The processes that Lightning starts repeat the command line, and would replay the whole sweep. A launcher's own
    process may not start data processes, nor handle signals.
    """
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and (runs_elsewhere(hydra.launcher) or has_several_devices(cfg))


def train_in_own_process(folder: RunFolder) -> None:
    """Trains this job of a sweep by a command of its own, which prints into a file if others run beside it.

    Raises:
        UserError: it failed; has its reason.
    """
    hydra = HydraConfig.get()
    command = ["src.train", *hydra.overrides.task]
    given = {RUN_VARIABLE: str(folder.path), SWEPT_VARIABLE: shlex.join(swept_words())}
    if not runs_elsewhere(hydra.launcher):
        status, why, place = run(command, given), None, ""
    else:
        output = Path(hydra.runtime.output_dir) / OUTPUT
        with output.open("a") as file:
            print(f"{PROMPT}{' '.join(command)}", file=file, flush=True)
            status = run(command, given, stdout=file, stderr=subprocess.STDOUT)
        why, place = last_error(output), f"; log: {output}"
    if status != 0:
        raise UserError(f"{why or f'python -m {shlex.join(command)}: {describe_end(status)}'}{place}")


def check_sweep_words() -> None:
    """Raises UserError if a word for a sweep was given without -m, under which alone Hydra reads it.

    Of a recipe of conf/sweep, this is so if the job has no value for one of its keys: it would train with the defaults.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        for word in hydra.overrides.hydra:
            if word.lstrip("+~").startswith(("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper")):
                raise UserError(f"{word}: is for the jobs of a sweep, for which -m is needed; or leave it out")
    given = {word.lstrip("+~").partition("=")[0] for word in hydra.overrides.task}
    params = hydra.sweeper.get("params") or {}
    if all(key.lstrip("+~") in given for key in params):
        return
    word = next((word for word in hydra.overrides.task if word.startswith("sweep=")), "hydra.sweeper.params")
    if hydra.mode == RunMode.MULTIRUN:
        raise UserError(f"{word}: recipes are no values to sweep over; 'sweep=[A,B]' combines two")
    raise UserError(
        f"{word}: trains once for each value of {', '.join(params)}, for which -m is needed: -m {shlex.quote(word)}; "
        "or give one value of each"
    )


def plan_sweep(plan: Plan) -> None:
    """Writes the plan of the sweep that this process runs into its folder, if the command records its sweeps."""
    if _open is not None:
        write_plan(_open, plan)


class SweepSummary(Callback):
    """Notes the jobs of a sweep in its folder, writes `summary.md` and `.csv` there after each."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Prepares a process of a launcher, to which Hydra sends its callbacks first."""
        register_resolvers()
        self.__dict__.update(state)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        global _open
        _open = Path(config.hydra.sweep.dir)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            folder, words = Path(config.hydra.runtime.output_dir), list(config.hydra.overrides.task)
            # Jobs of launchers outlive a killed sweep: the same command, given again, must not fail because they train.
            _locks[folder] = wait_for_lock(
                folder / LOCK, f"{folder}: a job of an earlier start of this sweep still runs; waits for its end"
            )
            note_job(folder, words=words, run=None, error=None, is_pruned=False)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        folder = Path(config.hydra.runtime.output_dir)
        if job_return.status == JobStatus.FAILED:
            error = job_return._return_value  # its property would raise it
            text = user_message(error, config.hydra.job.config_name) or f"{type(error).__name__}: {error}"
            is_pruned = isinstance(error, PrunedError)
            note_job(folder, error=text, is_pruned=is_pruned)
        if lock := _locks.pop(folder, None):
            lock.close()
        gc.collect()  # the network of this job, before that of the next is built
        sweep = read_sweep(Path(config.hydra.sweep.dir))
        write_summary(sweep, Path(config.hydra.sweep.dir))
        if not runs_elsewhere(config.hydra.launcher):
            log.info("%s", progress(sweep))


def following_sweep(config: DictConfig) -> AbstractContextManager[None]:
    """Shows the sweep that this process runs while its jobs run in other processes, whose output is in files."""
    if _open is None or not runs_elsewhere(config.hydra.launcher):
        return nullcontext()
    return following(_open, printable)


def end_sweep() -> None:
    """Prints the table of the sweep that this process began, also of one that failed, and draws its plot."""
    global _open
    folder, _open = _open, None
    if folder is None or not (sweep := read_sweep(folder)).jobs:
        return
    write_summary(sweep, folder)
    picture = draw_summary(sweep, folder)
    # Not by the log: it is set up in the processes of the jobs, which may be others.
    print(printable(f"{summary(sweep)}\n{picture or folder}"), flush=True)
