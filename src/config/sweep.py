"""Sweeps (`-m`): jobs in processes of their own if they need several devices, and the record of the sweep."""

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from src.config.checks import has_several_devices
from src.config.kinds import check_kinds
from src.config.messages import CONF, printable, user_message
from src.config.resolvers import register_resolvers
from src.config.words import settle_paths
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


def check_jobs(config_name: str, words: Sequence[str]) -> None:
    """Composes each job of a sweep and checks its values, before the first one begins.

    Args:
        words: the command line without `-m`. One with other options, or another sweeper than Hydra's, is not checked.

    Raises:
        UserError: a value of a wrong kind; and Hydra's errors for words that cannot be composed.
    """
    if any(word.startswith(("-", "hydra/sweeper", "hydra.searchpath")) for word in words):
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            for job in _jobs(words):
                cfg = compose(config_name, job, return_hydra_config=True)
                HydraConfig.instance().set_config(cfg)
                with open_dict(cfg):
                    cfg.pop("hydra")
                settle_paths(cfg)
                check_kinds(cfg)
        finally:
            HydraConfig.instance().cfg = None


def _jobs(words: Sequence[str]) -> list[list[str]]:
    """Returns the command line of each job, in Hydra's order; Hydra must know its configurations."""
    parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(words))
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


class SweepSummary(Callback):
    """Notes the jobs of a sweep in its folder, writes `summary.md` and `.csv` there after each."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Prepares a process of a launcher, to which Hydra sends its callbacks first."""
        register_resolvers()
        self.__dict__.update(state)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        global _open
        _open = Path(config.hydra.sweep.dir)
        words, jobs = list(config.hydra.overrides.task), config.hydra.sweeper.get("trials")
        if config.hydra.sweeper["_target_"] == f"{BasicSweeper.__module__}.{BasicSweeper.__name__}":
            jobs = len(_jobs(words))
        write_plan(_open, Plan([key for key in map(_swept, words) if key], jobs))

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


def _swept(word: str) -> str | None:
    """Returns the key of a word of the command line that has several values."""
    override = OverridesParser.create().parse_override(word)
    return override.key_or_group if override.is_sweep_override() else None
