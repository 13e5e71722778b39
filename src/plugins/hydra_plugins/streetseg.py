"""The sweepers of this project; Hydra looks for them only in a package of this folder's name."""

from src.config.search import Search


class OptunaSweeper(Search):
    """`hydra/sweeper=optuna`."""
