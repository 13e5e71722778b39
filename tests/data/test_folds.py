"""Folds cover train once, groups stay on one side, blocks have gaps; every figure of a fold names it."""

import hashlib
import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from src.config.saved import config_text
from src.data.folds import Folds, Split, folds_of_images, join_splits
from src.data.source import Sample, Source
from src.data.sources.camvid import CamVid
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.kitti import Kitti
from src.errors import UserError
from tests.support.paths import TINY
from tests.support.trees import write_cityscapes, write_kitti

# Frames of each of Cityscapes' training cities, as its archive has them.
CITIES = {
    "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221, "erfurt": 109,
    "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94, "strasbourg": 365,
    "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122,
}  # fmt: skip


class Names(Source):
    """Frames of groups of given sizes, without files; `coarse` ones beside train."""

    labels, classes = "names", {}

    def __init__(self, sizes: dict[str, int], splits: tuple[str, ...] = ("train", "val"), coarse: int = 0) -> None:
        self.sizes, self.splits, self.coarse = sizes, splits, coarse
        self.extra_splits = ("coarse",) if coarse else ()

    def samples(self, split: str) -> list[Sample]:
        if split == "coarse":
            return [Sample(f"coarse_{i}", "coarse") for i in range(self.coarse)]
        if split != "train":
            return [Sample("v_0", "v")]
        return [Sample(f"{group}_{i:04d}", group) for group, size in self.sizes.items() for i in range(size)]

    def read(self, sample: Sample) -> None:
        raise AssertionError("folds are made only of names")

    def image_id(self, sample: Sample) -> str:
        return sample.name


def names(samples: list[Sample]) -> list[str]:
    return [sample.name for sample in samples]


@pytest.mark.parametrize("by", ["group", "image"])
@pytest.mark.parametrize("sizes", [CITIES, {"a": 62, "b": 101, "c": 204}, {"a": 3, "b": 3, "c": 3, "d": 3, "e": 3}])
def test_folds_cover_train_once(sizes: dict[str, int], by: str) -> None:
    source = Names(sizes)
    everything = names(source.samples("train"))
    held = []
    for fold in range(5):
        parts = {name: names(samples) for name, samples in Folds(5, fold, by=by).divide(source).items()}
        assert sorted(chain(*parts.values())) == sorted(everything), "each image is in one part"
        assert parts["fold"] == [name for name in everything if name in set(parts["fold"])], "in the split's order"
        held += parts["fold"]
    assert sorted(held) == sorted(everything)


def test_no_group_is_on_two_sides_and_folds_are_balanced() -> None:
    source, sizes = Names(CITIES), []
    for fold in range(5):
        parts = Folds(5, fold).divide(source)
        groups = {name: {sample.group for sample in samples} for name, samples in parts.items()}
        assert not groups["train"] & groups["fold"]
        assert not parts["left_out"]
        sizes.append(len(parts["fold"]))
    assert sum(sizes) == 2975
    assert max(sizes) - min(sizes) < 100


def test_images_are_shuffled_as_scikit_learn_does() -> None:
    """The lists are those of sklearn 1.7's KFold(5, shuffle=True, random_state=42).split(range(13))."""
    folds = folds_of_images(13, 5, 42)
    expected = [[0, 9, 11], [2, 5, 8], [1, 4, 12], [7, 10], [3, 6]]
    assert [np.flatnonzero(folds == fold).tolist() for fold in range(5)] == expected


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "a22e78c6"),
        ({"seed": 1}, "720f9f1d"),
        ({"by": "image"}, "3679ab25"),  # computed from scikit-learn's own KFold on 2975 images
    ],
)
def test_file_lists_are_the_same_on_every_machine(options: dict, digest: str) -> None:
    lists = [names(Folds(5, fold, **options).samples(Names(CITIES), "fold")) for fold in range(5)]
    assert hashlib.sha256(json.dumps(lists).encode()).hexdigest()[:8] == digest
    if not options:
        assert {name.split("_")[0] for name in lists[0]} == {"strasbourg", "tubingen", "ulm"}


