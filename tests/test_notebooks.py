"""The notebooks: as GitHub shows them, as docs/ does, and executed from an empty folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RENDERED = ROOT / "docs" / "notebooks"
SHOWN = {  # in the outputs; numbers of trainings are each machine's own
    "1_first_training": (r"epoch 4/4: loss", r"val/miou 0\.[1-9]\d+   runs/notebook_first", r"95 % interval 0\.\d+ to"),
    "2_reading_a_report": (
        r"3 runs, 3 evaluations: runs/report/report\.html",
        r"camvid_unet_lite0 \| 70\.47 %",
        r"^Pole +0\.\d+$",
    ),
    "3_comparing_two_networks": (
        r"against runs/notebook_compare/enet-s0 on the same 12 images: 95 % interval",
        r"unet_small against enet: [+-]\d+\.\d points, 95 % interval",
    ),
}


def cells(path: Path) -> list[tuple[str, dict]]:
    return [("".join(cell["source"]), cell) for cell in json.loads(path.read_text())["cells"]]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_and_imports_src(path: Path) -> None:
    code = [(text, cell) for text, cell in cells(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for _, cell in code)
    assert any("from src." in text for text, _ in code)
    assert not any(re.search(r"^(def|class) ", text, re.M) for text, _ in code)  # the logic is in src


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rendered_copy_has_the_same_cells(path: Path) -> None:
    page = (RENDERED / f"{path.stem}.md").read_text()
    place = 0
    for text, cell in cells(path):
        source = text.removeprefix("%%bash\n") if cell["cell_type"] == "code" else text.splitlines()[0].split("](")[0]
        assert source in page[place:], f"python scripts/render_notebooks.py {path.stem}"
        place = page.index(source, place) + len(source)
    for target in re.findall(r"\]\(([^)#]+)", page):
        assert (RENDERED / target).exists(), target
    pictures = set(re.findall(rf"{path.stem}/\d+\.png", page))
    assert pictures == {f"{path.stem}/{each.name}" for each in RENDERED.glob(f"{path.stem}/*")}


# The third trains four networks.
@pytest.mark.e2e
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("3")) for name in SHOWN]
)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/render_notebooks.py", name, "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    page = (tmp_path / f"{name}.md").read_text()
    for text in SHOWN[name]:
        assert re.search(text, page, re.M), (text, page)
    assert "\x1b" not in page
    assert str(Path("/tmp")) not in page
