"""The wheel: a package `streetseg` for other projects, and none called `src`, in a virtual environment elsewhere."""

import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.api import load
from tests.support.paths import ROOT

pytestmark = pytest.mark.e2e
CODE = """
import sys
import numpy as np
from streetseg.api import load

assert "torch" not in sys.modules, "imported before it is needed"
network = load("zoo/camvid_lraspp_lite0", device="cpu")
found = network.predict("photo.png")
np.save("labels.npy", found.labels)
run = load("run", device="cpu").predict("photo.png")  # its configuration says src
assert np.array_equal(run.labels, found.labels)
assert network.results.own.miou > 0.7
assert "src" not in sys.modules and not any(name.startswith("src.") for name in sys.modules)
import streetseg
print(streetseg.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("clone")
    names = ["src", "conf", "zoo", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), copy], check=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy]
    subprocess.run(pip, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_one_package_that_names_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {
            "streetseg",
            f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info",
        }
        modules = {name.removeprefix("streetseg/") for name in names if name.endswith(".py")}
        assert modules == {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
        for name in ("conf/train.yaml", "zoo/index.json", "reports/html/page.html.jinja"):
            assert f"streetseg/{name}" in names
        for name in names:
            if name.endswith((".py", ".yaml")) and "/zoo/" not in name:
                assert not re.search(r"\b(from|import) src\b|_target_: *src\b|-m src\b", archive.read(name).decode()), (
                    name
                )


def test_another_project_imports_it(wheel: Path, tmp_path: Path) -> None:
    """In an empty virtual environment, which borrows the packages of this one, in a folder that has no clone."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert not (packages / "src").exists()

    project = tmp_path / "project"
    (project / "run").mkdir(parents=True)
    for file in (ROOT / "zoo" / "camvid_lraspp_lite0").iterdir():
        (project / "run" / file.name).write_bytes(file.read_bytes())
    photo = project / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(photo)
    result = subprocess.run([python, "-c", CODE], cwd=project, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).parent == packages / "streetseg"
    expected = load(ROOT / "zoo" / "camvid_lraspp_lite0", device="cpu").predict(photo)
    assert np.array_equal(np.load(project / "labels.npy"), expected.labels)

    command = [python, "-m", "streetseg.predict", "run=zoo/camvid_lraspp_lite0", "input=photo.png", "accelerator=cpu"]
    assert subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).returncode == 0
    labels = project / "runs" / "zoo" / "camvid_lraspp_lite0" / "predictions" / "photo" / "labels" / "photo.png"
    assert np.array_equal(np.asarray(Image.open(labels)), expected.labels)


def test_an_editable_installation_is_refused(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", tmp_path]
    result = subprocess.run([*pip, "-e", ROOT], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "no editable installation: in a clone call python -m src.NAME" in result.stdout + result.stderr
