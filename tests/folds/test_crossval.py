"""`src.crossval`: which processes it starts, what it does when one fails, and what it tells."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from src import crossval
from src.data.augment.crop import Geometry
from src.data.augment.pipeline import Augmentation
from src.data.datamodule import SegmentationDataModule
from src.data.folds import Folds
from src.data.sources.camvid import CamVid
from src.runs.folder import RunFolder, describe_evaluation
from tests.support.paths import ROOT, SMALL, TINY
from tests.support.processes import assert_same_weights, finish, kill_then_finish
from tests.support.trees import write_camvid

FOLDS = (*TINY, "data.num_folds=3", "data.fold_gap=0")


class Processes:
    """In place of src.train and src.eval: notes their commands, leaves results; fails where `failing` says."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, int]] = []
        self.devices: list[str | None] = []
        self.failing: set[tuple[str, int]] = set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def start(self, command: Sequence[str], path: Path, device: str | None) -> int:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.05)
        text = " ".join(command)
        fold = int(re.search(r"name=fold(\d)|run='.*fold(\d)'", text)[0].strip("'")[-1])
        with self.lock:
            self.at_once -= 1
            self.commands.append((command[0], fold))
            self.devices.append(device)
        if command[0] == "src.train":
            assert f"data.fold={fold}" in command
            folder = Path(re.search(r"runs='(.*?)'", text)[1]) / f"fold{fold}"
        else:
            folder = Path(re.search(r"run='(.*?)'", text)[1])
        with path.open("a") as file:
            file.write(f"$ python -m {text}\n")
            if (command[0], fold) in self.failing:
                file.write("error: data.batch_size=0: must be a whole number\n")
                return 1
        split = f"fold {fold} of 3 (by block, gap 0) of train" if command[0] == "src.train" else "val"
        protocol = {"labels": "streets-11", "split": split, "images": 2, "inference": "whole", "precision": "32-true"}
        hits = 10 + fold if split != "val" else 20 + fold
        matrix = np.array([[hits, 40 - hits], [40 - hits, hits]])
        checkpoint = {"name": "best", "epoch": 1, "step": 2}
        run = RunFolder(folder)
        run.add_evaluation(describe_evaluation(matrix, ["a", "b"], protocol, checkpoint), finished=split != "val")
        run.metrics.write_text("step,epoch,val/miou\n9,0,0.5\n")
        return 0


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    fake = Processes()
    monkeypatch.setattr(crossval, "start", fake.start)
    return fake


def expected(fold: int, first: int = 10) -> float:
    hits = first + fold
    return hits / (80 - hits)


