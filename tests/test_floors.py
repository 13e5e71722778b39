"""Holds the floors of the design by reading the source: which room imports which, and where each library is used."""

import ast
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

SRC = ROOT / "src"
# From the ground up. A module imports from its own room and from lower floors, never from a room beside or above it.
FLOORS = (
    {"errors", "labels"},
    {"metrics", "crf", "upsampling", "collective", "files", "machine"},
    {"models"},
    {"data", "losses", "inference"},
    {"runs", "task"},
    {"processes", "reports"},
    {"evaluation"},
    {"training"},
    {"callbacks", "folds"},
    {"config"},
    {"plugins"},  # found by Hydra, as the commands are by the user
    {
        "aggregate",
        "api",
        "check",
        "crossval",
        "draw",
        "eval",
        "export",
        "find_lr",
        "import_labels",
        "pack",
        "predict",
        "publish",
        "report",
        "reproduce",
        "stages",
        "train",
    },  # commands
)
COMMANDS = FLOORS[-1]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Which rooms may name a library; whoever is not here may use all others.
LIBRARIES = {
    "hydra": COMMANDS | {"config"},
    "omegaconf": COMMANDS | {"config"},
    "lightning": {"task", "callbacks", "training", "evaluation", "folds", "data/datamodule.py"},
    "wandb": {"callbacks"},
}
WITHOUT_TORCH = ("config/", "runs/", "processes/", "data/sources/")
HEAVY = {"torch", "torchvision", "lightning", "torchmetrics", "timm", "segmentation_models_pytorch", "albumentations"}
FILES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imports(file: str) -> set[str]:
    """Names of the modules that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse((SRC / file).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module} if node.module != "src" else {f"src.{alias.name}" for alias in node.names}
    return found


def test_every_room_has_its_floor() -> None:
    assert {room(file) for file in FILES} == FLOOR_OF.keys()


@pytest.mark.parametrize("name", sorted(FLOOR_OF))
def test_rooms_import_downwards(name: str) -> None:
    for file in (file for file in FILES if room(file) == name):
        modules = imports(file)
        for other in {module.split(".")[1] for module in modules if module.startswith("src.")} - {name}:
            assert FLOOR_OF[other] < FLOOR_OF[name], f"{file} imports src.{other}, which is not below it"
        packages = {module.split(".")[0] for module in modules}
        assert not packages & {"scripts", "notebooks", "tests"}, file
        for library, rooms in LIBRARIES.items():
            assert library not in packages or {name, file} & rooms, f"{file} imports {library}"
        if file.startswith(WITHOUT_TORCH):
            assert not packages & HEAVY, f"{file} imports {packages & HEAVY}"


def test_commands_are_light() -> None:
    """No command, nor the checks of a configuration and of a dataset, loads torch before its work begins."""
    names = [f"src.{name}" for name in COMMANDS]
    names += [f"src.data.sources.{path.stem}" for path in (SRC / "data" / "sources").glob("*.py")]
    code = f"import sys; import {', '.join(sorted(names))}; print(sorted({HEAVY | {'wandb'}!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_commands_are_short_and_files_fit_a_sitting() -> None:
    lines = {file: len((SRC / file).read_text().splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if room(file) in COMMANDS and count > 60}
    assert not {file: count for file, count in lines.items() if count > 300}
