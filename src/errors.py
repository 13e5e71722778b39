"""The errors that a user can mend. All others are bugs of this project, which show their traceback."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """States the value given, the values allowed, and the remedy; `src.config.cli` prints it in one line."""


class DataError(UserError):
    """A fault of one file of a dataset.

    Args:
        kind: one of the kinds of faults that `src.check` lists.
        text: the fault and its remedy, without the path.
        counts: pixels of each label or colour that is not allowed, if these are the fault.

    torch makes the exception of a data worker again from only its message, which then comes as `path`.
    """

    def __init__(self, path: Path | str, kind: str = "", text: str = "", counts: dict[str, int] | None = None) -> None:
        super().__init__(f"{path}: {text}" if text else path)
        self.path, self.kind, self.text, self.counts = path, kind, text, counts or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.kind, self.text, self.counts)


def shortened(names: Sequence[str], most: int = 3) -> str:
    """Lists the first names of a longer list, for a message: `a, b, c, ...`."""
    return ", ".join([*names[:most], "..."] if len(names) > most else names)


def whole(key: str, value: Any, least: int, *, also: str = "") -> int:
    """Returns `value` if it is a whole number of at least `least`; `true` and `false` are none.

    Raises:
        UserError: it is not; names the key, and `also`, another value that the key takes (`"null"`, `"auto"`).
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise UserError(f"{key}={value}: must be {also + ' or ' if also else ''}a whole number, at least {least}")
