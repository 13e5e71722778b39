"""Fixtures of several tests: the command line in this process, CamVid in its true layout, the real data where it is."""

import gc
import importlib
import os
import random
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from src.config.resolvers import register_resolvers
from tests.support.paths import DATA, absent, told
from tests.support.trees import write_camvid

LONGEST = ["test_train.py", "test_crossval.py", "test_aggregate.py", "test_ddp.py"]
# Nothing may look for a network: weights and dashboards are tested in their offline form.
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline")
os.environ.pop("HYDRA_FULL_ERROR", None)
register_resolvers()  # for tests that compose a configuration without the command line


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps class statistics out of the user's own cache, and shares them among the tests of a process."""
    os.environ["STREETSEG_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves an empty file in place of each matplotlib figure, but in tests/reports and under the marker `draws`."""
    if "reports" not in request.path.parts and request.node.get_closest_marker("draws") is None:
        monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).touch())


@pytest.fixture(autouse=True)
def leave_determinism_as_it_was() -> Iterator[None]:
    """Lightning's `deterministic` holds for the process, and so for all later tests."""
    yield
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def no_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros, which are drawn in no time, where a full-size network is built and its figures do not matter."""
    for draw in ("uniform_", "normal_", "erfinv_"):
        monkeypatch.setattr(torch.Tensor, draw, lambda self, *_, **__: self.zero_())


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Calls an entry point in this process as its command line would: `cli("train", "model=unet", ...)`.

    Returns what the entry point returned; SystemExit on an error that is told in one line.
    """
    from src.config import cli as command_line

    def call(name: str, *arguments: str) -> object:
        module = importlib.import_module(f"src.{name}")
        function = {"eval": "evaluate_run", "draw": "draw_all"}.get(name, name)
        returned = []
        monkeypatch.setattr(sys, "argv", [f"src.{name}", *arguments])
        command_line.launch(lambda cfg: returned.append(getattr(module, function)(cfg)), name)
        return returned[-1] if len(returned) == 1 else returned

    return call


@pytest.fixture
def fails(cli: Callable[..., object], capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls an entry point that must fail, and returns the one line it told on stderr."""

    def call(name: str, *arguments: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli(name, *arguments)
        assert stop.value.code == 1
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, lines
        return lines[0].removeprefix("error: ")

    return call


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid", {"train": 4, "val": 3, "test": 2})


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Seeds each test by its name, so that its random numbers do not depend on the tests before it."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of real data that is not there, unless STREETSEG_DATA says that it is: then they fail.

    The long files come first: a process that came to one of them last would be left alone with it.
    """
    if "STREETSEG_DATA" not in os.environ:
        fixtures = {f"real_{name}" for name in absent()}
        config.hook.pytest_deselected(items=[item for item in items if fixtures & set(item.fixturenames)])
        items[:] = [item for item in items if not fixtures & set(item.fixturenames)]
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Spares the garbage collector all that the imports made, which it went over a quarter of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or what nanobind made counts as leaked at the end


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in absent():
        terminalreporter.write_line(f"not tested on real data: {told(name)}")


@pytest.fixture(scope="session")
def real_kitti_road() -> Path:
    """Frames um_000000 to um_000010 of KITTI road with the truth of task=lane."""
    return real("kitti_road")


@pytest.fixture(scope="session")
def real_camvid() -> Path:
    """The real CamVid of the acceptance runs."""
    return real("camvid")


def real(name: str) -> Path:
    assert name not in absent(), told(name)
    return DATA / name
