"""Dashboards of commands that train no network of their own: cross-validation, average, stages."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.machine import GROUP_VARIABLE, environment
from src.reports.dashboard import Dashboard, Figures, Pictures


def publish(
    logger: DictConfig | None, folder: Path, kind: str, pictures: Pictures, table: str, figures: Figures
) -> None:
    """Shows results in `folder` on the dashboards: a W&B run of its own, if `logger` has W&B.

    Args:
        logger: the config group of the runs; None for an average of averages, which were not trained.
        folder: has an `environment.json` (`RunFolder.note_session`), whose id becomes that of the W&B run.
        kind: W&B's job type.
        pictures: PNG files by name.
    """
    if logger is not None and "wandb" in logger:
        dashboard: Dashboard = instantiate(logger.wandb, run_dir=str(folder), job_type=kind)
        with dashboard:
            dashboard.publish(pictures, table, figures)


def grouped(name: str) -> AbstractContextManager[None]:
    """Puts W&B runs that begin within this context, here or in child processes, into a group; the outermost wins."""
    return environment(GROUP_VARIABLE, os.environ.get(GROUP_VARIABLE, name))
