"""The record of a sweep: what its jobs are, means over seeds, and the share of each factor, against numpy."""

import csv
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.reports.sweep import draw_summary, progress, summary, write_summary
from src.runs.folder import RunFolder
from src.runs.sweep import Plan, Sweep, note_job, read_sweep, write_plan
from tests.support.records import evaluation

LR, MODELS, SEEDS = ("0.1", "0.01"), ("unet", "fcn", "[pspnet]"), ("0", "1")


def make(folder: Path, miou: Callable[[int, int, int], float | str | None]) -> Sweep:
    """Writes a sweep of 12 jobs; `miou` gives the figure by the places of the levels, an error, or None."""
    write_plan(folder, Plan(["optimizer.lr", "model", "seed"], 12))
    for number, places in enumerate(itertools.product(range(2), range(3), range(2))):
        lr, model, seed = places
        words = ["data=streets", f"optimizer.lr={LR[lr]}", f"model={MODELS[model]}", f"+seed={SEEDS[seed]}"]
        note_job(folder / str(number), words=words)
        figure = miou(*places)
        if isinstance(figure, str):
            note_job(folder / str(number), error=figure)
        elif figure is not None:
            run = RunFolder(folder.parent / f"run{number}")
            run.add_evaluation(replace(evaluation(), miou=figure), finished=True)
            note_job(folder / str(number), run=str(run.path))
    return read_sweep(folder)


def noise(lr: int, model: int, seed: int) -> float:
    return float(np.random.default_rng([lr, model, seed]).uniform(0.1, 0.9))


def test_the_means_over_seeds_are_those_of_numpy(tmp_path: Path) -> None:
    sweep = make(tmp_path / "sweep", noise)
    groups = {tuple(group.values.values()): group.summary for group in sweep.groups()}
    assert len(groups) == 6
    for lr, model in itertools.product(range(2), range(3)):
        figures = [noise(lr, model, seed) for seed in range(2)]
        found = groups[LR[lr], MODELS[model]]
        assert (found.count, found.mean) == (2, pytest.approx(np.mean(figures)))
        assert found.deviation == pytest.approx(np.std(figures, ddof=1))
    assert sweep.best is not None
    assert sweep.best.number == np.argmax([noise(*at) for at in itertools.product(range(2), range(3), range(2))])


def test_the_shares_of_the_factors_are_those_of_an_analysis_of_variance(tmp_path: Path) -> None:
    sweep = make(tmp_path / "sweep", noise)
    cube = np.array([noise(*at) for at in np.ndindex(2, 3, 2)]).reshape(2, 3, 2)
    total = ((cube - cube.mean()) ** 2).sum()
    for axis, name in enumerate(sweep.plan.factors):
        others = tuple(each for each in range(3) if each != axis)
        between = ((cube.mean(axis=others, keepdims=True) - cube.mean()) ** 2 * np.ones_like(cube)).sum()
        assert sweep.effects()[name] == pytest.approx(between / total)
    additive = make(tmp_path / "additive", lambda lr, model, seed: 0.1 + 0.2 * lr + 0.07 * model + 0.01 * seed)
    assert sum(additive.effects().values()) == pytest.approx(1)


def test_no_share_of_an_incomplete_sweep(tmp_path: Path) -> None:
    sweep = make(tmp_path / "sweep", lambda lr, model, seed: 0.5 if (lr, model) != (1, 2) else None)
    assert sweep.effects() == {}
    assert {job.state for job in sweep.jobs} == {"done", "not finished"}


def test_every_factor_is_a_column_and_a_failure_has_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    sweep = make(
        folder, lambda lr, model, seed: "out of | memory" if (lr, model, seed) == (1, 0, 1) else 0.25 + lr / 10
    )
    write_summary(sweep, folder)
    text = (folder / "summary.md").read_text()
    assert text == summary(sweep)
    assert (
        text.splitlines()[0]
        == "| job | optimizer.lr | model | seed | run | val/miou | pixel accuracy | best epoch | state |"
    )
    assert "| 4 | 0.1 | [pspnet] | 0 | run4 | 0.2500 |" in text
    assert "| 0.01 | unet | 1 | 0.3500 |  |" in text, "one seed of this pair is left"
    assert "job 7 failed (optimizer.lr=0.01 model=unet seed=1): out of | memory" in text
    rows = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    assert [row["miou"] for row in rows] == ["0.25"] * 6 + ["0.35", ""] + ["0.35"] * 4
    assert rows[7]["error"] == "out of | memory"
    assert progress(sweep).startswith(
        "sweep: 11 of 12 jobs done, 1 failed; best val/miou 0.3500 (job 6: optimizer.lr=0.01"
    )


def test_two_jobs_of_one_run_count_once(tmp_path: Path) -> None:
    sweep = make(tmp_path / "sweep", lambda lr, model, seed: 0.5)
    note_job(tmp_path / "sweep" / "11", run=sweep.jobs[0].note.run)
    assert len(read_sweep(tmp_path / "sweep").done) == 11


@pytest.mark.draws
def test_the_plot(tmp_path: Path) -> None:
    path = draw_summary(make(tmp_path / "sweep", noise), tmp_path)
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert draw_summary(Sweep(Plan([], None)), tmp_path) is None
