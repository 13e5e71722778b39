"""A sweep of twelve jobs, two of which fail, whose driver is killed twice: by each launcher, each job is done once."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.runs.folder import RunFolder
from src.runs.metrics_csv import read_metrics
from src.runs.study import open_study
from src.runs.sweep import read_sweep
from tests.support.paths import ROOT, TINY

# With one image there is no batch of two: these two jobs fail.
VALUES = ("data.dataset.num_train=1,2,3,4,5,6", "seed=0,1")
LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra.launcher.n_jobs=2",),
    "ray": (),
    "submitit_local": ("hydra.sweeper.max_batch_size=2",),
}


def finished(runs: Path) -> list[RunFolder]:
    return [run for path in runs.glob("*/results.json") if (run := RunFolder(path.parent)).read_results().finished]


def run_with_kills(command: list[str], count: Callable[[], int], log: Path, kills: tuple[int, ...]) -> subprocess.Popen:
    """Kills a command as soon as `count` has reached each number, starts it again each time, and waits for its end."""
    for enough in (*kills, None):
        with log.open("a") as file:
            driver = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        while driver.poll() is None and (enough is None or count() < enough):
            time.sleep(0.05)
        if enough is not None:
            assert driver.poll() is None, log.read_text()
            driver.kill()
        driver.wait()
    return driver


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_twelve_jobs_through_two_kills_of_the_driver(launcher: str, tmp_path: Path) -> None:
    small = [word for word in TINY if not word.startswith(("data.dataset.num_train", "model."))]
    chosen = [f"hydra/launcher={launcher}", *LAUNCHERS[launcher], f"runs={tmp_path / 'runs'}"]
    command = [sys.executable, "-m", "src.train", "-m", *VALUES, *small, *chosen]
    runs, log = tmp_path / "runs", tmp_path / "log"
    driver = run_with_kills(command, lambda: len(finished(runs)), log, (2, 6))
    assert driver.returncode == 1, log.read_text()
    (folder,) = runs.glob("sweeps/*")
    sweep = read_sweep(folder)
    failed = {job.number: job.note.error for job in sweep.jobs if job.state == "failed"}
    assert failed.keys() == {0, 1}
    assert all("data.batch_size=2 is more than the 1 training images" in str(why) for why in failed.values())
    assert [job.state for job in sweep.jobs if job.number not in failed] == ["done"] * 10
    assert len(finished(runs)) == 10
    for run in finished(runs):
        assert [row["epoch"] for row in read_metrics(run.metrics) if "val/miou" in row] == [0], "trained once"
    printed = log.read_text()
    table = (folder / "summary.md").read_text()
    assert printed.endswith(f"{table}\n{folder / 'summary.png'}\n") or table in printed
    assert table.count("| failed |") == 2
    assert table.count("| done |") == 10


@pytest.mark.slow
def test_a_search_of_twenty_trials_through_two_kills(tmp_path: Path) -> None:
    small = ["scale=tiny", *TINY[:3], "trainer.enable_progress_bar=false", "data.num_workers=0", "trainer.max_epochs=6"]
    words = ["optimizer.lr=tag(log,interval(1e-5,1))", "data.batch_size=4", f"runs={tmp_path / 'runs'}"]
    chosen = ["hydra/sweeper=optuna", "hydra.sweeper.trials=20", *words, *small]
    command = [sys.executable, "-m", "src.train", "-m", *chosen]
    runs, log = tmp_path / "runs", tmp_path / "log"
    saved = lambda: len(list(runs.glob("*/checkpoints/last.ckpt")))  # noqa: E731
    driver = run_with_kills(command, saved, log, (2, 5))
    assert driver.returncode == 0, log.read_text()
    (folder,) = runs.glob("sweeps/*")
    trials = open_study(folder, None).get_trials()
    states = [trial.state.name for trial in trials]
    assert len(states) == 20
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states.count("PRUNED") >= 7
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 20
    for trial, job in zip(trials, read_sweep(folder).jobs, strict=True):
        assert job.state == ("pruned" if trial.state.name == "PRUNED" else "done")
        epochs = [row["epoch"] for row in read_metrics(RunFolder(Path(str(job.note.run))).metrics) if "val/miou" in row]
        assert epochs == list(range(len(epochs))), "each epoch once"
        assert len(epochs) == 6 or job.state == "pruned"
