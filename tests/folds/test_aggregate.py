"""`src.aggregate`: the averages it compares, the run it keeps, its marks, and what it refuses."""

import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from src import train
from src.config import cli
from src.config.average_plan import OpenedRun, check_same, open_run_to_average, plan_average, question_digest
from src.config.complete import complete
from src.config.open import open_run
from src.config.saved import config_text
from src.data.datamodule import SegmentationDataModule
from src.data.folds import Split
from src.data.streets.source import Streets
from src.folds.aggregate import AveragePlan, RunToAverage, keep_best
from src.runs.folder import AVERAGE, RunFolder
from src.runs.leakage import leakage_before, write_leakage
from src.runs.records import AverageRecord, CandidateRecord, Leakage, Taint
from src.runs.serial import read_record
from src.runs.summary import summarise
from tests.support.compose import composed
from tests.support.paths import ROOT, TINY
from tests.support.records import evaluation
from tests.support.small import differing, small_task
from tests.support.wandb_files import run_record, summary

FOLDS = ("data.num_folds=3", "data.fold_gap=0", "data.dataset.num_train=6", "data.dataset.num_test=2")
CPU = "accelerator=cpu"
BLOCKS = "of 3 (by block, gap 0) of train"


def record(run: Path) -> AverageRecord:
    return read_record(run / AVERAGE, AverageRecord)


def small_folds(num_folds: int | None = None, fold: int | None = None) -> SegmentationDataModule:
    """Six scenes of train, three of val and two of test, or a fold of them."""
    folds = {"num_folds": num_folds, "fold": fold, "gap": 0}
    return SegmentationDataModule(
        Streets(size=(64, 64), num_train=6, num_val=3, num_test=2), None, 2, 1, 0, seed=0, folds=folds
    )


def small_plan(folder: Path, folds: tuple[int, ...] = (0, 1, 2), **options: object) -> AveragePlan:
    """An average of runs of small networks with random weights, one per fold, whose folders it writes."""
    members = []
    for number, fold in enumerate(folds):
        run = RunFolder(folder / f"run{number}")
        (run.path / "checkpoints").mkdir(parents=True)
        generator = torch.Generator().manual_seed(number)
        state = {
            name: torch.randn(value.shape, generator=generator) if name.endswith("weight") else value
            for name, value in small_task().state_dict().items()
        }
        torch.save({"state_dict": state, "epoch": 0, "global_step": 2 + number}, run.path / "checkpoints" / "best.ckpt")
        write_leakage(run.path, [], Leakage())
        members.append(RunToAverage(run, partial(small_folds, 3, fold), small_task))
    defaults = {
        "select_on": "fold_val", "holdout": None, "top_k": 2, "batchnorm_images": 4, "is_one_network": True,
        "keeps_ensemble": False,
    }  # fmt: skip
    return AveragePlan(
        RunFolder(folder / "average"),
        "group",
        members,
        **{**defaults, **options},
        accelerator="cpu",
        precision="32-true",
        seed=0,
        build_data=small_folds,
        build_task=small_task,
        identity={"seed": 0},
        config=OmegaConf.to_yaml({"data": {"classes": {name: list(c) for name, c in Streets.classes.items()}}}),
    )


def kept(plan: AveragePlan) -> tuple[CandidateRecord, ...]:
    """Compares the averages; returns their records."""
    keep_best(plan, lambda *_: None)
    return record(plan.run.path).candidates


