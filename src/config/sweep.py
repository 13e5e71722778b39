"""Sweeps (`-m`): jobs in processes of their own if they need several devices, and a table built from run folders."""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from src.config.checks import has_several_devices
from src.errors import UserError
from src.files import write_text
from src.machine import RUN_VARIABLE, describe_end
from src.processes.children import run as run_child
from src.runs.folder import RunFolder
from src.runs.marks import MARK, mark

log = logging.getLogger(__name__)
POINTER = "run.txt"


def note_run(run: RunFolder) -> None:
    """Writes which run folder this job uses into the folder of its sweep, if it is a job of one."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        write_text(Path(hydra.runtime.output_dir) / POINTER, str(run.path.absolute()))


def needs_own_process(cfg: DictConfig) -> bool:
    """Returns whether this is a job of a sweep that may use several devices.

    The processes that Lightning starts repeat the command line, and would replay the whole sweep.
    """
    return HydraConfig.get().mode == RunMode.MULTIRUN and has_several_devices(cfg)


def train_in_own_process(run: RunFolder) -> None:
    """Trains this job of a sweep by a command of its own. Raises UserError with its status if it fails."""
    command = ["src.train", *HydraConfig.get().overrides.task]
    status = run_child(command, {RUN_VARIABLE: str(run.path)})
    if status != 0:
        raise UserError(f"python -m {' '.join(command)}: {describe_end(status)}")


class SweepSummary(Callback):
    """Writes `runs/sweeps/<digest>/summary.md` after each job, whatever the launcher, and logs it at the end."""

    def on_job_end(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            folder = Path(config.hydra.sweep.dir)
            write_text(folder / "summary.md", summary(folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        if not _jobs(folder):
            return  # src.config.cli raises
        log.info("%s\n%s", summary(folder), folder / "summary.md")


def _jobs(folder: Path) -> list[Path]:
    """Returns the folders of a sweep's jobs, by their numbers."""
    found = (path for path in folder.glob("*") if path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name))


def summary(folder: Path) -> str:
    """Tabulates the jobs of a sweep as Markdown: run, mIoU, pixel accuracy, best epoch."""
    lines = ["| job | run | val/miou | pixel accuracy | best epoch |", "|--:|---|--:|--:|--:|"]
    for job in _jobs(folder):
        pointer = job / POINTER
        run = RunFolder(Path(pointer.read_text())) if pointer.is_file() else None
        name = run.path.name if run else "-"
        if run and (results := run.read_results()).finished:
            best = results.own
            miou, accuracy = (f"{figure:.4f}{mark(best)}" for figure in (best.miou, best.pixel_accuracy))
            figures = f"{miou} | {accuracy} | {best.checkpoint.epoch}"
        else:
            figures = "not finished | | "
        lines.append(f"| {job.name} | {name} | {figures} |")
    if any(MARK in line for line in lines):
        lines += ["", f"{MARK} on images that the weights were trained or chosen on; the run's results.json says how"]
    return "\n".join(lines)
