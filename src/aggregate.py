"""Averages the weights of several runs, and keeps the best average as a run. See `python -m src.aggregate --help`."""

import logging
from functools import partial

from omegaconf import DictConfig

from src.config.average_plan import plan_average
from src.config.cli import launch
from src.config.dashboards import grouped, publish
from src.folds.aggregate import keep_best, report

log = logging.getLogger(__name__)


def aggregate(cfg: DictConfig) -> float:
    """Averages by a composed configuration, unless the same command did; returns the mIoU of the winner."""
    plan, logger = plan_average(cfg)
    if plan.run.read_results().finished:
        log.info("%s is finished", plan.run.path)
    else:
        with grouped(plan.group):
            keep_best(plan, partial(publish, logger, plan.run.path, "aggregate"))
    return report(plan.run)


if __name__ == "__main__":
    launch(aggregate, "aggregate")
