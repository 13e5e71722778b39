"""Jobs on a Ray cluster: what they need, what is refused, and a machine that is lost in mid-training."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.config.ray_jobs import RayJobs, cluster
from src.errors import UserError
from src.runs.folder import RunFolder
from src.runs.metrics_csv import read_metrics
from src.runs.sweep import read_sweep
from tests.support.paths import ROOT, TINY

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4, "RAY_USAGE_STATS_ENABLED": "0"}


def machine(cpus: float, gpus: float = 0, *, is_alive: bool = True) -> dict[str, Any]:
    return {"Alive": is_alive, "Resources": {"CPU": cpus, "memory": 1e9} | ({"GPU": gpus} if gpus else {})}


@pytest.mark.parametrize(
    ("jobs", "machines", "expected"),
    [
        (RayJobs(), [machine(2)], {"num_cpus": 1, "num_gpus": 0}),
        (RayJobs(), [machine(2), machine(8, 4)], {"num_cpus": 1, "num_gpus": 1}),
        (RayJobs(num_cpus=8, num_gpus=0.5), [machine(16), machine(8, 1)], {"num_cpus": 8, "num_gpus": 0.5}),
        (RayJobs(num_gpus=0), [machine(2, 4)], {"num_cpus": 1, "num_gpus": 0}),
    ],
)
def test_what_a_job_needs(jobs: RayJobs, machines: list[dict[str, Any]], expected: dict[str, float]) -> None:
    assert jobs._needs(machines) == expected


@pytest.mark.parametrize(
    "machines", [[machine(4), machine(1, 2)], [machine(4, 2, is_alive=False), machine(4)]], ids=["apart", "dead"]
)
def test_more_than_any_machine_has_is_refused(machines: list[dict[str, Any]]) -> None:
    with pytest.raises(
        UserError, match=r"^hydra\.launcher\.num_cpus=2 num_gpus=2: no machine .* they have 4 CPUs and 0"
    ):
        RayJobs(num_cpus=2, num_gpus=2)._needs(machines)


@pytest.mark.parametrize("given", ["x", -1, float("nan")])
def test_a_wrong_number_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.num_gpus={given}: must be null or a number, at least 0$"):
        RayJobs(num_gpus=given)
    with pytest.raises(UserError, match=rf"^hydra\.launcher\.num_cpus={given}: must be a whole number, at least 1$"):
        RayJobs(num_cpus=given)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^hydra/launcher=ray: needs the package ray; pip install it"), cluster(None):
        pass


def test_an_address_where_no_cluster_is() -> None:
    with (
        pytest.raises(UserError, match=r"address=127\.0\.0\.1:9: no Ray cluster answers there"),
        cluster("127.0.0.1:9"),
    ):
        pass


def start(*words: str) -> subprocess.Popen:
    """Starts a machine of a cluster, as `ray start` does, with one CPU."""
    command = [str(Path(sys.executable).with_name("ray")), "start", *words, "--num-cpus=1", "--block"]
    return subprocess.Popen(command, env={**os.environ, **TOKEN}, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture
def machines() -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a cluster of two machines, and their processes, of which the first is the head."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    started = [start("--head", f"--port={port}", "--include-dashboard=false")]
    status = [str(Path(sys.executable).with_name("ray")), "status", f"--address={address}"]
    try:
        for number in (1, 2):
            end = time.monotonic() + 180
            while time.monotonic() < end:
                shown = subprocess.run(status, env={**os.environ, **TOKEN}, capture_output=True, text=True, check=False)
                if len(re.findall(r"\b1 node_", shown.stdout)) == number:
                    break
                time.sleep(1)
            else:
                raise TimeoutError(f"machine {number}: {shown.stdout}{shown.stderr}")
            if number == 1:
                started.append(start(f"--address={address}"))
        yield address, started
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


@pytest.mark.slow
def test_the_job_of_a_lost_machine_goes_on_at_another(
    machines: tuple[str, list[subprocess.Popen]], tmp_path: Path
) -> None:
    address, started = machines
    runs, log = tmp_path / "runs", tmp_path / "log"
    small = [word for word in TINY if not word.startswith("trainer.max_epochs")]
    chosen = ["seed=0,1,2", *small, "trainer.max_epochs=8", f"runs={runs}"]
    place = ["hydra/launcher=ray", f"hydra.launcher.address={address}"]
    with log.open("w") as file:
        command, env = [sys.executable, "-m", "src.train", "-m", *chosen, *place], {**os.environ, **TOKEN}
        driver = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
    while len(list(runs.glob("*/checkpoints/last.ckpt"))) < 2:
        assert driver.poll() is None, log.read_text()
        time.sleep(0.05)
    os.killpg(started[1].pid, signal.SIGKILL)
    assert driver.wait(600) == 0, log.read_text()
    (folder,) = runs.glob("sweeps/*")
    assert [job.state for job in read_sweep(folder).jobs] == ["done"] * 3
    assert "Task _run failed. There are 3 retries remaining" in log.read_text()
    for path in runs.glob("*/results.json"):
        epochs = [row["epoch"] for row in read_metrics(RunFolder(path.parent).metrics) if "val/miou" in row]
        assert epochs == list(range(8)), "each epoch once"
