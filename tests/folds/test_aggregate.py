"""`src.aggregate` end to end: what it compares, what it keeps, what it marks, and what it refuses."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src import aggregate, train
from src.config import cli
from src.runs.folder import RunFolder
from src.runs.leakage import exposure_before
from tests.support.paths import ROOT, TINY
from tests.support.wandb_files import run_record, summary

FOLDS = ("data.num_folds=3", "data.fold_gap=0", "data.dataset.num_train=6", "data.dataset.num_test=2")
CPU = "accelerator=cpu"


def launch(name: str, function: Callable, *arguments: str) -> object:
    returned = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"src.{name}", *arguments])
        cli.launch(lambda cfg: returned.append(function(cfg)), name)
    return returned[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of a small network, and one run of all of train."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = [argument for argument in TINY if "num_train" not in argument]
    for fold in range(3):
        arguments = (f"runs={folder / 'folds'}", f"name=fold{fold}", f"data.fold={fold}", f"seed={fold}")
        launch("train", train.train, *tiny, *FOLDS, *arguments)
    launch("train", train.train, *TINY, f"runs={folder}", "name=whole")
    return folder


@pytest.fixture
def folds(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "folds", tmp_path / "folds"))


def record(run: Path) -> dict:
    return json.loads((run / "aggregate.json").read_text())


def winner_of(folder: Path) -> Path:
    (run,) = folder.glob("aggregate-*")
    return run


def test_all_averages_are_compared_and_the_winner_is_a_run(folds: Path, cli, capfd: pytest.CaptureFixture[str]) -> None:
    miou = cli("aggregate", f"from={folds}", "top_k=2", CPU)
    told = capfd.readouterr().out
    run = winner_of(folds)
    assert run.name in told
    candidates = record(run)["candidates"]
    names = [each["name"] for each in candidates]
    assert names == ["best run", "mean of all", "mean of top 2", "greedy soup", "averaged probabilities"]
    assert (run / "aggregate.md").read_text().strip() in told
    assert [len(each["members"]) for each in candidates[:3]] == [1, 3, 2]
    (own,) = RunFolder(folds / candidates[0]["members"][0]).read_results()["evaluations"].values()
    assert candidates[0]["selection"]["checkpoint"] == own["checkpoint"] | {"name": "best run"}
    scores = [each["selection"]["miou"] for each in candidates[:-1]]
    (winner,) = [each for each in candidates if each["is_winner"]]
    assert winner["selection"]["miou"] == max(scores)
    # The folds' parts together are all of train, each image once; val is apart.
    assert winner["selection"]["protocol"]["images"] == 6
    assert winner["selection"]["protocol"]["split"] == "folds 0 1 2 of 3 (by block, gap 0) of train"
    assert winner["official"]["protocol"]["split"] == "val"
    assert winner["official"]["miou"] == miou
    (kept,) = json.loads((run / "results.json").read_text())["evaluations"].values()
    assert kept["matrix"] == winner["official"]["matrix"]
    pictures = {path.name for path in run.glob("*.png")}
    assert pictures == {"averages.png", "classes.png", "confusion.png", "shares.png"}
    # Others take it as they take any run.
    assert cli("eval", f"run={run}", CPU) == miou
    assert list(json.loads((run / "results.json").read_text())["evaluations"]) == [kept["tag"]]
    assert cli("predict", f"run={run}", "split=val", CPU) == 3
    cli("train", *TINY, f"init_from={run}", f"runs={folds.parent}", "name=next", "optimizer.lr=1e-12")
    # The same command finds it.
    before = (run / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    assert cli("aggregate", f"from={folds}", "top_k=2", CPU) == miou
    assert (run / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before


def test_averages_of_averages_and_what_w_and_b_is_told(
    folds: Path, cli, fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average of runs that were logged to W&B is, with its figures; an average of averages has no logger."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    path, given = folds / "fold0" / "config.yaml", ("top_k=2", CPU, "select_on=official_val")
    config = OmegaConf.load(path)
    config.logger = {"wandb": OmegaConf.load(ROOT / "conf" / "logger" / "default.yaml").wandb}
    path.write_text(OmegaConf.to_yaml(config))
    averages = [folds.parent / name for name in ("one", "two")]
    for seen, average in enumerate(averages):
        cli("aggregate", f"from={folds}", *given, f"batchnorm_images={8 + seen}", f"out={average}")
        shown, run = summary(average), run_record(average)
        assert (run.job_type, run.run_group, run.display_name) == ("aggregate", "folds", average.name)
        figures = {name.split("/")[1] for name in shown if name.startswith("figures")}
        assert figures == {"averages", "classes", "confusion", "shares", "table"}
        kept = next(iter(json.loads((average / "results.json").read_text())["evaluations"].values()))
        assert [value for name, value in shown.items() if name.startswith("winner/miou")] == [kept["miou"]]
    before = (averages[0] / "aggregate.json").read_bytes()
    assert "one: holds another run" in fails("aggregate", f"from={folds}", *given, f"out={averages[0]}")
    assert (averages[0] / "aggregate.json").read_bytes() == before
    cli("aggregate", f"runs=[{averages[0]},{averages[1]}]", *given, f"out={folds.parent / 'both'}")
    assert not (folds.parent / "both" / "wandb").exists()
    assert (folds.parent / "both" / "averages.png").is_file()


def test_what_is_seen_or_chosen_on_is_marked(folds: Path, cli) -> None:
    miou = cli("aggregate", f"from={folds}", "top_k=2", CPU, "select_on=official_val", f"out={folds.parent / 'chosen'}")
    run = folds.parent / "chosen"
    evaluation = next(iter(json.loads((run / "results.json").read_text())["evaluations"].values()))
    assert evaluation["miou"] == miou
    assert evaluation["protocol"]["taints"] == ["weights were chosen on 3 of these images"]
    assert evaluation["tag"].endswith("; TAINTED: weights were chosen on 3 of these images")
    table = (run / "aggregate.md").read_text()
    rows = {line.split("|")[1].strip(" *"): line for line in table.splitlines() if line.startswith("|")}
    assert "†" in rows["best run"]
    assert "†" in rows["mean of top 2"]
    assert "†" not in rows["averaged probabilities"], "takes all: nothing was chosen"
    assert "† val: weights were chosen on 3 of these images" in table
    # src.eval tells it too, and a run that starts from it inherits it, on val and on a fold.
    cli("eval", f"run={run}", CPU, "split=test")
    tags = list(json.loads((run / "results.json").read_text())["evaluations"])
    assert [("TAINTED" in tag) for tag in tags] == [True, False]
    cli("eval", f"run={run}", CPU)
    assert list(json.loads((run / "results.json").read_text())["evaluations"]) == tags
    cli("train", *TINY, *FOLDS, "data.fold=0", f"init_from={run}", f"runs={folds.parent}", "name=stage2")
    (own,) = json.loads((folds.parent / "stage2" / "results.json").read_text())["evaluations"].values()
    assert own["tag"].endswith("; TAINTED: weights were trained on 2 of these images")
    cli("eval", f"run={folds.parent / 'stage2'}", CPU, "split=val")
    tags = list(json.loads((folds.parent / "stage2" / "results.json").read_text())["evaluations"])
    assert tags[1].endswith("; TAINTED: weights were chosen on 3 of these images")


def test_a_lineage_of_its_own_stays_clean(folds: Path, cli) -> None:
    """A fold that starts from the same fold's weights has not seen its own part; one of another fold has."""
    for fold, start, taints in ((1, 1, None), (1, 0, ["weights were trained on 2 of these images"])):
        name = f"fold{fold}from{start}"
        cli(
            "train", *TINY, *FOLDS, f"data.fold={fold}", f"init_from={folds / f'fold{start}'}", f"name={name}",
            f"runs={folds.parent}",
        )  # fmt: skip
        (own,) = json.loads((folds.parent / name / "results.json").read_text())["evaluations"].values()
        assert own["protocol"].get("taints") == taints