def test_a_run_a_fold_then_a_table(cli, processes: Processes, tmp_path: Path) -> None:
    mean = cli("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
    assert processes.commands == [(name, fold) for fold in range(3) for name in ("src.train", "src.eval")]
    assert processes.most == 1
    assert mean == pytest.approx(np.mean([expected(fold) for fold in range(3)]))
    record = json.loads((tmp_path / "x" / "crossval.json").read_text())
    official = record["summaries"]["official"]
    values = [expected(fold, 20) for fold in range(3)]
    assert official["mean"] == pytest.approx(np.mean(values))
    assert official["deviation"] == pytest.approx(np.std(values, ddof=1))
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert (official["low"], official["high"]) == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    table = (tmp_path / "x" / "crossval.md").read_text().splitlines()
    assert table[0] == "| fold | run | state | mIoU on its own part | mIoU on val |"
    assert table[3] == "| 1 | fold1 | done | 15.94 % | 35.59 % |"
    assert "mIoU on val: streets-11 val (2 images), whole; 3 folds" in table
    own = "mIoU on its own part: streets-11 each fold of 3 (by block, gap 0) of train (2 images), whole; 3 folds"
    assert own in table
    assert not [line for line in table if "†" in line]
    assert {"folds.png", "history.png"} <= {path.name for path in (tmp_path / "x").iterdir()}
    # What is done is not done again.
    processes.commands.clear()
    assert cli("crossval", *FOLDS, f"runs={tmp_path}", "name=x") == mean
    assert processes.commands == []


def test_one_that_fails_does_not_stop_the_others(cli, fails, processes: Processes, tmp_path: Path) -> None:
    processes.failing = {("src.train", 1)}
    message = fails("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
    folder = tmp_path / "x"
    assert message == (
        "1 of 3 folds failed (fold 1: data.batch_size=0: must be a whole number; log: "
        f"{folder}/fold1.log); the others are finished, and the same command runs these alone"
    )
    assert processes.commands == [
        ("src.train", 0), ("src.eval", 0), ("src.train", 1), ("src.train", 2), ("src.eval", 2)
    ]  # fmt: skip
    table = (folder / "crossval.md").read_text()
    assert "| 1 | fold1 | failed |  |  |" in table
    assert f"fold 1 failed: data.batch_size=0: must be a whole number; log: {folder}/fold1.log" in table
    assert "; 2 folds" in table
    processes.failing, processes.commands = set(), []
    cli("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
    assert processes.commands == [("src.train", 1), ("src.eval", 1)]
    assert "failed" not in (folder / "crossval.md").read_text()


def test_an_evaluation_that_failed_is_done_alone(cli, fails, processes: Processes, tmp_path: Path) -> None:
    processes.failing = {("src.eval", 0)}
    fails("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
    table = (tmp_path / "x" / "crossval.md").read_text()
    assert "| 0 | fold0 | failed | 14.29 % |  |" in table
    processes.failing, processes.commands = set(), []
    cli("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
    assert processes.commands == [("src.eval", 0)]


@pytest.mark.parametrize(
    ("visible", "given", "expected"),
    [(None, "[4,6]", {"4", "6"}), ("4,GPU-1a,7", "[0,1]", {"4", "GPU-1a"})],
)
def test_side_by_side_each_has_a_gpu_of_its_own(
    cli, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible, given: str, expected: set
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cli("crossval", *FOLDS, f"runs={tmp_path}", f"crossval.devices={given}")
    assert processes.most == 2
    assert set(processes.devices) == expected
    assert len(processes.commands) == 6


def test_a_gpu_that_the_job_has_not_is_told(cli, fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    message = fails("crossval", *FOLDS, f"runs={tmp_path}", "crossval.devices=[1,2]")
    assert message == ("crossval.devices=[1, 2]: no GPU 2 among CUDA_VISIBLE_DEVICES=4,5, whose first is 0")


def test_names_are_stable_and_tell_the_configuration(cli, processes: Processes, tmp_path: Path) -> None:
    for options in ([], [], ["optimizer.lr=0.5"], ["resume=false"], ["crossval.official_val=false"]):
        cli("crossval", *FOLDS, f"runs={tmp_path}", *options)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert all(name.startswith("streets-unet_small-tiny-3folds-s0-") for name in names)
    assert [name.endswith("-2") for name in names].count(True) == 1


def test_folds_of_another_configuration_are_refused(cli, fails, processes: Processes, tmp_path: Path) -> None:
    given = (*FOLDS, f"runs={tmp_path}", "name=x")
    mended = 'crossval.overrides={1:["optimizer.lr=0.1"]}'
    processes.failing = {("src.train", fold) for fold in range(3)}
    fails("crossval", *given, "optimizer.lr=-1")
    processes.failing = {("src.train", 1)}
    fails("crossval", *given)  # nobody got to weights: the folder is free
    table = (tmp_path / "x" / "crossval.md").read_text()
    message = fails("crossval", *given, "optimizer.lr=0.5")
    assert re.fullmatch(
        rf"{tmp_path}/x holds folds of another configuration \(optimizer.lr: [\d.]+ -> 0.5\); give another name=, or "
        "resume=false, to start beside it",
        message,
    )
    assert "overrides of fold 2: [] -> ['seed=1']" in fails("crossval", *given, 'crossval.overrides={2:["seed=1"]}')
    assert (tmp_path / "x" / "crossval.md").read_text() == table
    processes.failing, processes.commands = set(), []
    cli("crossval", *given, mended)
    assert processes.commands == [("src.train", 1), ("src.eval", 1)]
    cli("crossval", *given, mended, "data.num_workers=1")
    assert "overrides of fold 1: ['optimizer.lr=0.1'] -> []" in fails("crossval", *given)


def test_a_tainted_fold_marks_its_row_and_the_mean(cli, processes: Processes, tmp_path: Path) -> None:
    cli("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
    path = tmp_path / "x" / "fold1" / "results.json"
    results = json.loads(path.read_text())
    own = next(iter(results["evaluations"].values()))
    own["protocol"]["taints"] = ["weights were trained on 2 of these images"]
    path.write_text(json.dumps(results))
    cli("crossval", *FOLDS, f"runs={tmp_path}", "name=x")
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
        (['crossval.overrides={3:["seed=1"]}'], "crossval.overrides: there is no fold 3, only 0 to 2"),
        (
            ["crossval.ofical_val=true"],
            "crossval.ofical_val is not a key of this configuration; the nearest are crossval",
        ),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    fails, processes: Processes, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert fails("crossval", *FOLDS, f"runs={tmp_path}", *arguments).startswith(message)
    assert processes.commands == []
    assert not any(tmp_path.iterdir())


def test_more_of_one_fold(cli, monkeypatch: pytest.MonkeyPatch, processes: Processes, tmp_path: Path) -> None:
    given = []
    monkeypatch.setattr(
        crossval, "start", lambda command, *rest: given.append(command) or processes.start(command, *rest)
    )
    cli(
        "crossval",
        *FOLDS,
        f"runs={tmp_path}",
        'crossval.overrides={1:["optimizer.lr=-1"]}',
        "crossval.official_val=false",
    )
    assert [[word for word in command if "optimizer" in word] for command in given] == [[], ["optimizer.lr=-1"], []]
    assert not [word for command in given for word in command if "crossval" in word]


@pytest.mark.parametrize(("num_folds", "class_uniform"), [(2, 0.0), (2, 0.5), (5, 0.0)])
def test_nothing_of_a_held_out_part_or_its_group_is_read_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_folds: int, class_uniform: float
) -> None:
    """Its files, and with whole groups those of its group, are empty: to read one is an error, as validation shows.

    With five folds of two drives folds are blocks, and the gaps beside them are empty too.
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
        # Class statistics are counted of the whole split, once for all folds, and rows of training images used.
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


REAL = (*FOLDS, "data.num_folds=2", "crossval.official_val=true")


def test_real_processes(tmp_path: Path) -> None:
    """One fold is made to fail by a bad override; the next call runs that one alone, in the folder that it left."""

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


def test_the_official_evaluation_is_that_by_the_protocol_of_the_training(tmp_path: Path) -> None:
    def add(split: str, inference: str = "whole", precision: str = "32-true", checkpoint: str = "best") -> dict:
        protocol = {"labels": "x-2", "split": split, "images": 2, "inference": inference, "precision": precision}
        told = describe_evaluation(np.eye(2), ["a", "b"], protocol, {"name": checkpoint, "epoch": 1, "step": 2})
        run.add_evaluation(told, finished=split.startswith("fold"))
        return told

    run = RunFolder(tmp_path)
    add("fold 0 of 2 of train")
    for others in (
        {"split": "test"},
        {"split": "val", "inference": "whole, flip"},
        {"split": "val", "checkpoint": "last"},
        {"split": "val", "precision": "bf16-mixed"},
    ):
        add(**others)
        assert crossval.official_evaluation(run) is None
    own = add("val")
    assert crossval.official_evaluation(run)["tag"] == own["tag"]
    assert len(run.read_results()["evaluations"]) == 6, "none took the place of another"


def test_a_val_that_is_not_there_is_told_before_the_first_fold(fails, processes: Processes, tmp_path: Path) -> None:
    write_camvid(tmp_path / "data", {"train": 4})
    words = ("data=camvid", f"data.root={tmp_path / 'data'}", "data.num_folds=2", *SMALL, f"runs={tmp_path}")
    assert str(tmp_path / "data" / "val") in fails("crossval", *words)
    assert not processes.commands


@pytest.mark.slow
def test_killed_three_times_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """SIGKILL of the whole process tree at moments of no choice, then the same command: same table, same weights."""
    words = [word for word in REAL if "max_epochs" not in word] + ["trainer.max_epochs=6", f"runs={tmp_path}"]
    seconds = finish("src.crossval", *words, "name=whole")
    moments = [partial(time.sleep, part * seconds) for part in np.random.default_rng().uniform(0.1, 0.5, 3)]
    kill_then_finish(moments, "src.crossval", *words, "name=killed")
    tables = [(tmp_path / name / "crossval.md").read_text() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    for fold in range(2):
        assert_same_weights(tmp_path / "whole" / f"fold{fold}", tmp_path / "killed" / f"fold{fold}")
