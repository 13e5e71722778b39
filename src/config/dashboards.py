"""Dashboards of commands that train no network of their own: cross-validation, average, stages."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import environment
from src.reports.dashboard import Dashboard

GROUP = "WANDB_RUN_GROUP"  # W&B's own variable


def open_dashboards(logger: DictConfig | None, folder: Path, kind: str) -> list[Dashboard]:
    """Builds the dashboards that results in `folder` are published to: a W&B run of its own, if `logger` has W&B.

    Args:
        logger: the config group of the runs; None for an average, which was not trained.
        folder: has an `environment.json` (`RunFolder.note_session`), whose id becomes that of the W&B run.
        kind: W&B's job type.
    """
    return (
        []
        if logger is None or "wandb" not in logger
        else [instantiate(logger.wandb, run_dir=str(folder), job_type=kind)]
    )


def grouped(name: str) -> AbstractContextManager:
    """Puts W&B runs that begin within this context, here or in child processes, into a group; the outermost wins."""
    return environment(GROUP, os.environ.get(GROUP, name))