def test_blocks_if_there_are_fewer_groups_than_folds() -> None:
    """CamVid's three sequences: the longest is cut in three, with gaps on both sides of its middle third."""
    source = Names({"0001TP": 62, "0006R0": 101, "0016E5": 204})
    sizes, gaps = [], []
    for fold in range(5):
        folds = Folds(5, fold, gap=4)
        parts = folds.divide(source)
        held = [int(sample.name.split("_")[1]) for sample in parts["fold"]]
        assert len({sample.group for sample in parts["fold"]}) == 1
        assert held == list(range(held[0], held[0] + len(held))), "consecutive frames"
        train = [int(s.name.split("_")[1]) for s in parts["train"] if s.group == parts["fold"][0].group]
        assert all(abs(a - b) > 4 for a in train for b in (held[0], held[-1]))
        sizes.append(len(held))
        gaps.append(names(parts["left_out"]))
        assert "train has 3 groups, fewer than folds, so that folds are blocks of consecutive frames" in folds.note(
            source
        )
        assert f"and {len(gaps[-1])} frames beside this block are left out of training (data.fold_gap=4)" in folds.note(
            source
        )
    assert sizes == [62, 101, 68, 68, 68]
    assert [len(gap) for gap in gaps] == [0, 0, 4, 8, 4]
    assert gaps[3] == [f"0016E5_{i:04d}" for i in (64, 65, 66, 67, 136, 137, 138, 139)]


def test_blocks_follow_the_numbers_in_names() -> None:
    """Names without leading zeros (`2`, `10`) are no reason for neighbours on both sides of a fold."""

    class Unpadded(Names):
        def samples(self, split: str) -> list[Sample]:
            return [Sample(name, "") for name in sorted(f"f{number}" for number in range(1, 121))]

    for fold in range(4):
        parts = Folds(4, fold, gap=3).divide(Unpadded({}))
        numbers = {part: [int(name[1:]) for name in names(samples)] for part, samples in parts.items()}
        assert sorted(numbers["fold"]) == list(range(30 * fold + 1, 30 * fold + 31))
        assert min(abs(a - b) for a in numbers["train"] for b in numbers["fold"]) == 4
        assert all(names(samples) == sorted(names(samples)) for samples in parts.values()), "the split's own order"


def test_real_camvid_folds(real_camvid: Path) -> None:
    source = CamVid(str(real_camvid))
    held = [names(Folds(5, fold).samples(source, "fold")) for fold in range(5)]
    assert [len(part) for part in held] == [62, 101, 68, 68, 68]
    assert sorted(chain(*held)) == names(source.samples("train"))
    three = Folds(3, 0).divide(source)
    assert {sample.group for sample in three["fold"]} == {"0016E5"}


def test_extra_splits_always_train_and_are_never_held_out() -> None:
    source = Names(CITIES, coarse=7)
    for folds in (Folds(5, 2), Folds()):
        train = names(folds.samples(source, "train"))
        assert train[-7:] == [f"coarse_{i}" for i in range(7)]
    assert not any(name.startswith("coarse") for name in names(Folds(5, 2).samples(source, "fold")))


def test_without_folds_nothing_changes() -> None:
    source, folds = Names(CITIES), Folds()
    assert folds.validation_split == "val"
    assert names(folds.samples(source, "train")) == names(source.samples("train"))
    assert names(folds.samples(source, "val")) == ["v_0"]
    assert folds.note(source) is None
    assert folds.describe(source, "val") == Split("val")


def test_figures_and_the_log_name_the_fold() -> None:
    source = Names(CITIES)
    held_out = Folds(5, 1).describe(source, "fold")
    assert held_out == Split("fold", 1, 5, "group", seed=42)
    assert str(held_out) == "fold 1 of 5 (by group, seed 42) of train"
    assert str(Folds(5, 1, by="image").describe(source, "train")) == "train without fold 1 of 5 (by image, seed 42)"
    assert str(Folds(5, 1).describe(source, "val")) == "val", "the official one"
    assert str(Folds(9, 1, gap=3).describe(Names({"a": 99}), "fold")) == "fold 1 of 9 (by block, gap 3) of train"
    assert "neighbouring frames may fall on both sides (data.fold_by=image)" in Folds(5, 1, by="image").note(source)
    assert Folds(5, 0).note(source).endswith(")")
    assert "strasbourg" in Folds(5, 0).note(source)


