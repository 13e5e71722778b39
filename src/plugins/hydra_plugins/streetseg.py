"""The sweepers of this project, in a package of the only name that Hydra takes them from."""

from src.config.grid import Grid
from src.config.search import Search


class GridSweeper(Grid):
    """`hydra/sweeper=grid`, the default."""


class OptunaSweeper(Search):
    """`hydra/sweeper=optuna`."""


SWEEPERS = (GridSweeper, OptunaSweeper)
