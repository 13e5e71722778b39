"""Sweeps by the command line and by the recipes in conf/sweep: their jobs, and what is refused before the first."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode

from src.config import sweep as record
from src.config.grid import Grid
from src.config.kinds import check_kinds
from src.config.search import Search
from src.config.sweep import check_sweep_words
from src.errors import UserError
from src.runs.sweep import read_sweep
from tests.support.compose import composed
from tests.support.paths import CONF

RECIPES = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
# Number of jobs of each recipe; of a search, the number of trials.
COUNTS = {
    "augmentations": 8, "backbones": 9, "folds": 5, "learning_rates": 14, "search_network": 40, "search_optimizer": 20,
    "seeds": 5,
}  # fmt: skip


class Launcher:
    """Records the jobs in the place of running them."""

    def __init__(self) -> None:
        self.jobs: list[list[str]] = []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.jobs += map(list, jobs)
        result = JobReturn(status=JobStatus.COMPLETED)
        result.return_value = 0.5
        return [result] * len(jobs)


@contextmanager
def sweeper(folder: Path, *words: str) -> Iterator[Any]:
    """The sweeper that the command line chooses, with a launcher that records the jobs."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        cfg = loader.load_configuration(
            "train", [*words, "hydra.job.config_name=train", "hydra.mode=MULTIRUN"], RunMode.MULTIRUN
        )
        options = {key: value for key, value in cfg.hydra.sweeper.items() if key != "_target_"}
        found = {"Grid": Grid, "Optuna": Search}[cfg.hydra.sweeper["_target_"].rpartition(".")[2][:-7]](**options)
        found.composed, found.loader, found.folder, found.start = cfg, loader, folder, Launcher()
        yield found


