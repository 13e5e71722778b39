"""`src.stages`: its commands, their order and starts, what a failure leaves, and the table."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from src.config.stage_plan import plan_stages
from src.folds.stages import WINNER, StagesPlan
from src.processes import children
from src.runs.folder import STAGES, RunFolder
from src.runs.records import StageRecord
from src.runs.serial import read_record
from tests.support.compose import composed
from tests.support.fake_commands import TWO_STAGES, FakeStages
from tests.support.paths import CONF, ROOT
from tests.support.processes import assert_same_weights, finish, kill_then_finish, sessions, wait_until
from tests.support.records import evaluation

LISTS = sorted(path.stem for path in (CONF / "stages").glob("*.yaml"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    commands = FakeStages()
    monkeypatch.setattr(children, "run_module", commands.run_module)
    return commands


def plan(*words: str) -> StagesPlan:
    """The plan of two stages with more words on the command line."""
    with composed("stages", *TWO_STAGES, *words) as cfg:
        return plan_stages(cfg)


def starts(stages: StagesPlan) -> list[str | None]:
    """The override that each cross-validation starts by."""
    found = [[word for word in stage.train if "init_from=" in word] for stage in stages.stages]
    return [words[0] if words else None for words in found]


def test_each_stage_starts_from_the_winner_of_the_one_before(tmp_path: Path) -> None:
    stages, folder = plan(f"runs={tmp_path}", "name=x"), tmp_path / "x"
    assert starts(stages) == [None, f"init_from='{folder}/1_first/aggregate'"]
    first, second = stages.stages
    assert (first.train[0], first.average[0]) == ("src.crossval", "src.aggregate")
    assert {"trainer.max_epochs=4", f"runs='{folder}'", "name=1_first", "data.num_folds=2"} <= set(first.train)
    assert {"optimizer.lr=1e-3", "name=2_second"} <= set(second.train)
    assert f"from='{folder}/1_first'" in first.average
    assert f"out='{folder}/1_first/aggregate'" in first.average
    options = {"select_on=fold_val", "holdout=null", "top_k=3", "batchnorm_images=256", "accelerator=cpu"}
    assert options <= set(first.average)


def test_folds_of_one_lineage_start_from_their_own_runs(tmp_path: Path) -> None:
    stages = plan(f"runs={tmp_path}", "name=x", "lineage=separate", "aggregate.top_k=2")
    assert starts(stages) == [None, f"crossval.init_from='{tmp_path}/x/1_first'"]
    assert "top_k=2" in stages.stages[0].average


def test_stages_in_their_order_then_a_table(cli, fake: FakeStages, tmp_path: Path) -> None:
    words = ("stages", *TWO_STAGES, f"runs={tmp_path}", "name=x")
    assert cli(*words) == evaluation().miou
    folder = tmp_path / "x"
    stages = plan(*words[-2:]).stages
    assert fake.commands == [command for stage in stages for command in (stage.train, stage.average)]
    table = (folder / "stages.md").read_text()
    assert "| 1_first | 75.00 % | 77.50 % | best run |" in table
    assert "| 2_second | 75.00 %† | 77.50 % | best run |" in table
    assert "† fold 0 of 2 (by group, seed 42) of train: weights were trained on 2 of these images" in table
    assert {"averages.png", "progress.png", "history.png"} <= {path.name for path in folder.iterdir()}
    # Changed figures are reported again.
    fake.figures = [0.5, 0.6]
    cli(*words)
    assert "| 1_first | 55.00 % | 77.50 % | best run |" in (folder / "stages.md").read_text()


def test_separate_lineages_have_no_marks(cli, fake: FakeStages, tmp_path: Path) -> None:
    cli("stages", *TWO_STAGES, f"runs={tmp_path}", "name=x", "lineage=separate")
    assert "†" not in (tmp_path / "x" / "stages.md").read_text()


def test_a_stage_that_fails_ends_the_command_and_the_same_command_continues(
    cli, fails, fake: FakeStages, tmp_path: Path
) -> None:
    fake.failing = 1
    message = fails("stages", *TWO_STAGES, f"runs={tmp_path}", "name=x")
    log = tmp_path / "x" / "1_first.log"
    assert message == (
        f"stage 1_first failed, and the next ones start from it: no space left; log: {log}; the same command "
        "continues here"
    )
    assert len(fake.commands) == 2
    fake.failing, fake.commands = None, []
    cli("stages", *TWO_STAGES, f"runs={tmp_path}", "name=x")
    assert len(fake.commands) == 4, "what is done finds itself done"


def test_names_are_stable_and_change_with_the_configuration(tmp_path: Path) -> None:
    names = []
    for more in ([], ["data.num_workers=1"], ["lineage=separate"], ["stages.first.epochs=2"], ["resume=false"]):
        stages = plan(f"runs={tmp_path}", *more)
        stages.folder.mkdir(exist_ok=True)
        names.append(stages.folder.name)
    assert names[0] == names[1]
    assert names[4] == f"{names[0]}-2"
    assert len(set(names)) == 4
    assert all(name.startswith("stages-two-2folds-s0-") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.num_folds=null"], "src.stages trains every fold: give data.num_folds=5, and no data.fold"),
        (["trainer.max_epochs=3"], "trainer.max_epochs: is each stage's own; give stages.NAME.epochs"),
        (["init_from=x"], "init_from: is each stage's own; only the first stage could take it: stages.NAME.overrides"),
        (["crossval.init_from=x"], "crossval.init_from: is each stage's own; only the first stage could take it"),
        (["lineage=both"], "lineage=both: must be one of aggregate, separate"),
        (["stages.first.epochs=0"], "stages.first.epochs=0: must be a whole number, at least 1"),
        (["stages.first.epochs=true"], "stages.first.epochs=True: must be a whole number, at least 1"),
        (
            ['stages.second.overrides=["loss=c"]'],
            "stages.second with this command line: In 'train': Could not find 'loss/c'",
        ),
        (
            ['stages.second.overrides=["optimizer.lrr=1"]'],
            "stages.second with this command line: Could not override 'optimizer.lrr'",
        ),
    ],
)
def test_mistakes_are_found_before_anything_starts(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        plan(f"runs={tmp_path}", *arguments)
    assert not any(tmp_path.iterdir())


def test_a_command_without_a_list_of_stages_names_those_there_are(fails) -> None:
    assert fails("stages", "data.num_folds=2") == "stages is not set; give stages=NAME, one of r2, two"


@pytest.mark.parametrize("name", LISTS)
def test_every_list_of_stages_composes(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        listed = compose("stages", [f"stages={name}"]).stages
        for stage in listed.values():
            cfg = compose("crossval", [*stage.overrides, f"trainer.max_epochs={stage.epochs}", "init_from=x"])
            assert cfg.trainer.max_epochs == stage.epochs


def test_r2_has_the_stages_of_its_report() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        listed = compose("stages", ["stages=r2"]).stages
        composed = [compose("crossval", [*stage.overrides, "init_from=x"]) for stage in listed.values()]
    assert [stage.epochs for stage in listed.values()] == [10, 20, 20, 20, 20]
    assert [cfg.optimizer.lr for cfg in composed] == [1e-4, 1e-4, 5e-5, 5e-5, 5e-5]
    assert [cfg.loss.get("alpha") for cfg in composed] == [None, None, 0.6, 0.6, 0.5]
    assert [cfg.scheduler._target_.rpartition(".")[2] for cfg in composed] == ["plateau"] * 4 + ["cosine"]


@pytest.mark.slow
def test_two_real_stages_of_two_folds(tmp_path: Path) -> None:
    """The second stage's folds are marked where they start from the average; their own lineages are not."""
    for lineage in ("aggregate", "separate"):
        command = [
            sys.executable, "-m", "src.stages", *TWO_STAGES, "stages.first.epochs=1", "stages.second.epochs=1",
            f"runs={tmp_path}", f"name={lineage}", f"lineage={lineage}", "crossval.official_val=false",
        ]  # fmt: skip
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        records = read_record(tmp_path / lineage / STAGES, tuple[StageRecord, ...])
        marks = [[bool(own.protocol.taints) for own in record.folds.evaluations("own")] for record in records]
        assert marks == [[False, False], [lineage == "aggregate"] * 2]
        assert re.search(r"2_second", (tmp_path / lineage / "stages.md").read_text())