def test_fold_and_official_figures_carry_their_own_marks(folds: Path, cli) -> None:
    cli("aggregate", f"from={folds}", "top_k=2", CPU)
    candidates = {each["name"]: each for each in record(winner_of(folds))["candidates"]}
    taints = [candidates["mean of all"][column]["protocol"].get("taints") for column in ("selection", "official")]
    assert taints[0][0] == "weights were trained on 6 of these images"
    assert taints[1] is None, "val was neither trained nor chosen on"
    trained = candidates["best run"]["selection"]["protocol"]["taints"][0]
    assert trained == "weights were trained on 4 of these images"
    before = exposure_before(winner_of(folds))
    assert len(before.chosen) == 6


def test_what_ancestors_saw_counts(folds: Path, cli) -> None:
    """A fold whose first weights were trained on an image of val, and chosen on another."""
    path = folds / "fold1" / "exposure.json"
    told = json.loads(path.read_text())
    told["before"] = {"trained": ["streets-11/0/val_00000"], "chosen": ["streets-11/0/val_00002"]}
    path.write_text(json.dumps(told))
    cli("aggregate", f"from={folds}", CPU)
    for each in record(winner_of(folds))["candidates"]:
        taints = [f"weights were {how} on 1 of these images" for how in ("trained", "chosen")]
        expected = taints if "fold1" in each["members"] else None
        assert each["official"]["protocol"].get("taints") == expected


def test_a_fold_that_several_runs_held_out_counts_once(folds: Path, cli) -> None:
    shutil.copytree(folds / "fold1", folds / "fold1again")
    shutil.rmtree(folds / "fold2")
    cli("aggregate", f"from={folds}", CPU)
    for each in record(winner_of(folds))["candidates"]:
        protocol = each["selection"]["protocol"]
        assert (protocol["split"], protocol["images"]) == ("folds 0 1 of 3 (by block, gap 0) of train", 4)


