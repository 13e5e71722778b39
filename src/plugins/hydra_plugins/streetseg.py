"""The sweepers and the launcher of this project, in a package of the only name that Hydra takes them from."""

from src.config.grid import Grid
from src.config.ray_jobs import RayJobs
from src.config.search import Search


class GridSweeper(Grid):
    """`hydra/sweeper=grid`, the default."""


class OptunaSweeper(Search):
    """`hydra/sweeper=optuna`."""


class RayLauncher(RayJobs):
    """`hydra/launcher=ray`."""


PLUGINS = (GridSweeper, OptunaSweeper, RayLauncher)
