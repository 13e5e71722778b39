"""`src.crossval`: the plan, the processes that it starts, failures, and the table."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config import fold_plan
from src.config.fold_plan import claimed_folds, name_devices, plan_folds
from src.data.augment.crop import Geometry
from src.data.augment.pipeline import Augmentation
from src.data.datamodule import SegmentationDataModule
from src.data.folds import Folds, Split
from src.data.sources.camvid import CamVid
from src.errors import UserError
from src.files import write_json
from src.folds.crossval import FoldsPlan, check_data, official_evaluation, train_folds
from src.processes import children
from src.runs.folder import FOLDS, RunFolder
from src.runs.records import Checkpoint, Evaluation, FoldsRecord
from src.runs.serial import read_record
from tests.support.compose import composed
from tests.support.fake_commands import THREE_FOLDS, FakeFolds
from tests.support.paths import ROOT, SMALL
from tests.support.processes import assert_same_weights, finish, kill_then_finish
from tests.support.records import DATA, evaluation
from tests.support.trees import write_camvid


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeFolds:
    commands = FakeFolds()
    monkeypatch.setattr(children, "run_module", commands.run_module)
    return commands


def plan(*words: str) -> FoldsPlan:
    """The plan of three small folds with more words on the command line."""
    with composed("crossval", *THREE_FOLDS, *words) as cfg:
        return plan_folds(cfg)


def expected(fold: int, first: int = 10) -> float:
    hits = first + fold
    return hits / (80 - hits)


def test_one_run_per_fold_then_a_table(cli, fake: FakeFolds, tmp_path: Path) -> None:
    mean = cli("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    assert fake.commands == [(name, fold) for fold in range(3) for name in ("src.train", "src.eval")]
    assert fake.most == 1
    assert mean == pytest.approx(np.mean([expected(fold) for fold in range(3)]))
    official = read_record(tmp_path / "x" / FOLDS, FoldsRecord).summaries["official"]
    values = [expected(fold, 20) for fold in range(3)]
    assert official.mean == pytest.approx(np.mean(values))
    assert official.deviation == pytest.approx(np.std(values, ddof=1))
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert (official.low, official.high) == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    table = (tmp_path / "x" / "crossval.md").read_text().splitlines()
    assert table[0] == "| fold | run | state | mIoU on its own part | mIoU on val |"
    assert table[3] == "| 1 | fold1 | done | 15.94 % | 35.59 % |"
    assert "mIoU on val: streets-11 val (2 images), whole; 3 folds" in table
    own = "mIoU on its own part: streets-11 each fold of 3 (by block, gap 0) of train (2 images), whole; 3 folds"
    assert own in table
    assert not [line for line in table if "†" in line]
    assert {"folds.png", "history.png"} <= {path.name for path in (tmp_path / "x").iterdir()}
    # Finished work is not repeated.
    fake.commands.clear()
    assert cli("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x") == mean
    assert fake.commands == []


def test_a_fold_that_fails_does_not_stop_the_others(cli, fails, fake: FakeFolds, tmp_path: Path) -> None:
    fake.failing = {("src.train", 1)}
    message = fails("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    folder = tmp_path / "x"
    assert message == (
        "1 of 3 folds failed (fold 1: data.batch_size=0: must be a whole number; log: "
        f"{folder}/fold1.log); the others are finished, and the same command runs only the failed ones"
    )
    assert fake.commands == [
        ("src.train", 0), ("src.eval", 0), ("src.train", 1), ("src.train", 2), ("src.eval", 2)
    ]  # fmt: skip
    table = (folder / "crossval.md").read_text()
    assert "| 1 | fold1 | failed |  |  |" in table
    assert f"fold 1 failed: data.batch_size=0: must be a whole number; log: {folder}/fold1.log" in table
    assert "; 2 folds" in table
    fake.failing, fake.commands = set(), []
    cli("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    assert fake.commands == [("src.train", 1), ("src.eval", 1)]
    assert "failed" not in (folder / "crossval.md").read_text()


def test_only_an_evaluation_that_failed_is_repeated(cli, fails, fake: FakeFolds, tmp_path: Path) -> None:
    fake.failing = {("src.eval", 0)}
    fails("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    table = (tmp_path / "x" / "crossval.md").read_text()
    assert "| 0 | fold0 | failed | 14.29 % |  |" in table
    fake.failing, fake.commands = set(), []
    cli("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    assert fake.commands == [("src.eval", 0)]


@pytest.mark.parametrize(
    ("visible", "given", "expected"),
    [(None, "[4,6]", {"4", "6"}), ("4,GPU-1a,7", "[0,1]", {"4", "GPU-1a"})],
)
def test_folds_side_by_side_each_have_their_own_gpu(
    fake: FakeFolds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible, given: str, expected: set
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    folds = plan(f"runs={tmp_path}", f"crossval.devices={given}")
    folds.folder.mkdir()
    assert train_folds(folds) == {}
    assert fake.most == 2
    assert set(fake.devices) == expected
    assert len(fake.commands) == 6


def test_folds_side_by_side_share_the_cores(fake: FakeFolds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_plan, "num_cores", lambda: 7)
    for given, threads in ((None, "2"), ("5", "5")):
        monkeypatch.setenv("OMP_NUM_THREADS", given or "")
        if given is None:
            monkeypatch.delenv("OMP_NUM_THREADS")
        folds = plan(f"runs={tmp_path / threads}", "crossval.jobs=3")
        assert (folds.devices, os.environ["OMP_NUM_THREADS"]) == ([None] * 3, threads)
    folds.folder.mkdir(parents=True)
    assert train_folds(folds) == {}
    assert fake.most == 3


def test_a_gpu_beyond_those_of_the_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    message = r"crossval.devices=\[1, 2\]: no GPU 2 among CUDA_VISIBLE_DEVICES=4,5, whose first is 0"
    with pytest.raises(ValueError, match=message):
        name_devices([1, 2], "crossval.devices")


def test_names_are_stable_and_change_with_the_configuration(tmp_path: Path) -> None:
    names = []
    for options in ([], [], ["optimizer.lr=0.5"], ["resume=false"], ["crossval.official_val=false"]):
        folds = plan(f"runs={tmp_path}", *options)
        folds.folder.mkdir(exist_ok=True)
        names.append(folds.folder.name)
    assert names[0] == names[1] == names[4]
    assert names[3] == f"{names[0]}-2"
    assert len(set(names)) == 3
    assert all(name.startswith("streets-unet_small-tiny-3folds-s0-") for name in names)


def test_folds_of_another_configuration_are_refused(fake: FakeFolds, tmp_path: Path) -> None:
    mended = 'crossval.overrides={1:["optimizer.lr=0.1"]}'

    def train(*words: str) -> list[tuple[str, int]]:
        """Trains as src.crossval would; returns the commands."""
        fake.commands = []
        folds = plan(f"runs={tmp_path}", "name=x", *words)
        with claimed_folds(folds):
            train_folds(folds)
        return fake.commands

    fake.failing = {("src.train", fold) for fold in range(3)}
    train("optimizer.lr=9")
    fake.failing = {("src.train", 1)}
    train()  # no fold has weights yet: the folder is free
    identity = (tmp_path / "x" / "identity.json").read_text()
    message = (
        rf"^{tmp_path}/x holds folds of another configuration \(optimizer.lr: [\d.]+ -> 0.5\); give another name=, or "
        "resume=false, to start beside it$"
    )
    with pytest.raises(ValueError, match=message):
        train("optimizer.lr=0.5")
    with pytest.raises(ValueError, match=r"overrides of fold 2: \[\] -> \['seed=1'\]"):
        train('crossval.overrides={2:["seed=1"]}')
    assert (tmp_path / "x" / "identity.json").read_text() == identity
    fake.failing = set()
    assert train(mended) == [("src.train", 1), ("src.eval", 1)]
    assert train(mended, "data.num_workers=1") == []
    with pytest.raises(ValueError, match=r"overrides of fold 1: \['optimizer.lr=0.1'\] -> \[\]"):
        train()


def test_a_fold_of_other_data_is_not_collected(tmp_path: Path) -> None:
    folds = plan(f"runs={tmp_path}", "name=x")
    fold = folds.folds[1]
    key = "data.fingerprint.train"
    check_data(folds, fold)  # nothing is there yet
    fold.run.path.mkdir(parents=True)
    write_json(fold.run.identity, dict(folds.identity))
    check_data(folds, fold)
    write_json(fold.run.identity, folds.identity | {key: "ffffffffffff"})
    with pytest.raises(UserError, match=rf"fold1: is of other data .*\({key}: ffffffffffff -> {folds.identity[key]}\)"):
        check_data(folds, fold)


def test_a_tainted_fold_marks_its_row_and_the_mean(cli, fake: FakeFolds, tmp_path: Path) -> None:
    cli("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    path = tmp_path / "x" / "fold1" / "results.json"
    results = json.loads(path.read_text())
    own = next(iter(results["evaluations"].values()))
    own["protocol"]["fields"]["taints"] = [{"how": "trained", "images": 2}]
    path.write_text(json.dumps(results))
    cli("crossval", *THREE_FOLDS, f"runs={tmp_path}", "name=x")
    table = (tmp_path / "x" / "crossval.md").read_text().splitlines()
    assert table[2] == "| 0 | fold0 | done | 14.29 % | 33.33 % |"
    assert table[3] == "| 1 | fold1 | done | 15.94 %† | 35.59 % |"
    assert re.fullmatch(r"\| mean \|  \|  \| 15.96 %† \| 35.6\d % \|", table[5])
    assert table[6].count("†") == table[7].count("†") == 1
    assert table[-1] == "† fold 1 of 3 (by block, gap 0) of train: weights were trained on 2 of these images"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.num_folds=null"], "src.crossval trains every fold: give data.num_folds=5, and no data.fold"),
        (["data.fold=0"], "src.crossval trains every fold: give data.num_folds=5, and no data.fold"),
        (["data.batch_size=0"], "data.batch_size=0: must be a whole number"),
        (["data.num_folds=9"], "data.num_folds=9: train has 4 images; give at most as many"),
        (["crossval.devices=[a]"], "crossval.devices=['a']: must be numbers of GPUs, such as [0,1], or null"),
        (["crossval.devices=[true]"], "crossval.devices=[True]: must be numbers of GPUs, such as [0,1], or null"),
        (["crossval.jobs=0"], "crossval.jobs=0: must be a whole number, at least 1"),
        (
            ["crossval.jobs=2", "crossval.devices=[0]"],
            "crossval.jobs=2: is given beside crossval.devices, which trains",
        ),
        (["init_from=a", "crossval.init_from=b"], "crossval.init_from=b: init_from=a is given too; give one of them"),
        (['crossval.overrides={3:["seed=1"]}'], "crossval.overrides: there is no fold 3, only 0 to 2"),
    ],
)
def test_mistakes_are_found_before_anything_starts(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        plan(f"runs={tmp_path}", *arguments)
    assert not any(tmp_path.iterdir())


def test_a_misspelt_option_of_the_command_is_refused(fails, fake: FakeFolds, tmp_path: Path) -> None:
    message = fails("crossval", *THREE_FOLDS, f"runs={tmp_path}", "crossval.ofical_val=true")
    assert message.startswith("crossval.ofical_val is not a key of this configuration; the nearest are crossval")
    assert fake.commands == []
    assert not any(tmp_path.iterdir())


def test_commands_of_the_folds(tmp_path: Path) -> None:
    first = tmp_path / "first" / "fold0" / "checkpoints" / "best.ckpt"
    first.parent.mkdir(parents=True)
    first.touch()
    folds = plan(
        f"runs={tmp_path}",
        f"crossval.init_from={tmp_path / 'first'}",
        'crossval.overrides={1:["optimizer.lr=9"]}',
        "crossval.official_val=false",
    ).folds
    commands = [fold.train for fold in folds]
    assert [command[0] for command in commands] == ["src.train"] * 3
    assert [[word for word in command if "optimizer" in word] for command in commands] == [[], ["optimizer.lr=9"], []]
    assert [fold.overrides for fold in folds] == [[], ["optimizer.lr=9"], []]
    assert not [word for command in commands for word in command if "crossval" in word]
    assert all(f"init_from='{tmp_path}/first/fold{fold}'" in commands[fold] for fold in range(3))
    assert all(set(THREE_FOLDS) <= set(command) for command in commands)
    assert [fold.evaluate for fold in folds] == [None] * 3


@pytest.mark.parametrize(("num_folds", "class_uniform"), [(2, 0.0), (2, 0.5), (5, 0.0)])
def test_training_reads_nothing_of_a_held_out_part_or_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_folds: int, class_uniform: float
) -> None:
    """The files of the part, or of its whole group, are emptied: to read one is an error, as validation shows.

    Five folds of two drives are blocks, and the files of the gaps beside them are emptied too.
    """
    monkeypatch.setenv("STREETSEG_CACHE", str(tmp_path / "cache"))
    root = write_camvid(tmp_path / "camvid", {"train": 16, "val": 1}, size=(48, 64))
    for fold in range(num_folds):
        folds = {"num_folds": num_folds, "fold": fold, "gap": 1}
        parts = Folds(**folds).divide(CamVid(str(root)))
        groups = {part: {sample.group for sample in samples} for part, samples in parts.items()}
        assert num_folds > 2 or not groups["train"] & groups["fold"]
        held = [path for part in ("fold", "left_out") for sample in parts[part] for path in (sample.image, sample.mask)]
        kept = {path: path.read_bytes() for path in held}
        data = SegmentationDataModule(
            CamVid(str(root)), Augmentation(Geometry((32, 32))), 2, 1, 0, seed=0, folds=folds,
            class_uniform=class_uniform,
        )  # fmt: skip
        # Before files are emptied: class statistics are of the whole split, counted once for all folds.
        loader = data.train_dataloader()
        for path in held:
            path.write_bytes(b"")
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            assert sum(len(batch["image"]) for batch in loader) == 2 * (len(parts["train"]) // 2)
        with pytest.raises(ValueError, match=Path(parts["fold"][0].image).name):
            next(iter(data.val_dataloader()))
        for path, content in kept.items():
            path.write_bytes(content)


REAL = (*THREE_FOLDS, "data.num_folds=2", "crossval.official_val=true")


@pytest.mark.slow
def test_real_processes(tmp_path: Path) -> None:
    """One fold is made to fail by a bad override; the next call runs only that one, in the folder that it left."""

    def call(*more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "src.crossval", *REAL, f"runs={tmp_path}", "name=x", *more]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    few = ("data.dataset.num_train=8", "crossval.official_val=false")
    first = call(*few, 'crossval.overrides={1:["optimizer.lr=1e30"]}')
    folder = tmp_path / "x"
    assert first.returncode == 1
    assert first.stderr.startswith("error: 1 of 2 folds failed (fold 1: train/loss is not finite"), first.stderr
    assert f"{folder}/fold1.log" in first.stderr
    assert "lr: 1.0e+30" in (folder / "fold1" / "config.yaml").read_text()
    done = (folder / "fold0" / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    second = call(*few)
    assert second.returncode == 0, second.stderr
    assert "fold 0: is done" in second.stdout
    assert (folder / "fold0" / "checkpoints" / "best.ckpt").stat().st_mtime_ns == done
    for fold in range(2):
        results = json.loads((folder / f"fold{fold}" / "results.json").read_text())
        splits = [evaluation["protocol"]["split"] for evaluation in results["evaluations"].values()]
        assert splits == [f"fold {fold} of 2 (by block, gap 0) of train"]
    assert (folder / "crossval.md").read_text() in second.stdout


def test_the_official_evaluation_has_the_protocol_of_the_training(tmp_path: Path) -> None:
    def add(split: str | Split, **options: Any) -> Evaluation:
        found = evaluation(split, **options)
        run.add_evaluation(found, finished=isinstance(split, Split))
        return found

    run = RunFolder(tmp_path)
    add(Split("fold", 0, 2, "group", seed=42))
    for split, options in (
        ("test", {}),
        ("val", {"inference": "whole, flip"}),
        ("val", {"checkpoint": "last"}),
        ("val", {"precision": "bf16-mixed"}),
        ("val", {"data": "ffffffffffff", "is_other_data": True}),
    ):
        add(split, **options)
        assert official_evaluation(run, DATA) is None
    for stale in (Checkpoint("best", 1, 1), Checkpoint("best", 2, 2)):  # evaluated while the training went on
        run.add_evaluation(replace(evaluation("val"), checkpoint=stale), finished=False)
        assert official_evaluation(run, DATA) is None
    own = add("val")
    assert official_evaluation(run, DATA) == own
    assert len(run.read_results().evaluations) == 7, "none took the place of another"


def test_a_missing_val_is_found_before_the_first_fold(tmp_path: Path) -> None:
    write_camvid(tmp_path / "data", {"train": 4})
    words = ("data=camvid", f"data.root={tmp_path / 'data'}", "data.num_folds=2", *SMALL, f"runs={tmp_path}")
    with composed("crossval", *words) as cfg, pytest.raises(ValueError, match=str(tmp_path / "data" / "val")):
        plan_folds(cfg)


@pytest.mark.slow
def test_three_kills_change_nothing(tmp_path: Path) -> None:
    """SIGKILL of the whole process tree at random moments, then the same command: same table, same weights."""
    words = [word for word in REAL if "max_epochs" not in word] + ["trainer.max_epochs=6", f"runs={tmp_path}"]
    seconds = finish("src.crossval", *words, "name=whole")
    moments = [partial(time.sleep, part * seconds) for part in np.random.default_rng().uniform(0.1, 0.5, 3)]
    kill_then_finish(moments, "src.crossval", *words, "name=killed")
    tables = [(tmp_path / name / "crossval.md").read_text() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    for fold in range(2):
        assert_same_weights(tmp_path / "whole" / f"fold{fold}", tmp_path / "killed" / f"fold{fold}")
