"""Trains one run per fold, each in its own process. See `python -m src.crossval --help`."""

from functools import partial

from omegaconf import DictConfig

from src.config.cli import launch
from src.config.dashboards import grouped, publish
from src.config.fold_plan import claimed_folds, plan_folds
from src.folds.crossval import cross_validate


def crossval(cfg: DictConfig) -> float:
    """Cross-validates by a composed configuration; returns the mean mIoU of the folds on their own parts."""
    plan = plan_folds(cfg)
    with claimed_folds(plan), grouped(plan.folder.name):
        record = cross_validate(plan, partial(publish, cfg.logger, plan.folder, "crossval"))
    return record.summaries["own"].mean


if __name__ == "__main__":
    launch(crossval, "crossval")