def test_a_holdout_decides_and_val_stays_clean(folds: Path, cli) -> None:
    cli("aggregate", f"from={folds}", "top_k=3", CPU, "select_on=holdout", "holdout=test")
    told = record(winner_of(folds))
    names = [each["name"] for each in told["candidates"]]
    assert "mean of top 3" not in names, "it is the mean of all"
    for each in told["candidates"]:
        assert each["selection"]["protocol"]["split"] == "test"
        assert "taints" not in each["official"]["protocol"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give runs=[runs/A,runs/B,...] or from=FOLDER of run folders, and not both"),
        (["runs=[{}/folds/fold0]"], "an average needs two runs or more, each once; given: "),
        (["runs=[{0}/folds/fold0,{0}/folds/fold0]"], "an average needs two runs or more, each once; given: "),
        (["from={}/nowhere"], "no such folder"),
        (["runs=[{0}/folds/fold0,{0}/folds/fold7]"], "no run folder there (no config.yaml); the nearest are fold"),
        (["from={}/folds", "select_on=val"], "select_on=val: must be one of fold_val, official_val, holdout"),
        (["from={}/folds", "top_k=1"], "top_k=1: must be a whole number, at least 2"),
        (["from={}/folds", "holdout=test"], "holdout=test: is for select_on=holdout, and select_on=fold_val"),
        (
            ["from={}/folds", "select_on=holdout", "holdout=val"],
            "holdout=val: must be a labelled split that is neither trained on nor val: test",
        ),
        (["from={0}/folds", "out={0}/whole"], "/whole: holds another run; give another out=FOLDER, or leave it out"),
        (["runs=[{0}/folds/fold0,{0}/whole]"], "have different data: datamodule.dataset.num_t"),
    ],
)
def test_mistakes(fails, trained: Path, arguments: list[str], message: str) -> None:
    assert message in fails("aggregate", *(argument.format(trained) for argument in arguments))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "task.network.architecture.decoder_channels",
            [32, 16, 16, 8, 4],
            "have different networks: task.network.arch",
        ),
        (
            "task.inference.flip",
            True,
            "have different protocols: task.inference.flip is False and True; give inference",
        ),
        ("task.network.mean", [0.1, 0.2, 0.3], "have different networks: task.network.mean is [0.485"),
    ],
)
def test_runs_that_differ_are_named(fails, folds: Path, key: str, value: object, message: str) -> None:
    path = folds / "fold1" / "config.yaml"
    config = OmegaConf.load(path)
    OmegaConf.update(config, key, value)
    OmegaConf.save(config, path)
    told = fails("aggregate", f"from={folds}")
    assert f"{folds}/fold0 and {folds}/fold1 {message}" in told


def opened(folds: Path) -> list[aggregate.Given]:
    data = {"root": "run", "pack": "run", "num_workers": "run"}
    cfg = OmegaConf.create({"inference": {}, "precision": "run", "data": data})
    return [aggregate._open(cfg, folds / f"fold{fold}") for fold in range(2)]


def test_other_label_sets_are_named(folds: Path) -> None:
    first, other = opened(folds)
    other.source.labels = "camvid-11"
    with pytest.raises(ValueError, match=r"fold0 and .*fold1 have different label sets: streets-11 and camvid-11; av"):
        aggregate.check_same(first, other)


def test_where_data_are_and_where_weights_came_from_may_differ(folds: Path) -> None:
    first, other = opened(folds)
    for key in ("datamodule.dataset.root", "task.network.architecture.encoder.weights", "task.network.init"):
        OmegaConf.update(other.config, key, "elsewhere", force_add=True)
    aggregate.check_same(first, other)
    OmegaConf.update(other.config, "datamodule.dataset.seed", 7)
    with pytest.raises(ValueError, match=r"fold1 have different data: datamodule.dataset.seed is 0 and 7; average"):
        aggregate.check_same(first, other)


def test_another_question_is_another_average(folds: Path) -> None:
    given = opened(folds)
    asked = {
        "top_k": 2, "select_on": "fold_val", "holdout": None, "batchnorm_images": 8, "inference": {"flip": "run"},
        "precision": "run",
    }  # fmt: skip
    others = {
        "top_k": 3, "select_on": "holdout", "holdout": "test", "batchnorm_images": 9, "inference": {"flip": True},
        "precision": "bf16-mixed",
    }  # fmt: skip
    questions = [asked, *({**asked, key: value} for key, value in others.items())]
    digests = {aggregate.command_digest(OmegaConf.create(question), given) for question in questions}
    digests.add(aggregate.command_digest(OmegaConf.create(asked), given[::-1]))
    assert len(digests) == len(others) + 2
    assert aggregate.command_digest(OmegaConf.create(asked), opened(folds)) in digests


def test_an_unfinished_run_is_refused(fails, folds: Path) -> None:
    (folds / "fold2" / "results.json").unlink()
    assert f"{folds}/fold2 is not finished; give the command that began it again" in fails("aggregate", f"from={folds}")


def test_fold_val_wants_folds(fails, trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(trained / "whole", tmp_path / name)
    message = fails("aggregate", f"from={tmp_path}")
    assert message.startswith(f"select_on=fold_val: {tmp_path}/a held no fold of train out (data.num_folds); choose")
