"""Reproduces a table of a report: trains its rows with several seeds. See `python -m src.reproduce --help`."""

import math

from omegaconf import DictConfig

from src.config.cli import launch
from src.config.table_plan import plan_table
from src.folds.reproduce import make_table


def reproduce(cfg: DictConfig) -> float:
    """Makes a table by a composed configuration, or continues it; returns the best mean mIoU of its lines."""
    lines = make_table(plan_table(cfg))
    return max((line.summary.mean for line in lines), default=math.nan)


if __name__ == "__main__":
    launch(reproduce, "reproduce")
