"""Dashboards of trainings, and of commands that train no network of their own: cross-validation, average, stages."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.flat import flatten, to_dict
from src.config.sweep import swept_words
from src.machine import GROUP_VARIABLE, SWEEP_VARIABLE, environment
from src.reports.dashboard import Dashboard, Description, Figures, Pictures, Publication

LONGEST_TAG = 64  # characters that W&B takes


def build_loggers(config: DictConfig) -> list[Any]:
    """Builds the loggers of a training from its resolved configuration, and describes the run to its dashboards."""
    loggers = [instantiate(node) for node in config.logger.values() if node is not None]
    description = Description(flatten(to_dict(config)), tags(config))
    for logger in loggers:
        if isinstance(logger, Dashboard):
            logger.describe(description)
    return loggers


def tags(config: DictConfig) -> tuple[str, ...]:
    """Returns words to find a run by: its recipe, data, network, backbone and fold, and what a sweep varies."""
    chosen = {key: value for key, value in config.choices.items() if (key, value) != ("scale", "full")}
    order = [chosen[key] for key in ("experiment", "data", "model", "backbone", "scale") if chosen.get(key)]
    folds = config.data.get("num_folds")
    fold = [f"fold{config.data.fold}of{folds}"] if folds else []
    swept = [word for word in swept_words() if len(word) <= LONGEST_TAG and word.partition("=")[2] not in order]
    return (*dict.fromkeys(order), *fold, *swept)


def publish(
    logger: DictConfig | None, folder: Path, kind: str, pictures: Pictures, table: str, figures: Figures
) -> None:
    """Shows results in `folder` on the dashboards, each as a run of its own.

    Args:
        logger: the config group of the runs; None for an average of averages, which were not trained.
        folder: has an `environment.json` (`RunFolder.note_session`), whose id becomes that of the W&B run.
        kind: W&B's job type.
        pictures: PNG files by name.
    """
    for node in (logger or {}).values():
        if node is not None and "run_dir" in node:
            dashboard: Dashboard = instantiate(node, run_dir=str(folder), job_type=kind)
            with dashboard:
                dashboard.publish(Publication(pictures, table, figures))


def grouped(name: str) -> AbstractContextManager[None]:
    """Puts W&B runs that begin within this context, here or in child processes, into a group; the outermost wins."""
    return environment(GROUP_VARIABLE, os.environ.get(GROUP_VARIABLE, name))


def grouped_by_sweep() -> AbstractContextManager[None]:
    """Puts W&B runs that begin within this context into the group of the sweep (`-m`), if this is a job of one."""
    is_job = HydraConfig.get().mode == RunMode.MULTIRUN
    return grouped(f"sweep-{os.environ[SWEEP_VARIABLE]}") if is_job else nullcontext()
