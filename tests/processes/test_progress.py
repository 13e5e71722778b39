"""Progress bars of trainings in other processes."""

import io
import logging
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from src.processes import progress
from src.runs.folder import RunFolder
from src.runs.metrics_csv import epochs_done


def write_epochs(run: RunFolder, count: int) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    rows = [f"{10 * epoch + 9},{epoch},0.5" for epoch in range(count)]
    run.metrics.write_text("\n".join(["step,epoch,train/loss", *rows, ""]))


def test_epochs_are_read_from_the_csv(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "fold0")
    assert epochs_done(run.metrics) == 0
    for count in (0, 1, 3):
        write_epochs(run, count)
        assert epochs_done(run.metrics) == count


@pytest.mark.parametrize(("terminal", "enabled"), [(True, True), (False, True), (True, False)])
def test_bars_grow_with_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, enabled: bool
) -> None:
    screen, outside = io.StringIO(), sys.stdout
    console = Console(file=screen, force_terminal=terminal, width=80)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    runs = {f"[b]fold {number}": RunFolder(tmp_path / f"fold{number}") for number in range(2)}
    try:
        with progress.show_progress(runs, 4, enabled=enabled):
            write_epochs(runs["[b]fold 1"], 3)
            logging.getLogger().warning("a line")
            time.sleep(0.5)
    finally:
        logging.getLogger().removeHandler(handler)
    assert handler.stream is sys.stdout is outside
    text = screen.getvalue()
    for part in ("[b]fold 0", "0/4", "[b]fold 1", "3/4", "a line"):
        assert (part in text) == (terminal and enabled), part
