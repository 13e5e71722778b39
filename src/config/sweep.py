"""The summary table of a multirun, kept up to date after each job and built from run folders alone."""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from src.files import write_text
from src.runs.folder import RunFolder
from src.runs.marks import MARK, mark

log = logging.getLogger(__name__)
POINTER = "run.txt"


def note_run(run: RunFolder) -> None:
    """In a sweep, writes which run folder this job uses into the sweep's folder."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        write_text(Path(hydra.runtime.output_dir) / POINTER, str(run.path.absolute()))


class SweepSummary(Callback):
    """Writes `runs/sweeps/<digest>/summary.md` after each job, whatever the launcher, and tells it at the end."""

    def on_job_end(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            folder = Path(config.hydra.sweep.dir)
            write_text(folder / "summary.md", summary(folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        log.info("%s\n%s", summary(folder), folder / "summary.md")


def summary(folder: Path) -> str:
    """A Markdown table of a sweep's jobs: overrides' run, mIoU, pixel accuracy, best epoch, state."""
    lines = ["| job | run | val/miou | pixel accuracy | best epoch |", "|--:|---|--:|--:|--:|"]
    jobs = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    for job in jobs:
        pointer = job / POINTER
        run = RunFolder(Path(pointer.read_text())) if pointer.is_file() else None
        results = run.read_results() if run else None
        name = run.path.name if run else "-"
        if results and results.finished:
            best = results.own
            miou, accuracy = (f"{figure:.4f}{mark(best)}" for figure in (best.miou, best.pixel_accuracy))
            figures = f"{miou} | {accuracy} | {best.checkpoint.epoch}"
        else:
            figures = "not finished | | "
        lines.append(f"| {job.name} | {name} | {figures} |")
    if any(MARK in line for line in lines):
        lines += [
            "",
            f"{MARK} on images that the weights were trained or chosen on; the run's results.json says how",
        ]
    return "\n".join(lines)
