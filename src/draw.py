"""Draws the figures of runs, folds, averages and stages from their folders: `python -m src.draw --help`."""

import logging

from omegaconf import DictConfig

from src.config.cli import launch
from src.errors import UserError
from src.reports.figures import draw, find_folders
from src.runs.zoo import find_run

log = logging.getLogger(__name__)


def draw_all(cfg: DictConfig) -> int:
    """Draws the figures of `cfg.folder` and of all folders beneath it again; returns their number.

    Raises:
        UserError: no such folder, or there is nothing to draw.
    """
    if not (place := find_run(cfg.folder)).is_dir():
        raise UserError(f"folder={cfg.folder}: no such folder")
    pictures = [path for folder in find_folders(place) for path in draw(folder).values()]
    if not pictures:
        raise UserError(f"folder={cfg.folder}: no finished run, folds, average or stages in it or beneath it")
    for path in pictures:
        log.info("%s", path)
    return len(pictures)


if __name__ == "__main__":
    launch(draw_all, "draw")
