"""A sweep while its jobs run: the lines of a log file, the table of a terminal, and the time that is left."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from src.config.messages import printable
from src.reports import sweep_live
from src.reports.sweep import live_state, progress
from src.runs.folder import RunFolder
from src.runs.sweep import PLAN, Plan, note_job, read_sweep, write_plan
from tests.support.records import evaluation


def make(folder: Path) -> None:
    """Writes a sweep of eight jobs: two done in 4 and 8 minutes, one failed, two running, three queued."""
    write_plan(folder, Plan(["seed"], 8))
    for number in range(5):
        note_job(folder / str(number), words=["model=fcn", f"seed={number}"])
    for number, minutes in ((0, 4), (1, 8)):
        run = RunFolder(folder.parent / f"run{number}")
        run.add_evaluation(replace(evaluation(), miou=0.25 + number / 4), finished=True)
        session = {"started": "2026-11-27T10:00:00+00:00", "ended": f"2026-11-27T10:0{minutes}:00+00:00"}
        run.environment.write_text(json.dumps({"id": "0", "sessions": [session]}))
        note_job(folder / str(number), run=str(run.path))
    note_job(folder / "2", error="[bold]no\x1b[31m memory")
    run = RunFolder(folder.parent / "run3")
    run.path.mkdir()
    run.metrics.write_text("step,epoch,train/loss\n9,0,0.5\n19,1,0.5\n")
    note_job(folder / "3", run=str(run.path))


def shown(folder: Path) -> str:
    stream = io.StringIO()
    Console(file=stream, width=150).print(live_state(read_sweep(folder), printable))
    return stream.getvalue()


def test_the_state_of_a_sweep(tmp_path: Path) -> None:
    make(tmp_path / "sweep")
    # Six minutes a job: three queued and half of two running ones, two at a time.
    assert progress(read_sweep(tmp_path / "sweep")) == (
        "sweep: 2 of 8 jobs done, 1 failed; best val/miou 0.5000 (job 1: seed=1); 2 running, 3 queued, "
        "about 0:12:00 left"
    )


def test_the_table_has_the_running_and_the_failed_jobs(tmp_path: Path) -> None:
    make(tmp_path / "sweep")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown(tmp_path / "sweep").splitlines()]
    assert [row for row in rows if row] == [
        ["2", "2", "", "failed: [bold]no\\x1b[31m memory"],
        ["3", "3", "2", "running"],
        ["4", "4", "", "running"],
    ]
    assert "3 queued, about 0:12:00 left" in shown(tmp_path / "sweep")


def test_without_a_running_or_failed_job_there_is_no_table(tmp_path: Path) -> None:
    write_plan(tmp_path / "sweep", Plan(["seed"], 8))
    assert shown(tmp_path / "sweep") == "sweep: 0 of 8 jobs done; 8 queued\n"


def test_jobs_of_a_start_that_was_killed_are_queued_until_they_begin_again(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    make(folder)
    later = (folder / PLAN).stat().st_mtime_ns + 60 * 10**9
    os.utime(folder / PLAN, ns=(later, later))
    assert progress(read_sweep(folder)).endswith("(job 1: seed=1); 6 queued, about 0:36:00 left")
    os.utime(folder / "3" / "job.json", ns=(later, later))
    assert [job.number for job in read_sweep(folder).running] == [3]
    assert read_sweep(folder).queued == 5


def test_a_log_gets_a_line_for_each_job_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_live, "EVERY_S", 0.01)
    make(tmp_path / "sweep")
    with sweep_live.following(tmp_path / "sweep", printable):
        note_job(tmp_path / "sweep" / "4", error="late")
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition("; sweep: ")[0] for line in lines] == [
        "job 0 (seed=0): done, val/miou 0.2500",
        "job 1 (seed=1): done, val/miou 0.5000",
        "job 2 (seed=2): failed: [bold]no\\x1b[31m memory",
        "job 4 (seed=4): failed: late",
    ]
    assert lines[-1].endswith("2 of 8 jobs done, 2 failed; best val/miou 0.5000 (job 1: seed=1); 1 running, 3 queued, "
                              "about 0:21:00 left")  # fmt: skip


def test_a_terminal_gets_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    monkeypatch.setattr(sweep_live, "Console", lambda **_: console)
    make(tmp_path / "sweep")
    with sweep_live.following(tmp_path / "sweep", printable):
        (tmp_path / "sweep" / "4" / "job.json").write_text("{")  # a damaged record does not end the sweep
    assert capfd.readouterr().out == ""
    make(tmp_path / "other" / "sweep")
    with sweep_live.following(tmp_path / "other" / "sweep", printable):
        pass
    assert "running" in stream.getvalue()
