"""Trains in stages of cross-validation, each from the average of the one before. See `python -m src.stages --help`."""

from functools import partial

from omegaconf import DictConfig

from src.config.cli import launch
from src.config.dashboards import grouped, publish
from src.config.stage_plan import plan_stages
from src.folds.stages import train_stages


def stages(cfg: DictConfig) -> float:
    """Trains in stages by a composed configuration, or continues; returns the mIoU of the last winner."""
    plan = plan_stages(cfg)
    with grouped(plan.folder.name):
        records = train_stages(plan, partial(publish, cfg.logger, plan.folder, "stages"))
    return records[-1].winner.miou


if __name__ == "__main__":
    launch(stages, "stages")
