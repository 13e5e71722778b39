"""Who may import whom: DESIGN.md's rules, held by reading the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FILES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))
ENTRY_POINTS = {
    "train.py", "eval.py", "predict.py", "pack.py", "check.py", "config.py", "cli.py", "sweep.py", "banner.py",
    "aggregate.py", "crossval.py", "stages.py", "draw.py",
}  # fmt: skip
DATASETS = ("camvid", "cityscapes", "concat", "folder", "kitti", "kitti_road", "streets")


def imports(file: str, *, top_level: bool = False) -> set[str]:
    """Modules that a file imports: all, or only those imported when it is."""
    tree = ast.parse((SRC / file).read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module)
    return found


def packages(file: str) -> set[str]:
    return {module.split(".")[0] for module in imports(file)}


@pytest.mark.parametrize("file", FILES)
def test_who_imports_whom(file: str) -> None:
    folder = file.split("/")[0]
    if file not in ENTRY_POINTS:
        assert not packages(file) & {"hydra", "omegaconf"}
    if not (
        file in {"task.py", "data/datamodule.py", "evaluation.py", "judge.py"} | ENTRY_POINTS or folder == "callbacks"
    ):
        assert "lightning" not in packages(file)
    if folder != "callbacks":
        assert "wandb" not in packages(file)
    ours = {module for module in imports(file) if module.startswith("src.")}
    if folder == "models":
        assert all(module.startswith("src.models.") for module in ours)
    if folder == "losses":
        assert all(module.startswith("src.losses.") or module == "src.upsampling" for module in ours)
    if folder == "data" and file not in ("data/datamodule.py", "data/statistics.py"):
        assert all(module.startswith("src.data.") for module in ours)
        datasets = {f"src.data.{name}" for name in DATASETS}
        assert not (ours & datasets) - {f"src.data.{Path(file).stem}"}


def test_nothing_imports_scripts_or_notebooks() -> None:
    for file in FILES:
        assert not packages(file) & {"scripts", "notebooks", "tests"}, file


@pytest.mark.parametrize("file", [*sorted(ENTRY_POINTS - {"banner.py"}), "run.py", "download.py"])
def test_entry_points_are_light(file: str) -> None:
    heavy = {"torch", "lightning", "torchmetrics", "timm", "segmentation_models_pytorch", "albumentations", "wandb"}
    assert not {module.split(".")[0] for module in imports(file, top_level=True)} & heavy


def test_datasets_are_checked_without_torch() -> None:
    code = (
        "import sys; import src.config.open, src.config.cli, src.check, src.pack, src.data.tools.download; "
        f"import {', '.join(f'src.data.{name}' for name in DATASETS)}; "
        "print([m for m in ('torch', 'lightning', 'albumentations') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=SRC.parent, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
