"""Semantic segmentation of street scenes. `python -m src.NAME` runs a command; other modules are no commands."""

import sys
from pathlib import Path


def _refuse_other_modules(words: list[str]) -> None:
    """Ends `python -m src.MODULE` with an error if the module is no command: it would do nothing, with status 0."""
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if sys.argv[:1] == ["-m"] and module.startswith("src."):
        from src.files import HOME

        names = sorted(path.stem for path in (HOME / "conf").glob("[!_]*.yaml"))
        found = [name for name in names if Path(__file__).with_name(f"{name}.py").is_file()]
        if module.removeprefix("src.") not in found:
            sys.exit(f"error: {module} is no command; the commands are {', '.join(f'src.{name}' for name in found)}")


_refuse_other_modules(sys.orig_argv)
