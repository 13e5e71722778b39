"""The jobs of a sweep (`-m`): in processes of their own if they need several devices; the record of the sweep."""

import logging
import os
import shlex
from pathlib import Path
from typing import Any

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
from src.machine import RUN_VARIABLE, SWEPT_VARIABLE, describe_end
from src.processes.children import run as run_child
from src.reports.sweep import draw_summary, progress, summary, write_summary
from src.runs.folder import RunFolder
from src.runs.study import PrunedError
from src.runs.sweep import Plan, note_job, read_sweep, write_plan

log = logging.getLogger(__name__)
_open: Path | None = None  # the folder of the sweep that this process runs


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


def needs_own_process(cfg: DictConfig) -> bool:
    """Returns whether this is a job of a sweep that may use several devices, or that a launcher has begun elsewhere.

    The processes that Lightning starts repeat the command line, and would replay the whole sweep. A launcher's own
    process may not start data processes, nor handle signals.
    """
    hydra = HydraConfig.get()
    is_elsewhere = hydra.launcher["_target_"] != f"{BasicLauncher.__module__}.{BasicLauncher.__name__}"
    return hydra.mode == RunMode.MULTIRUN and (is_elsewhere or has_several_devices(cfg))


def train_in_own_process(run: RunFolder) -> None:
    """Trains this job of a sweep by a command of its own. Raises UserError with its status if it fails."""
    command = ["src.train", *HydraConfig.get().overrides.task]
    status = run_child(command, {RUN_VARIABLE: str(run.path), SWEPT_VARIABLE: shlex.join(swept_words())})
    if status != 0:
        raise UserError(f"python -m {' '.join(command)}: {describe_end(status)}")


def check_recipe() -> None:
    """Raises UserError if a recipe of conf/sweep was chosen, and this job has no value for one of its keys.

    Hydra reads a sweeper's keys only under -m, and would train once with the defaults.
    """
    hydra = HydraConfig.get()
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
            words = list(config.hydra.overrides.task)
            note_job(Path(config.hydra.runtime.output_dir), words=words, run=None, error=None, is_pruned=False)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        if job_return.status == JobStatus.FAILED:
            error = job_return._return_value  # its property would raise it
            text = user_message(error, config.hydra.job.config_name) or f"{type(error).__name__}: {error}"
            is_pruned = isinstance(error, PrunedError)
            note_job(Path(config.hydra.runtime.output_dir), error=text, is_pruned=is_pruned)
        sweep = read_sweep(Path(config.hydra.sweep.dir))
        write_summary(sweep, Path(config.hydra.sweep.dir))
        log.info("%s", progress(sweep))


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
