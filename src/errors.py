"""Errors that a user can mend. Whatever else is raised is a bug of this project and shows its traceback."""

from pathlib import Path
from typing import Any


class UserError(ValueError):
    """Says what was given, what is allowed, and what to do; printed in one line by `src.config.cli`."""


class DataError(UserError):
    """A fault of one file of a dataset.

    Args:
        path: the file.
        kind: the kind of fault, one of those that `src.check` lists.
        text: what is wrong with it and what to do, without the path.
        counts: pixels of each label or colour that is not allowed, if that is the fault.

    torch makes the exception of a data worker anew of its message only; it comes back as `path`.
    """

    def __init__(self, path: Path | str, kind: str = "", text: str = "", counts: dict[str, int] | None = None) -> None:
        super().__init__(f"{path}: {text}" if text else path)
        self.path, self.kind, self.text, self.counts = path, kind, text, counts or {}

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (self.path, self.kind, self.text, self.counts)


def whole(key: str, value: Any, least: int, *, also: str = "") -> int:
    """Returns `value` if it is a whole number of at least `least`; `true` and `false` are none.

    Args:
        key: dotted key of the configuration, for the message.
        also: other values that the key takes, for the message (`"null"`, `"auto"`).

    Raises:
        UserError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise UserError(f"{key}={value}: must be {also + ' or ' if also else ''}a whole number, at least {least}")
