"""Packages that only some inputs of `src.predict` need."""

import importlib.util

from src.errors import UserError


def need(package: str, extra: str, source: object, purpose: str) -> None:
    """Raises UserError if a package of an optional extra is not installed, which an input needs."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{source}: {purpose} needs the package {package}, which is not installed; pip install {package} into the "
            f"environment of this program (the extra {extra} of pyproject.toml)"
        )