def test_all_averages_are_compared_and_the_winner_is_kept(tmp_path: Path) -> None:
    plan, published = small_plan(tmp_path), []
    keep_best(plan, lambda *shown: published.append(shown))
    run, candidates = plan.run, record(plan.run.path).candidates
    names = [each.name for each in candidates]
    assert names == ["best run", "mean of all", "mean of top 2", "greedy soup", "averaged probabilities"]
    assert [len(each.members) for each in candidates[:3]] == [1, 3, 2]
    (winner,) = [each for each in candidates if each.is_winner]
    assert record(run.path).winner == winner.name
    assert winner.selection.miou == max(each.selection.miou for each in candidates[:-1])
    # The folds' parts together are all of train, each image once; val is apart.
    assert winner.selection.protocol.images == 6
    assert winner.selection.protocol.split == f"folds 0 1 2 {BLOCKS}"
    assert winner.official is not None
    assert winner.official.protocol.split == "val"
    results = run.read_results()
    assert results.finished
    assert results.own.matrix == winner.official.matrix
    assert results.own.checkpoint.name == "best"
    ((pictures, table, shown),) = published
    assert table == (run.path / "aggregate.md").read_text().rstrip("\n")
    assert set(pictures) == {"averages", "classes", "confusion", "reliability", "shares"}
    assert shown["winner/miou"] == winner.official.miou
    # The kept weights are those that the record names.
    state = torch.load(run.checkpoint("best"), weights_only=True)
    assert (state["epoch"], state["global_step"]) == (0, max(2 + int(name[-1]) for name in winner.members))
    if len(winner.members) == 1:
        own = torch.load(tmp_path / winner.members[0] / "checkpoints" / "best.ckpt", weights_only=True)
        assert not differing(
            *({k: v for k, v in each["state_dict"].items() if k.startswith("network.")} for each in (state, own))
        )


