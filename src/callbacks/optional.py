"""Packages that only some choices of `logger=` need."""

import importlib.util

from src.errors import UserError


def need(package: str, choice: str) -> None:
    """Raises UserError if a package is not installed, which a choice of `logger=` needs."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"logger={choice}: needs the package {package}, which is not installed; pip install it into the "
            "environment of this program (docs/runs.md), or choose logger=default or logger=csv"
        )
