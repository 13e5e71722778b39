"""A search by optuna: the values of a word, 20 trials through two kills, and the end of a training below the others."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from src.callbacks.pruning import Pruning
from src.config.search import Search, corners, distribution
from src.errors import UserError
from src.runs.study import Place, claimed, open_study
from src.runs.sweep import read_sweep
from tests.support.small import checkpoint, fit, small_task

WORDS = ["model=unet,fcn", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "data.batch_size=int(interval(2,8))", "seed=3"]


class KilledError(Exception):
    pass


class Launcher:
    """Runs a function of (number, values) in the place of a training: its figure, `pruned`, an error or a kill."""

    def __init__(self, folder: Path, work: Callable[[int, dict[str, str]], Any]) -> None:
        self.folder, self.work = folder, work
        self.seen: list[tuple[int, tuple[str, ...]]] = []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        ((*words,),) = jobs
        self.seen.append((initial_job_idx, tuple(words)))
        found = self.work(initial_job_idx, dict(word.split("=", 1) for word in words))
        if found == "kill":
            raise KilledError
        result = JobReturn(status=JobStatus.COMPLETED if isinstance(found, float) else JobStatus.FAILED)
        result.return_value = found
        if found == "pruned":
            study = open_study(self.folder, 5)
            study._storage.set_trial_user_attr(study.get_trials()[initial_job_idx]._trial_id, "pruned", True)
        return [result]


def search(folder: Path, work: Callable[[int, dict[str, str]], Any], trials: int = 20) -> tuple[Search, Launcher]:
    found = Search(trials, startup_trials=5, prune=True, seed=0)
    found.folder, found.loader, found.composed = folder, None, None
    found.checked = lambda job: nullcontext()
    launcher = found.start = Launcher(folder, work)
    return found, launcher


def peak(number: int, values: dict[str, str]) -> float:
    """Best at a rate of 1e-2."""
    return 1 - (math.log10(float(values["optimizer.lr"])) + 2) ** 2 / 10 - 0.1 * (values["model"] == "fcn")


def test_twenty_trials_killed_twice_none_lost_and_none_twice(tmp_path: Path) -> None:
    killed = [4, 11]

    def work(number: int, values: dict[str, str]) -> float | str:
        if number in killed:
            killed.remove(number)
            return "kill"
        return "pruned" if number % 3 == 2 else peak(number, values)

    jobs = []
    for _ in range(2):
        found, launcher = search(tmp_path, work)
        with pytest.raises(KilledError):
            found.sweep(WORDS)
        jobs += launcher.seen
    found, launcher = search(tmp_path, work)
    best = found.sweep(WORDS)
    jobs += launcher.seen
    assert [number for number, _ in jobs] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 11, *range(12, 20)]
    assert len(set(jobs)) == 20, "a trial that was killed is trained with the same words"
    trials = open_study(tmp_path, 5).get_trials()
    assert [trial.number for trial in trials if trial.state.name == "PRUNED"] == [2, 5, 8, 11, 14, 17]
    assert best == max(trial.value for trial in trials if trial.value is not None) > 0.9
    assert all(words[0] == "seed=3" for _, words in jobs)
    again, launcher = search(tmp_path, work)
    assert again.sweep(WORDS) == best
    assert launcher.seen == []
    assert {job.state for job in read_sweep(tmp_path).jobs} == {"pruned"}, (
        "the others are noted by the callback of Hydra"
    )


def test_a_search_in_one_go_chooses_the_same(tmp_path: Path) -> None:
    whole, first = search(tmp_path / "whole", peak, trials=8)
    whole.sweep(WORDS)
    parts: list[Any] = []
    for trials in (3, 8):
        part, launcher = search(tmp_path / "parts", peak, trials=trials)
        part.sweep(WORDS)
        parts += launcher.seen
    assert parts == first.seen
    assert len({words for _, words in parts}) == 8, "no two trials have the same values"


def test_a_trial_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    study = open_study(tmp_path, 5)
    study.ask()
    found, launcher = search(tmp_path, peak, trials=3)
    with claimed(tmp_path, 0):
        found.sweep(WORDS)
    assert [number for number, _ in launcher.seen] == [1, 2]


def test_a_trial_that_a_process_beside_this_one_has_finished_is_not_trained_again(tmp_path: Path) -> None:
    study = open_study(tmp_path, None)
    study.tell(study.ask(), 0.5)
    found, launcher = search(tmp_path, peak)
    assert found._run(study, 0, [], tmp_path) == 0
    assert launcher.seen == []


def test_failed_trials_are_an_error_at_the_end(tmp_path: Path) -> None:
    found, launcher = search(
        tmp_path, lambda number, values: ValueError("x") if number == 1 else peak(number, values), 4
    )
    with pytest.raises(UserError, match="1 of the trials failed; the table says why"):
        found.sweep(WORDS)
    assert len(launcher.seen) == 4


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=x,y", "CategoricalDistribution(choices=('x', 'y'))"),
        ("a=range(2,7,2)", "IntDistribution(high=6, log=False, low=2, step=2)"),
        ("a=range(0.5,2)", "CategoricalDistribution(choices=('0.5', '1.5'))"),
        ("a=int(interval(1,9))", "IntDistribution(high=9, log=False, low=1, step=1)"),
        ("a=interval(0.5,1)", "FloatDistribution(high=1.0, log=False, low=0.5, step=None)"),
        ("a=tag(log,interval(1e-4,1e-1))", "FloatDistribution(high=0.1, log=True, low=0.0001, step=None)"),
    ],
)
def test_the_values_of_a_word(word: str, expected: str) -> None:
    assert str(distribution(OverridesParser.create().parse_override(word))) == expected


def test_each_choice_and_both_ends_are_checked() -> None:
    words = ["model=unet,fcn,dpt", "optimizer.lr=interval(1,2)", "data.batch_size=range(2,8,3)", "a=b,c"]
    space = {word.partition("=")[0]: distribution(OverridesParser.create().parse_override(word)) for word in words}
    assert corners(space) == [
        ["model=unet", "optimizer.lr=1.0", "data.batch_size=2", "a=b"],
        ["model=fcn", "optimizer.lr=2.0", "data.batch_size=5", "a=c"],
        ["model=dpt", "optimizer.lr=1.0", "data.batch_size=2", "a=b"],
    ]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, _ = search(tmp_path / "search", peak)
    with pytest.raises(UserError, match=r"^hydra/sweeper=optuna: needs the package optuna; pip install it"):
        found.sweep(WORDS)
    assert not (tmp_path / "search").exists()


def test_words_without_a_choice_are_refused(tmp_path: Path) -> None:
    found, _ = search(tmp_path, peak)
    with pytest.raises(UserError, match=r"no word has several values, such as optimizer\.lr=interval"):
        found.sweep(["seed=3"])


@pytest.mark.parametrize("others", [2.0, -1.0])
def test_a_training_below_the_median_of_the_others_ends(others: float, tmp_path: Path) -> None:
    study = open_study(tmp_path, 3)
    for _ in range(3):
        trial = study.ask()
        for epoch in (1, 2, 3):
            trial.report(others * (epoch > 1) - (epoch == 1), epoch)
        study.tell(trial, 0.5)
    place = Place.of(str(Place(tmp_path, study.ask().number, 3)))
    if others < 0:
        fit(tmp_path, small_task(), [Pruning(place)])
        assert "pruned" not in study.get_trials()[3].user_attrs
        return
    with pytest.raises(UserError, match=r"^pruned after epoch 2: val/miou 0\.\d+ is below the median of the other"):
        fit(tmp_path, small_task(), [Pruning(place)])
    assert study.get_trials()[3].user_attrs["pruned"]
    assert set(study.get_trials()[3].intermediate_values) == {1, 2}
    assert checkpoint(tmp_path)["epoch"] == 0
    assert Place.of(str(Place(tmp_path, 3, None))).startup_trials is None