@pytest.mark.slow
def test_kills_in_either_stage_and_between_change_nothing(tmp_path: Path) -> None:
    """SIGKILL of the whole process tree in each stage's training and in an average, then the same command."""
    words = (
        *TWO_STAGES,
        "stages.first.epochs=3",
        "stages.second.epochs=3",
        "crossval.official_val=false",
        f"runs={tmp_path}",
    )
    seconds = finish("src.stages", *words, "name=whole")
    rng, folder = np.random.default_rng(), tmp_path / "killed"

    def trains(stage: str) -> bool:
        return bool(sessions(RunFolder(folder / stage / "fold0")))

    def averages(stage: str) -> bool:
        return (log := folder / f"{stage}.log").is_file() and "$ python -m src.aggregate" in log.read_text()

    def moment(begun: Callable[[str], bool], stage: str, share: float) -> None:
        """A random one of a share of the whole, from what has begun on."""
        wait_until(partial(begun, stage), 5 * seconds)
        time.sleep(rng.uniform(0, share * seconds))

    places = ((trains, "1_first", 0.2), (averages, "1_first", 0.08), (trains, "2_second", 0.2))
    kill_then_finish([partial(moment, *place) for place in places], "src.stages", *words, "name=killed")
    tables = [(tmp_path / name / "stages.md").read_text() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    for stage in ("1_first", "2_second"):
        for run in ("fold0", "fold1", WINNER):
            assert_same_weights(tmp_path / "whole" / stage / run, folder / stage / run)
