"""Makes the package `streetseg` of src/, conf/ and zoo/, so that no package called `src` comes onto anybody's path.

Modules import each other as `src.NAME` in the clone, and configurations name classes so. In the package these names
begin with `streetseg.`: `from streetseg.api import load`, `python -m streetseg.predict`.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import SetupError

NAME = "streetseg"
ROOT = Path(__file__).parent
PLACES = {"src": "", "conf": "conf", "zoo": "zoo"}  # folders of the clone, and their places in the package
OWN = re.compile(r"(?<![\w./-])src(?=\.[A-Za-z{\"'])|(?<=^from )src(?= import )", re.MULTILINE)
RENAMED = (".py", ".yaml")


class BuildPackage(build_py):
    """Copies the files; in code and in conf/, but not in the run folders of zoo/, names of modules are changed."""

    def run(self) -> None:
        shutil.rmtree(Path(self.build_lib), ignore_errors=True)
        for source, target in self._files():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix in RENAMED and source.relative_to(ROOT).parts[0] != "zoo":
                target.write_text(OWN.sub(NAME, source.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copyfile(source, target)

    def get_source_files(self) -> list[str]:
        return [str(source.relative_to(ROOT)) for source, _ in self._files()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [str(target) for _, target in self._files()]

    def _files(self) -> list[tuple[Path, Path]]:
        package = Path(self.build_lib) / NAME
        return [
            (path, package / place / path.relative_to(ROOT / folder))
            for folder, place in PLACES.items()
            for path in sorted((ROOT / folder).rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        ]


class NoEditable(editable_wheel):
    """Refuses an installation that would leave the names of the modules as they are."""

    def run(self) -> None:
        raise SetupError("no editable installation: in a clone call python -m src.NAME, or pip install . anew")


setup(
    packages=[NAME],
    package_dir={NAME: "src"},
    cmdclass={"build_py": BuildPackage, "editable_wheel": NoEditable},
)