def test_several_splits_have_one_name() -> None:
    folds = [Split("fold", fold, 3, "group", seed=42) for fold in range(3)]
    other = Split("fold", 1, 3, "group", seed=7)
    assert join_splits(folds[:2]) == "folds 0 1 of 3 (by group, seed 42) of train"
    assert join_splits(folds[:1]) == str(folds[0])
    assert join_splits([folds[0], other]) == f"{folds[0]} + {other}", "of two divisions"
    assert join_splits([Split("val"), folds[0]]) == f"val + {folds[0]}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_folds": 1, "fold": 0}, "data.num_folds=1: must be null or a whole number, at least 2"),
        ({"num_folds": 5}, "data.fold=None: must be the fold to hold out, 0 to 4"),
        ({"num_folds": 5, "fold": 5}, "data.fold=5: must be the fold to hold out, 0 to 4"),
        ({"fold": 1}, "data.fold=1: needs the number of folds; give data.num_folds=5"),
        ({"num_folds": 5, "fold": True}, "data.fold=True: must be the fold to hold out, 0 to 4"),
        ({"by": "city"}, "data.fold_by=city: must be group or image"),
        ({"gap": -1}, "data.fold_gap=-1: must be a whole number, at least 0"),
        ({"seed": 0.5}, "data.fold_seed=0.5: must be a whole number, at least 0"),
    ],
)
def test_mistakes(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Folds(**arguments)


def test_mistakes_with_the_data() -> None:
    with pytest.raises(ValueError, match=r"data.num_folds=5: train has 4 images; give at most as many"):
        Folds(5, 0).divide(Names({"a": 4}))
    with pytest.raises(ValueError, match=r"data.fold_gap=5: leaves nothing to train on; give a smaller gap"):
        Folds(2, 0).divide(Names({"a": 8}))
    with pytest.raises(ValueError, match=r"has no val, only train; give it one, or .*data.val_share=0.25"):
        Folds().samples(Names(CITIES, splits=("train",)), "val")


def test_mistakes_with_the_data_in_files(tmp_path: Path) -> None:
    cityscapes = Cityscapes(str(write_cityscapes(tmp_path / "cityscapes")))
    kitti = Kitti(str(write_kitti(tmp_path / "kitti")), split="all")
    with pytest.raises(UserError, match=r"^data.num_folds=7: train has 6 images; give at most as many$"):
        Folds(7, 6).samples(cityscapes, "train")
    with pytest.raises(
        UserError, match=r"^this dataset has no val, only train, test; give it one, or hold out a share"
    ):
        Folds().samples(kitti, "val")


def test_kitti_folds_keep_drives_whole(tmp_path: Path) -> None:
    """Frames 0 to 14 without their images' content: five drives of the dev-kit, in two folds."""
    source = Kitti(str(write_kitti(tmp_path, numbers=tuple(range(15)))), split="all")
    for fold in range(2):
        parts = Folds(2, fold).divide(source)
        groups = [{sample.group for sample in parts[name]} for name in ("train", "fold")]
        assert not groups[0] & groups[1]
        assert len(groups[0] | groups[1]) == 5


FOLD = ("data.num_folds=2", "data.fold=1", "data.fold_gap=0")


@pytest.mark.e2e
def test_a_run_of_a_fold(cli, fails, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It validates on the held-out part, keeps its lists, and names the fold in the protocol; src.eval has val."""
    tiny = [*TINY, f"runs={tmp_path}", *FOLD]
    miou = cli("train", *tiny)
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert run.name.startswith("streets-unet_small-tiny-fold1of2-s0-")
    printed = capfd.readouterr().out
    assert "2 train, 2 fold" in printed
    assert (
        "note: fold 1 of 2 (by block, gap 0) of train: 2 images train, 2 validate; train has 1 groups, fewer" in printed
    )
    lists = {path.stem: path.read_text().split() for path in (run / "folds").iterdir()}
    assert lists == {"train": ["train_00000", "train_00001"], "fold": ["train_00002", "train_00003"], "left_out": []}
    (own,) = json.loads((run / "results.json").read_text())["evaluations"].values()
    assert own["protocol"]["split"] == "fold 1 of 2 (by block, gap 0) of train"
    assert own["tag"].startswith("streets-11 fold 1 of 2 (by block, gap 0) of train (2 images), whole at own size")
    assert own["miou"] == miou
    assert cli("eval", f"run={run}", "accelerator=cpu") == pytest.approx(miou, abs=1e-12), "by default as in training"
    cli("eval", f"run={run}", "accelerator=cpu", "split=val")
    tags = list(json.loads((run / "results.json").read_text())["evaluations"])
    assert len(tags) == 2
    assert tags[1].startswith("streets-11 val (3 images)")
    assert cli("train", *tiny) == miou, "the same command finds the same run"
    other = [argument for argument in tiny if not argument.startswith("data.fold=")]
    assert "data.fold: 1 -> 0" in fails("train", *other, "data.fold=0", f"name={run.name}")
    config = OmegaConf.load(run / "config.yaml")
    config.datamodule.dataset.num_train = 5
    (run / "config.yaml").write_text(config_text(config))
    message = fails("eval", f"run={run}", "accelerator=cpu")
    assert "names other files than the data have now, or is damaged; give data.root=" in message


def test_command_line_mistakes(fails) -> None:
    assert fails("train", "data.num_folds=5") == "data.fold=None: must be the fold to hold out, 0 to 4"
    assert fails("train", "data.fold=1").startswith("data.fold=1: needs the number of folds; give data.num_folds=5")
