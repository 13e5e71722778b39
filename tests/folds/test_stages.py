"""`src.stages`: what it starts, in which order and from where; where it goes on; what it tells."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from src import stages
from src.folds.intervals import summarise
from src.runs.folder import RunFolder, describe_evaluation
from src.stages import WINNER
from tests.support.paths import ROOT, TINY
from tests.support.processes import assert_same_weights, finish, kill_then_finish, sessions, wait_until

STAGES = sorted(path.stem for path in (ROOT / "conf" / "stages").glob("*.yaml"))
WORDS = tuple(word for word in TINY if "max_epochs" not in word)
TWO = (*WORDS, "stages=two", "data.num_folds=2", "data.fold_gap=0")


def evaluation(split: str, taints: tuple[str, ...] = ()) -> dict:
    protocol = {"labels": "streets-11", "split": split, "images": 2, "inference": "whole", "precision": "32-true"}
    checkpoint = {"name": "best", "epoch": 1, "step": 2}
    return describe_evaluation(np.array([[3, 1], [0, 4]]), ["a", "b"], protocol, checkpoint, taints)


class Processes:
    """In place of src.crossval and src.aggregate: notes their commands, leaves what they leave."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failing: int | None = None  # the place of a command
        self.figures = [0.7, 0.8]  # of the folds

    def start(self, command: Sequence[str], path: Path, device: int | None) -> int:
        self.commands.append(list(command))
        path.write_text(f"$ python -m {' '.join(command)}\n")
        if len(self.commands) - 1 == self.failing:
            path.write_text(f"$ python -m {' '.join(command)}\nerror: no space left\n")
            return 1
        given = dict(word.partition("=")[::2] for word in command[1:])
        if command[0] == "src.crossval":
            folder = Path(given["runs"].strip("'")) / given["name"]
            (folder / "fold0").mkdir(parents=True, exist_ok=True)
            (folder / "fold0" / "metrics.csv").write_text("step,epoch,val/miou\n9,0,0.5\n")
            taints = ("weights were trained on 2 of these images",) if "init_from" in given else ()
            own, official = evaluation("fold 0 of 2", taints), evaluation("val")
            fold = {"run": str(folder / "fold0"), "own": own, "official": official}
            summaries = {"own": vars(summarise(self.figures))}
            (folder / "crossval.json").write_text(json.dumps({"folds": [fold], "summaries": summaries}))
        else:
            run = RunFolder(Path(given["out"].strip("'")))
            one = {"name": "best run", "selection": evaluation("fold 0 of 2"), "official": evaluation("val")}
            run.add_evaluation(evaluation("val"), finished=True)
            record = {"select_on": given["select_on"], "winner": "best run", "candidates": [one]}
            (run.path / "aggregate.json").write_text(json.dumps(record))
            (run.path / "config.yaml").write_text("data: {classes: {a: [1, 2, 3], b: [4, 5, 6]}}\n")
        return 0


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    fake = Processes()
    monkeypatch.setattr(stages, "start", fake.start)
    return fake


def starts(processes: Processes) -> list[str | None]:
    """Where each cross-validation starts from."""
    found = []
    for command in processes.commands:
        if command[0] == "src.crossval":
            words = [word for word in command if "init_from=" in word]
            found.append(words[0] if words else None)
    return found


def test_each_stage_starts_from_the_winner_of_the_one_before(cli, processes: Processes, tmp_path: Path) -> None:
    assert cli("stages", *TWO, f"runs={tmp_path}", "name=x") == evaluation("val")["miou"]
    folder = tmp_path / "x"
    modules = [command[0] for command in processes.commands]
    assert modules == ["src.crossval", "src.aggregate"] * 2
    assert starts(processes) == [None, f"init_from='{folder}/1_first/aggregate'"]
    first, average, second, _ = processes.commands
    assert {"trainer.max_epochs=4", f"runs='{folder}'", "name=1_first", "data.num_folds=2"} <= set(first)
    assert {"optimizer.lr=1e-3", "name=2_second"} <= set(second)
    assert f"from='{folder}/1_first'" in average
    assert {"select_on=fold_val", "holdout=null", "top_k=3", "batchnorm_images=256", "accelerator=cpu"} <= set(average)
    table = (folder / "stages.md").read_text()
    assert "| 1_first | 75.00 % | 77.50 % | best run |" in table
    assert "| 2_second | 75.00 %† | 77.50 % | best run |" in table
    assert "† fold 0 of 2: weights were trained on 2 of these images" in table
    assert {"averages.png", "progress.png", "history.png"} <= {path.name for path in folder.iterdir()}


