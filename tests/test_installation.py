"""Installs with `make setup` into bare environments: the oldest pip, wrong hashes, a mirror, a second call.

The packages come from uv's cache, by hard links, if `make setup` has filled it.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

pytestmark = pytest.mark.install
# The pip that the first release of each Python brought with it.
OLDEST_PIP = {(3, 11): "22.3", (3, 12): "23.2.1", (3, 13): "24.2"}[sys.version_info[:2]]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """The usual one, but deleted at once: an environment has 6.5 GB, if not by hard links."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "scripts" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project(folder: Path, lock: str) -> Path:
    """Writes the files that `make setup` needs, with another lock."""
    (folder / "scripts").mkdir(parents=True)
    for name in ("Makefile", "scripts/install.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "requirements.lock").write_text(lock)
    return folder


def setup(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Calls `make setup` as a user does, without what `make` and pytest have put into the environment."""
    kept = {
        name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS|VENV$|PYTHON|VIRTUAL_ENV", name)
    }
    return subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}"],
        cwd=folder, env=kept | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def installed(venv: Path) -> dict[str, str]:
    """Returns the version of each package of an environment, by its name."""
    code = "from importlib.metadata import distributions as d\nfor x in d(): print(x.metadata['Name'], x.version)"
    lines = subprocess.check_output([venv / "bin" / "python", "-c", code], text=True).splitlines()
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in map(str.split, lines)}


def test_the_oldest_pip_installs_the_lock(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    folder = project(tmp_path / "clone", lock)
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    python = folder / ".venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"pip=={OLDEST_PIP}"], check=True)
    assert installed(folder / ".venv")["pip"] == OLDEST_PIP

    first = setup(folder)
    assert first.returncode == 0, first.stdout
    wanted = {}
    for line in re.findall(r"^\w.*?(?= \\$)", lock, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            wanted[requirement.name] = str(requirement.specifier).removeprefix("==")
    assert len(wanted) > 100
    assert installed(folder / ".venv") == wanted | {"pip": OLDEST_PIP}

    stamp = (folder / ".venv" / ".installed").stat().st_mtime_ns
    start = time.perf_counter()
    second = setup(folder)
    assert time.perf_counter() - start < 2
    assert second.returncode == 0
    assert "Nothing to be done" in second.stdout
    assert (folder / ".venv" / ".installed").stat().st_mtime_ns == stamp

    code = "import torch; print(torch.ones(2).sum().item())"
    assert subprocess.check_output([python, "-c", code], text=True) == "2.0\n"


@pytest.mark.parametrize(("package", "tool"), [("uv", "pip"), ("tqdm", "uv")])
def test_another_hash_is_refused(tmp_path: Path, script: ModuleType, package: str, tool: str) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = {name: script.pin(name, lock) for name in ("uv", "tqdm")}
    pins[package] = re.sub(r"sha256:\w{8}", "sha256:00000000", pins[package])
    folder = project(tmp_path / "clone", "".join(pins.values()))
    run = setup(folder)
    assert run.returncode != 0
    assert re.search(f"error: {tool} failed", run.stdout)
    assert re.search("(?i)hash", run.stdout)
    assert package not in installed(folder / ".venv")
    assert not (folder / ".venv" / ".installed").exists()
    (folder / "requirements.lock").write_text("".join(script.pin(name, lock) for name in pins))
    assert setup(folder).returncode == 0  # the same command continues
    assert {"pip", "uv", "tqdm"} <= set(installed(folder / ".venv"))


def test_uv_asks_the_index_of_pips_configuration(tmp_path: Path, script: ModuleType) -> None:
    """A package that only one index has, which only pip's configuration names, is found by uv."""
    index = tmp_path / "index" / "only-here"
    index.mkdir(parents=True)
    wheel = index / "only_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        info = "only_here-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: only-here\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    (index / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    digest = subprocess.check_output(["python3", "-m", "pip", "hash", wheel], text=True).split("sha256:")[1].strip()
    lock = script.pin("uv", (ROOT / "requirements.lock").read_text()) + f"only-here==1.0 --hash=sha256:{digest}\n"
    folder = project(tmp_path / "clone", lock)
    assert "only-here" in setup(folder).stdout  # not found without it
    assert not (folder / ".venv" / ".installed").exists()
    run = setup(folder, PIP_EXTRA_INDEX_URL=index.parent.as_uri())
    assert run.returncode == 0, run.stdout
    assert installed(folder / ".venv")["only-here"] == "1.0"


def test_settings_of_pip_become_those_of_uv(script: ModuleType) -> None:
    settings = (
        ":env:.index-url='scheme://second'\n:env:.cert='/ca.pem'\n"
        "global.extra-index-url='\\nscheme://a\\nscheme://b'\nglobal.find-links='/wheels /more'\n"
        "global.index-url='scheme://first'\nglobal.no-color='true'\ninstall.trusted-host='host'\n"
    )
    assert script.translate(settings) == {
        "UV_DEFAULT_INDEX": "scheme://second",
        "UV_INDEX": "scheme://a scheme://b",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "host",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_a_folder_of_the_users_is_left_alone(tmp_path: Path) -> None:
    folder = project(tmp_path / "clone", "")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "notes.txt").write_text("mine")
    run = setup(folder)
    assert run.returncode != 0
    assert "is not empty and not a virtual environment; move it, or choose a folder with VENV=" in run.stdout
    assert (folder / ".venv" / "notes.txt").read_text() == "mine"


def test_the_lock_has_no_address() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()