def jobs(folder: Path, *words: str) -> list[list[str]]:
    with sweeper(folder, *words) as found:
        found.sweep(list(words))
        return found.start.jobs


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the sweep of this process is recorded."""
    monkeypatch.setattr(record, "_open", tmp_path)
    return tmp_path


def test_every_recipe_is_tested() -> None:
    assert set(RECIPES) == COUNTS.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_a_command_a_number_of_jobs_and_words_that_compose(name: str, tmp_path: Path) -> None:
    text = (CONF / "sweep" / f"{name}.yaml").read_text()
    assert f"#   python -m src.train -m sweep={name} " in text
    assert re.search(rf"^# {COUNTS[name]} (jobs|trials)\b", text, re.MULTILINE)
    with sweeper(tmp_path, f"sweep={name}") as found:
        overrides = found.overrides([f"sweep={name}"])
        if isinstance(found, Search):
            assert found.trials == COUNTS[name]
            found.trials, found.prune = 2, False
            found.sweep([f"sweep={name}"])
            tried = found.start.jobs
        else:
            (tried,) = BasicSweeper.split_arguments(overrides, None)
            assert len(tried) == COUNTS[name]
        for words in (tried[0], tried[-1]):
            assert {word.partition("=")[0] for word in words} == {*found.params, "sweep"}
            HydraConfig.instance().set_config(cfg := compose("train", words, return_hydra_config=True))
            check_kinds(cfg)
        HydraConfig.instance().cfg = None
    for each in overrides:
        if (CONF / each.key_or_group).is_dir() and each.is_sweep_override():
            names = list(each.sweep_string_iterator())
            assert all((CONF / each.key_or_group / f"{choice}.yaml").is_file() for choice in names)
            assert len(set(names)) == len(names) > 1


def test_the_grid_of_r4_has_each_optimiser_at_each_rate(tmp_path: Path) -> None:
    with sweeper(tmp_path, "sweep=learning_rates") as found:
        (jobs,) = BasicSweeper.split_arguments(found.overrides([]), None)
    pairs = [(name.partition("=")[2], float(rate.partition("=")[2])) for name, rate in jobs]
    assert pairs == [(name, pytest.approx(10.0**-power)) for name in ("sgd", "adam") for power in range(7)]


def test_the_command_line_wins_over_a_recipe_and_two_combine(recorded: Path) -> None:
    found = jobs(recorded, "sweep=[seeds,folds]", "seed=7", "data.fold=0,1", "model=fcn")
    assert found == [["sweep=[seeds,folds]", "seed=7", f"data.fold={fold}", "model=fcn"] for fold in (0, 1)]
    plan = read_sweep(recorded).plan
    assert (plan.factors, plan.jobs, plan.dropped) == (["data.fold"], 2, {})


PAIRS = ("model=unet,fcn,dpt", "backbone=resnet18,tiny_vit")


@pytest.mark.usefixtures("no_random_weights")
def test_an_impossible_pair_is_refused_before_the_first_job(recorded: Path) -> None:
    with sweeper(recorded, *PAIRS) as found:
        with pytest.raises(UserError, match=r"^model=unet backbone=tiny_vit: .*; no job was"):
            found.sweep(list(PAIRS))
        assert found.start.jobs == []
    assert not list(recorded.iterdir())
    with pytest.raises(
        UserError, match=r"no job was started, for 1 of 2 combinations cannot be trained; hydra\.sweeper"
    ):
        jobs(recorded, "model=dpt", "backbone=tiny_vit,resnet18")


@pytest.mark.usefixtures("no_random_weights")
def test_impossible_pairs_are_left_out_by_a_rule_and_recorded(recorded: Path) -> None:
    with sweeper(recorded, *PAIRS, "hydra.sweeper.drop_impossible=true") as found:
        found.sweep(list(PAIRS))
        assert found.start.jobs == [["model=unet", "backbone=resnet18"], ["model=dpt", "backbone=tiny_vit"]]
    plan = read_sweep(recorded).plan
    assert plan.jobs == 2
    assert plan.dropped.keys() == {
        "model=unet backbone=tiny_vit", "model=fcn backbone=resnet18", "model=fcn backbone=tiny_vit",
        "model=dpt backbone=resnet18",
    }  # fmt: skip
    assert "takes only plain vision transformers" in plan.dropped["model=dpt backbone=resnet18"]


@pytest.mark.usefixtures("no_random_weights")
def test_a_sweep_of_impossible_pairs_only_has_no_job(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^this sweep has no job: all 2 combinations are impossible: model=dpt"):
        jobs(tmp_path, "model=dpt,fcn", "backbone=resnet18", "hydra.sweeper.drop_impossible=true")


@pytest.mark.e2e
@pytest.mark.usefixtures("no_random_weights")
def test_the_backbones_that_a_network_does_not_take_are_left_out(recorded: Path) -> None:
    found = jobs(recorded, "sweep=backbones", "model=deeplabv3plus,dpt")
    words = [dict(word.split("=") for word in job) for job in found]
    pairs = [(each["model"], each["backbone"]) for each in words]
    assert ("dpt", "vit_small") in pairs
    assert [backbone for model, backbone in pairs if model == "dpt"] == ["vit_small"]
    assert ("deeplabv3plus", "vit_small") not in pairs
    assert len(pairs) + len(read_sweep(recorded).plan.dropped) == 2 * COUNTS["backbones"]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("seed=0,x", r"^seed=x: must be a"),
        ("optimizer.lr=1,0", r"^optimizer\.lr=0.*must be a number"),
        ("loss=ce,cce", "cce"),
        ("data=streets,camvid", r"data\.root"),
    ],
)
def test_a_wrong_value_is_refused_before_the_first_job(word: str, why: str, tmp_path: Path) -> None:
    with sweeper(tmp_path, word) as found:
        before = HydraConfig.instance().cfg
        with pytest.raises(Exception, match=why):
            found.sweep([word])
        assert found.start.jobs == []
        assert HydraConfig.instance().cfg is before


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("optimizer.lr=interval(-1,1)", r"optimizer\.lr=-1"),
        ("optimizer.lr=interval(0.1,1) data.batch_size=range(2,-2,-1)", r"data\.batch_size=-1"),
        ("loss=ce,cce", "cce"),
        ("optimizer.lrate=interval(0.1,1)", "lrate"),
        ("optimizer.lr=interval(0.1,1) trainer.max_epochs=x", r"trainer\.max_epochs"),
    ],
)
def test_a_wrong_value_is_refused_before_the_first_trial(word: str, why: str, tmp_path: Path) -> None:
    with sweeper(tmp_path, "hydra/sweeper=optuna") as found:
        with pytest.raises(Exception, match=why):
            found.sweep(word.split())
        assert found.start.jobs == []
    assert not list(tmp_path.iterdir())


def test_the_error_of_the_first_failed_job_is_raised_after_all_batches(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def launch(jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        seen.append((initial_job_idx, len(jobs)))
        failed = JobReturn(status=JobStatus.FAILED)
        failed.return_value = UserError(f"from {initial_job_idx}")
        return [failed] * len(jobs)

    words = ["seed=0,1,2,3,4", "hydra.sweeper.max_batch_size=2"]
    with sweeper(tmp_path, *words) as found:
        found.start = SimpleNamespace(launch=launch)
        with pytest.raises(UserError, match="from 0"):
            found.sweep(words[:1])
    assert seen == [(0, 2), (2, 2), (4, 1)]


def test_a_recipe_without_m_is_an_error_and_not_ignored(fails) -> None:
    assert fails("train", "sweep=learning_rates", "optimizer=adam") == (
        "sweep=learning_rates: trains once for each value of optimizer, optimizer.lr, for which -m is needed: "
        "-m sweep=learning_rates; or give one value of each"
    )
    assert fails("crossval", "sweep=folds", "data.num_folds=2").startswith("sweep=folds: trains once for each value")


def test_a_job_of_a_recipe_can_be_repeated_by_its_own_command() -> None:
    with composed("train", "sweep=learning_rates", "optimizer=adam", "optimizer.lr=0.1"):
        check_sweep_words()


def test_recipes_are_no_values(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^sweep=seeds: recipes are no values to sweep over; 'sweep=\[A,B\]' combines"):
        jobs(tmp_path, "sweep=seeds,folds")