def test_what_has_changed_is_told_anew(cli, processes: Processes, tmp_path: Path) -> None:
    cli("stages", *TWO, f"runs={tmp_path}", "name=x")
    processes.figures = [0.5, 0.6]
    cli("stages", *TWO, f"runs={tmp_path}", "name=x")
    assert "| 1_first | 55.00 % | 77.50 % | best run |" in (tmp_path / "x" / "stages.md").read_text()


def test_lineages_apart(cli, processes: Processes, tmp_path: Path) -> None:
    cli("stages", *TWO, f"runs={tmp_path}", "name=x", "lineage=separate", "aggregate.top_k=2")
    assert starts(processes) == [None, f"crossval.init_from='{tmp_path}/x/1_first'"]
    assert "top_k=2" in processes.commands[1]
    assert "†" not in (tmp_path / "x" / "stages.md").read_text()


def test_a_stage_that_fails_ends_it_and_the_same_command_goes_on(cli, fails, processes, tmp_path: Path) -> None:
    processes.failing = 1
    message = fails("stages", *TWO, f"runs={tmp_path}", "name=x")
    log = tmp_path / "x" / "1_first.log"
    assert message == (
        f"stage 1_first failed, and the next ones start from it: no space left; log: {log}; the same command goes on "
        "here"
    )
    assert len(processes.commands) == 2
    processes.failing, processes.commands = None, []
    cli("stages", *TWO, f"runs={tmp_path}", "name=x")
    assert len(processes.commands) == 4, "what is done finds itself done"


def test_names_are_stable_and_tell_what_matters(cli, processes: Processes, tmp_path: Path) -> None:
    for more in ([], ["data.num_workers=1"], ["lineage=separate"], ["stages.first.epochs=2"], ["resume=false"]):
        cli("stages", *TWO, f"runs={tmp_path}", *more)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4
    assert all(name.startswith("stages-two-2folds-s0-") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.num_folds=null"], "src.stages trains every fold: give data.num_folds=5, and no data.fold"),
        (["trainer.max_epochs=3"], "trainer.max_epochs: is each stage's own; give stages.NAME.epochs"),
        (["init_from=x"], "init_from: is each stage's own; the first stage alone could take it: stages.NAME.overrides"),
        (["lineage=both"], "lineage=both: must be one of aggregate, separate"),
        (["stages.first.epochs=0"], "stages.first.epochs=0: must be a whole number, at least 1"),
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
def test_mistakes_are_told_before_anything_starts(
    fails, processes: Processes, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert fails("stages", *TWO, f"runs={tmp_path}", *arguments).startswith(message)
    assert processes.commands == []


@pytest.mark.parametrize("name", STAGES)
def test_every_list_of_stages_composes(name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        listed = compose("stages", [f"stages={name}"]).stages
        for stage in listed.values():
            cfg = compose("crossval", [*stage.overrides, f"trainer.max_epochs={stage.epochs}", "init_from=x"])
            assert cfg.trainer.max_epochs == stage.epochs


def test_r2_is_what_its_report_says() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
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
            sys.executable, "-m", "src.stages", *TWO, "stages.first.epochs=1", "stages.second.epochs=1",
            f"runs={tmp_path}", f"name={lineage}", f"lineage={lineage}", "crossval.official_val=false",
        ]  # fmt: skip
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        records = json.loads((tmp_path / lineage / "stages.json").read_text())
        marks = [
            ["taints" in fold["own"]["protocol"] for fold in record["folds"]["folds"]] for record in records
        ]  # fmt: skip
        assert marks == [[False, False], [lineage == "aggregate"] * 2]
        assert re.search(r"2_second", (tmp_path / lineage / "stages.md").read_text())


@pytest.mark.slow
def test_killed_in_either_stage_and_between_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """SIGKILL of the whole process tree in each stage's training and in an average, then the same command."""
    words = (*TWO, "stages.first.epochs=3", "stages.second.epochs=3", "crossval.official_val=false", f"runs={tmp_path}")
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