def test_an_ensemble_of_different_networks_is_kept(tmp_path: Path) -> None:
    """Its weights are those of all runs, and it is not chosen by a figure: it has every run, whatever it scores."""
    plan = small_plan(tmp_path, is_one_network=False, keeps_ensemble=True)
    best, ensemble = kept(plan)
    assert (best.name, ensemble.name, ensemble.is_winner) == ("best run", "averaged probabilities", True)
    assert ensemble.members == ("run0", "run1", "run2")
    assert ensemble.official is not None
    assert ensemble.official.protocol.taints == ()
    assert [taint.how for taint in ensemble.selection.protocol.taints] == ["trained"]
    assert [taint.how for taint in best.selection.protocol.taints] == ["trained", "chosen"]
    assert plan.run.read_results().own.matrix == ensemble.official.matrix
    assert leakage_before(plan.run.path).chosen == frozenset()
    state = torch.load(plan.run.checkpoint("best"), weights_only=True)["state_dict"]
    for number in range(3):
        prefix, path = f"network.networks.{number}.", tmp_path / f"run{number}" / "checkpoints" / "best.ckpt"
        own = {k.removeprefix("network."): v for k, v in torch.load(path, weights_only=True)["state_dict"].items()
               if k.startswith("network.")}  # fmt: skip
        assert not differing({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, own)


def test_fold_and_official_figures_carry_their_own_marks(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    candidates = {each.name: each for each in kept(plan)}
    mean = candidates["mean of all"]
    assert mean.selection.protocol.taints[0] == Taint("trained", 6)
    assert mean.official.protocol.taints == (), "val was neither trained nor chosen on"
    assert candidates["best run"].selection.protocol.taints[0] == Taint("trained", 4)
    assert len(leakage_before(plan.run.path).chosen) == 6


def test_where_val_decides_its_figures_are_marked(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, select_on="official_val")
    kept(plan)
    own = plan.run.read_results().own
    assert own.protocol.taints == (Taint("chosen", 3),)
    assert own.tag.endswith("; TAINTED: weights were chosen on 3 of these images")
    table = (plan.run.path / "aggregate.md").read_text()
    rows = {line.split("|")[1].strip(" *"): line for line in table.splitlines() if line.startswith("|")}
    assert "†" in rows["best run"]
    assert "†" in rows["mean of top 2"]
    assert "†" not in rows["averaged probabilities"], "takes all: nothing was chosen"
    assert "† val: weights were chosen on 3 of these images" in table


def test_leakage_of_ancestors_counts(tmp_path: Path) -> None:
    """A fold whose first weights were trained on an image of val, and chosen on another."""
    plan = small_plan(tmp_path)
    ids = [plan.build_data().source.image_id(sample) for sample in plan.build_data().samples("val")]
    write_leakage(tmp_path / "run1", [], Leakage(frozenset(ids[:1]), frozenset(ids[2:])))
    for each in kept(plan):
        expected = (Taint("trained", 1), Taint("chosen", 1)) if "run1" in each.members else ()
        assert each.official.protocol.taints == expected


def test_a_fold_that_several_runs_held_out_counts_once(tmp_path: Path) -> None:
    for each in kept(small_plan(tmp_path, folds=(0, 1, 1))):
        protocol = each.selection.protocol
        assert (protocol.split, protocol.images) == (f"folds 0 1 {BLOCKS}", 4)


def test_a_holdout_decides_and_val_stays_clean(tmp_path: Path) -> None:
    candidates = kept(small_plan(tmp_path, top_k=3, select_on="holdout", holdout="test"))
    assert "mean of top 3" not in [each.name for each in candidates], "it is the mean of all"
    for each in candidates:
        assert each.selection.protocol.split == "test"
        assert each.official.protocol.taints == ()


def write_run(folder: Path, name: str, *words: str) -> None:
    """Writes the folder of a finished run without training it: its weights are an arbitrary file."""
    with composed("train", *words, f"runs={folder}", f"name={name}") as cfg:
        run, _ = open_run(complete(cfg))
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "best.ckpt").write_text(name)
    run.add_evaluation(evaluation(Split("fold", 0, 3, "block", gap=0)), finished=True)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of three folds, and of one run on all of train."""
    folder = tmp_path_factory.mktemp("untrained")
    tiny = [word for word in TINY if "num_train" not in word]
    for fold in range(3):
        write_run(folder / "folds", f"fold{fold}", *tiny, *FOLDS, f"data.fold={fold}")
    write_run(folder, "whole", *TINY)
    return folder


@pytest.fixture
def folders(untrained: Path, tmp_path: Path) -> Path:
    """A copy of the folders of the three folds, to change."""
    return Path(shutil.copytree(untrained / "folds", tmp_path / "folds"))


def plan_of(*words: str) -> AveragePlan:
    with composed("aggregate", *words) as cfg:
        return plan_average(cfg)[0]


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
        (["from={}/folds", "batchnorm_images=true"], "batchnorm_images=True: must be a whole number, at least 1"),
        (["from={}/folds", "holdout=test"], "holdout=test: is for select_on=holdout, and select_on=fold_val"),
        (
            ["from={}/folds", "select_on=holdout", "holdout=val"],
            "holdout=val: must be a labelled split that is neither trained on nor val: test",
        ),
        (["from={0}/folds", "out={0}/whole"], "/whole: holds another run; give another out=FOLDER, or leave it out"),
        (["runs=[{0}/folds/fold0,{0}/whole]"], "have different data: datamodule.dataset.num_t"),
    ],
)
def test_mistakes(untrained: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plan_of(*(argument.format(untrained) for argument in arguments))


def test_the_plan_of_an_average(folders: Path) -> None:
    plan = plan_of(f"from={folders}", CPU, "precision=bf16-mixed")
    assert plan.run.path.parent == folders
    assert plan.run.path.name.startswith("aggregate-")
    assert [each.run.path.name for each in plan.members] == ["fold0", "fold1", "fold2"]
    assert (plan.group, plan.accelerator, plan.precision) == ("folds", "cpu", "bf16-mixed")
    config = OmegaConf.create(plan.config)
    assert (config.data.num_folds, config.datamodule.folds.fold, config.logger, config.init_from) == (None,) * 4
    assert (config.name, config.run_dir) == (plan.run.path.name, str(plan.run.path))
    assert config.aggregate.runs == [str(folders / f"fold{fold}") for fold in range(3)]
    assert plan.run == plan_of(f"from={folders}", CPU, "precision=bf16-mixed").run, "the same command finds it"
    pair = plan_of(f"runs=[{folders}/fold1,{folders}/fold0]", f"out={folders.parent / 'pair'}")
    assert (pair.group, pair.run.path) == ("pair", folders.parent / "pair")
    assert [each.run.path.name for each in pair.members] == ["fold1", "fold0"]


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
def test_runs_that_differ_are_named(folders: Path, key: str, value: object, message: str) -> None:
    path = folders / "fold1" / "config.yaml"
    config = OmegaConf.load(path)
    OmegaConf.update(config, key, value)
    path.write_text(config_text(config))
    with pytest.raises(ValueError, match=re.escape(f"{folders}/fold0 and {folders}/fold1 {message}")):
        plan_of(f"from={folders}")


@pytest.fixture
def opened(folders: Path) -> list[OpenedRun]:
    return open_two(folders)


def open_two(folders: Path) -> list[OpenedRun]:
    data = {"root": "run", "pack": "run", "num_workers": "run"}
    cfg = OmegaConf.create({"inference": {}, "accelerator": "auto", "precision": "run", "data": data})
    return [open_run_to_average(cfg, folders / f"fold{fold}") for fold in range(2)]


def test_other_label_sets_are_named(opened: list[OpenedRun]) -> None:
    first, other = opened
    other.source.labels = "camvid-11"
    with pytest.raises(ValueError, match=r"fold0 and .*fold1 have different label sets: streets-11 and camvid-11; av"):
        check_same(first, other)


def test_the_places_of_data_and_first_weights_may_differ(opened: list[OpenedRun]) -> None:
    first, other = opened
    for key in ("datamodule.dataset.root", "task.network.architecture.encoder.weights", "task.network.init"):
        OmegaConf.update(other.config, key, "elsewhere", force_add=True)
    check_same(first, other)
    OmegaConf.update(other.config, "datamodule.dataset.seed", 7)
    with pytest.raises(ValueError, match=r"fold1 have different data: datamodule.dataset.seed is 0 and 7; average"):
        check_same(first, other)
    OmegaConf.update(other.config, "datamodule.dataset.seed", 0)
    OmegaConf.update(other.config, "task.inference.weights", "gaussian")  # of a window, no first weights
    with pytest.raises(ValueError, match=r"different protocols: task.inference.weights is flat and gaussian; give"):
        check_same(first, other)


def test_another_question_is_another_average(folders: Path, opened: list[OpenedRun]) -> None:
    asked = {
        "top_k": 2, "select_on": "fold_val", "holdout": None, "batchnorm_images": 8, "inference": {"flip": "run"},
        "precision": "run", "keep": "network",
    }  # fmt: skip
    others = {
        "top_k": 3, "select_on": "holdout", "holdout": "test", "batchnorm_images": 9, "inference": {"flip": True},
        "precision": "bf16-mixed", "keep": "ensemble",
    }  # fmt: skip
    questions = [asked, *({**asked, key: value} for key, value in others.items())]
    digests = {question_digest(OmegaConf.create(question), opened) for question in questions}
    digests.add(question_digest(OmegaConf.create(asked), opened[::-1]))
    assert len(digests) == len(others) + 2
    assert question_digest(OmegaConf.create(asked), open_two(folders)) in digests
    opened[1].config.data.fingerprint.val = "ffffffffffff"
    assert question_digest(OmegaConf.create(asked), opened) not in digests, "data changed in place"


def test_an_unfinished_run_is_refused(folders: Path) -> None:
    (folders / "fold2" / "results.json").unlink()
    message = f"{folders}/fold2 is not finished; repeat the command that began it"
    with pytest.raises(ValueError, match=message):
        plan_of(f"from={folders}")


def test_fold_val_needs_folds(untrained: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(untrained / "whole", tmp_path / name)
    message = rf"^select_on=fold_val: {tmp_path}/a held out no fold of train \(data.num_folds\); choose"
    with pytest.raises(ValueError, match=message):
        plan_of(f"from={tmp_path}")


def launch(name: str, function: Callable[[DictConfig], object], *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"src.{name}", *arguments])
        cli.launch(function, name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of a small network."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = [argument for argument in TINY if "num_train" not in argument]
    for fold in range(3):
        arguments = (f"runs={folder / 'folds'}", f"name=fold{fold}", f"data.fold={fold}", f"seed={fold}")
        launch("train", train.train, *tiny, *FOLDS, *arguments)
    return folder


@pytest.fixture
def folds(trained: Path, tmp_path: Path) -> Path:
    """A copy of the folders of the three folds."""
    return Path(shutil.copytree(trained / "folds", tmp_path / "folds"))


@pytest.mark.e2e
def test_the_winner_is_a_run(folds: Path, cli, capfd: pytest.CaptureFixture[str]) -> None:
    """Other commands take it as any run, and the same command finds it."""
    miou = cli("aggregate", f"from={folds}", "top_k=2", CPU)
    output = capfd.readouterr().out
    (run,) = folds.glob("aggregate-*")
    assert run.name in output
    assert (run / "aggregate.md").read_text().strip() in output
    best = record(run).candidates[0]
    own = RunFolder(folds / best.members[0]).read_results().own
    assert (best.selection.checkpoint.epoch, best.selection.checkpoint.step) == (
        own.checkpoint.epoch, own.checkpoint.step
    )  # fmt: skip
    assert best.selection.checkpoint.name == "best run"
    (winner,) = [each for each in record(run).candidates if each.is_winner]
    (tag,) = RunFolder(run).read_results().evaluations
    assert winner.official.miou == miou
    pictures = {path.name for path in run.glob("*.png")}
    assert pictures == {"averages.png", "classes.png", "confusion.png", "shares.png"}
    assert cli("eval", f"run={run}", CPU) == miou
    assert list(RunFolder(run).read_results().evaluations) == [tag]
    assert cli("predict", f"run={run}", "split=val", CPU) == 3
    cli("train", *TINY, f"init_from={run}", f"runs={folds.parent}", "name=next", "optimizer.lr=1e-12")
    before = (run / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    assert cli("aggregate", f"from={folds}", "top_k=2", CPU) == miou
    assert (run / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before


@pytest.mark.e2e
def test_an_ensemble_of_two_networks_is_a_run(folds: Path, cli, fails) -> None:
    """It is evaluated, segments and is published like any run; its figure is that of src.aggregate."""
    other, run = folds.parent / "other", folds.parent / "both"
    narrow = "model.decoder_channels=[16,16,8,8,4]"
    cli("train", *TINY, *FOLDS, narrow, "data.fold=0", f"runs={folds.parent}", "name=other")
    given = (f"runs=[{folds}/fold0,{other}]", "select_on=official_val", CPU, f"out={run}")
    assert "or their probabilities by keep=ensemble" in fails("aggregate", *given)
    assert "keep=both: must be one of network, ensemble" in fails("aggregate", *given, "keep=both")
    for word in ("top_k=2", "batchnorm_images=8"):
        assert f"{word}: is for averages of weights, and these" in fails("aggregate", *given, "keep=ensemble", word)
    miou = cli("aggregate", *given, "keep=ensemble")
    assert [each.name for each in record(run).candidates] == ["best run", "averaged probabilities"]
    assert summarise(RunFolder(run)).model == "ensemble of unet_small"
    assert cli("eval", f"run={run}", CPU) == miou
    assert cli("predict", f"run={run}", "split=val", CPU) == 3
    assert "is an ensemble" in fails("export", f"run={run}")
    cli("publish", f"run={run}", "name=both", f"zoo={folds.parent}/zoo")
    assert cli("eval", f"run={folds.parent}/zoo/both", CPU) == pytest.approx(miou, abs=5e-3)


@pytest.mark.e2e
@pytest.mark.draws
def test_averages_of_averages_and_the_dashboard(folds: Path, cli, fails, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average of runs that were logged to W&B is, with its figures; an average of averages has no logger."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    path, given = folds / "fold0" / "config.yaml", ("top_k=2", CPU, "select_on=official_val")
    config = OmegaConf.load(path)
    config.logger = {"wandb": OmegaConf.load(ROOT / "conf" / "logger" / "default.yaml").wandb}
    config.logger.wandb.run_dir = config.run_dir
    path.write_text(config_text(config))
    averages = [folds.parent / name for name in ("one", "two")]
    for number, average in enumerate(averages):
        cli("aggregate", f"from={folds}", *given, f"batchnorm_images={8 + number}", f"out={average}")
        shown, run = summary(average), run_record(average)
        assert (run.job_type, run.run_group, run.display_name) == ("aggregate", "folds", average.name)
        figures = {name.split("/")[1] for name in shown if name.startswith("figures")}
        assert figures == {"averages", "classes", "confusion", "reliability", "shares", "table"}
        own = RunFolder(average).read_results().own
        assert [value for name, value in shown.items() if name.startswith("winner/miou")] == [own.miou]
    before = (averages[0] / "aggregate.json").read_bytes()
    assert "one: holds another run" in fails("aggregate", f"from={folds}", *given, f"out={averages[0]}")
    assert (averages[0] / "aggregate.json").read_bytes() == before
    cli("aggregate", f"runs=[{averages[0]},{averages[1]}]", *given, f"out={folds.parent / 'both'}")
    assert not (folds.parent / "both" / "wandb").exists()
    assert (folds.parent / "both" / "averages.png").is_file()


@pytest.mark.e2e
def test_runs_inherit_the_leakage_of_an_average(folds: Path, cli) -> None:
    """Later evaluations of the average, and runs that start from it, are marked on val and on a fold."""
    run = RunFolder(folds.parent / "chosen")
    cli("aggregate", f"from={folds}", "top_k=2", CPU, "select_on=official_val", f"out={run.path}")
    assert run.read_results().own.protocol.taints == (Taint("chosen", 3),)
    cli("eval", f"run={run.path}", CPU, "split=test")
    tags = list(run.read_results().evaluations)
    assert [("TAINTED" in tag) for tag in tags] == [True, False]
    cli("eval", f"run={run.path}", CPU)
    assert list(run.read_results().evaluations) == tags
    cli("train", *TINY, *FOLDS, "data.fold=0", f"init_from={run.path}", f"runs={folds.parent}", "name=stage2")
    stage2 = RunFolder(folds.parent / "stage2")
    assert stage2.read_results().own.tag.endswith("; TAINTED: weights were trained on 2 of these images")
    cli("eval", f"run={stage2.path}", CPU, "split=val")
    tags = list(stage2.read_results().evaluations)
    assert tags[1].endswith("; TAINTED: weights were chosen on 3 of these images")


@pytest.mark.e2e
def test_a_lineage_of_one_fold_stays_clean(folds: Path, cli) -> None:
    """A fold that starts from the same fold's weights has not seen its own part; one of another fold has."""
    for fold, start, taints in ((1, 1, ()), (1, 0, (Taint("trained", 2),))):
        name = f"fold{fold}from{start}"
        cli(
            "train", *TINY, *FOLDS, f"data.fold={fold}", f"init_from={folds / f'fold{start}'}", f"name={name}",
            f"runs={folds.parent}",
        )  # fmt: skip
        assert RunFolder(folds.parent / name).read_results().own.protocol.taints == taints


def test_runs_of_other_data_are_named(folders: Path) -> None:
    """Files are the same by name and place only: their content is asked for, of each run and between them."""
    path = folders / "fold1" / "config.yaml"
    config = OmegaConf.load(path)
    now = config.data.fingerprint.train
    config.data.fingerprint.train = "ffffffffffff"
    path.write_text(config_text(config))
    message = f"{folders}/fold1 was trained on other data than its dataset has now: fingerprint of train: ffff"
    with pytest.raises(ValueError, match=f"{message}.* -> {now}; give data.root="):
        plan_of(f"from={folders}")


def test_runs_on_data_of_the_same_names_are_compared_by_content(folders: Path) -> None:
    config = OmegaConf.load(folders / "fold0" / "config.yaml")
    source = Streets(num_train=4, num_val=2)
    first, other = (OpenedRun(RunFolder(folders / n), config.copy(), source, n) for n in ("fold0", "fold1"))
    check_same(first, other)
    other.config.data.fingerprint = {**other.config.data.fingerprint, "val": "ffffffffffff"}
    with pytest.raises(
        ValueError, match=r"fold0 and .*fold1 have different data: data\.fingerprint\.val is None and fff"
    ):
        check_same(first, other)
