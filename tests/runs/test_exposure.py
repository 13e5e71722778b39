"""What weights have seen is kept, handed on, and marked wherever a figure of it is told."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from src.reports import tables
from src.data.sources.camvid import CamVid, CamVidFull
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.concat import Concat
from src.data.sources.folder import Folder
from src.data.sources.kitti import Kitti
from src.data.sources.kitti_road import KittiRoad
from src.data.packed import attach
from src.data.source import FileSource, Source
from src.data.streets.source import Streets
from src.runs.leakage import Exposure, exposure_after, exposure_before, image_ids, note_exposure, write_exposure
from src.data.tools.pack import pack_split
from src.runs.folder import RunFolder, describe_evaluation
from src.config.sweep import POINTER, summary
from tests.support.trees import WRITERS as LAYOUTS
from tests.support.trees import names, write_camvid_full, write_cityscapes_kitti, write_folder, write_image, write_kitti, write_kitti_road, write_pair

TAINT = "weights were chosen on 2 of these images"
PROTOCOL = {"labels": "streets-11", "split": "val", "images": 2, "inference": "whole", "precision": "32-true"}


def evaluation(taints: tuple[str, ...] = (), split: str = "val") -> dict:
    checkpoint = {"name": "best", "epoch": 1, "step": 2}
    return describe_evaluation(np.array([[3, 1], [0, 4]]), ["a", "b"], {**PROTOCOL, "split": split}, checkpoint, taints)


def of_classes(told: dict, folder: Path) -> str:
    return tables.class_table(told)


def of_averages(told: dict, folder: Path) -> str:
    clean = evaluation(split="test")
    one = {"name": "mean of all", "members": ["x", "y"], "is_winner": True, "selection": clean, "official": told}
    return tables.candidate_table({"select_on": "holdout", "winner": "mean of all", "candidates": [one]})


def of_averages_where_val_decides(told: dict, folder: Path) -> str:
    one = {"name": "mean of all", "members": ["x", "y"], "is_winner": True, "selection": told, "official": told}
    return tables.candidate_table({"select_on": "official_val", "winner": "mean of all", "candidates": [one]})


def of_folds(told: dict, folder: Path) -> str:
    row = {"run": "r/fold0", "log": "l", "state": "done", "why": None, "official": None}
    folds = [{"fold": 0, "own": told, **row}, {"fold": 1, "own": evaluation(), **row}]
    own = {"count": 2, "mean": told["miou"], "deviation": 0.1, "low": 0.2, "high": 0.3}
    return tables.fold_table({"folds": folds, "summaries": {"own": own}})


def of_stages(told: dict, folder: Path) -> str:
    candidate = {"name": "mean of all", "selection": told, "official": told}
    folds = {"folds": [{"own": told}], "summaries": {"own": {"mean": told["miou"]}}}
    averages = {"select_on": "official_val", "winner": "mean of all", "candidates": [candidate]}
    return tables.stage_table([{"stage": "1", "folds": folds, "averages": averages}])


def of_a_sweep(told: dict, folder: Path) -> str:
    run = RunFolder(folder / "run")
    run.add_evaluation(told, finished=True)
    (folder / "sweep" / "0").mkdir(parents=True)
    (folder / "sweep" / "0" / POINTER).write_text(str(run.path))
    return summary(folder / "sweep")


WRITERS = (of_classes, of_averages, of_averages_where_val_decides, of_folds, of_stages, of_a_sweep)


@pytest.mark.parametrize("write", WRITERS)
def test_no_tainted_figure_without_its_mark(write: Callable, tmp_path: Path) -> None:
    told = evaluation((TAINT,))
    text = write(told, tmp_path)
    assert told["miou"] == pytest.approx(0.775)
    figure = r"(77\.50 %|0\.7750)"
    marked = len(re.findall(figure + "†", text))
    assert marked > 0
    clean = 1 if write in (of_averages, of_folds) else 0  # beside it stands the same figure of images not seen
    assert len(re.findall(figure, text)) == marked + clean
    assert re.search(rf"{TAINT}|† on images that the weights were trained or chosen on", text)


@pytest.mark.parametrize("write", WRITERS)
def test_no_mark_where_there_is_no_taint(write: Callable, tmp_path: Path) -> None:
    assert "†" not in write(evaluation(), tmp_path)


def test_the_tag_and_the_title_of_a_plot_say_it() -> None:
    told = evaluation((TAINT,))
    assert told["tag"] == f"streets-11 val (2 images), whole; TAINTED: {TAINT}"
    assert told["protocol"]["taints"] == [TAINT]
    assert tables.mark_title("run", told) == f"run\n† {TAINT}"
    assert tables.mark_title("run", evaluation()) == "run"
    assert "taints" not in evaluation()["protocol"]


def test_the_folds_of_one_division_share_a_line() -> None:
    def on(split: str, count: int) -> dict:
        return evaluation((f"weights were trained on {count} of these images",), split)

    given = [on("val", 4), on("fold 10 of 12 (by group) of train", 5), on("fold 9 of 12 (by group) of train", 7)]
    assert tables.notes([*given, given[0], on("fold 0 of 2 (by group) of train", 9)]) == [
        "† fold 0 of 2 (by group) of train: weights were trained on 9 of these images",
        "† folds 9 10 of 12 (by group) of train: weights were trained on 7, 5 of these images",
        "† val: weights were trained on 4 of these images",
    ]


def test_taints_count_the_images() -> None:
    seen = Exposure(frozenset("abc"), frozenset("cd"))
    assert seen.taints("xyz") == []
    assert seen.taints("ax") == ["weights were trained on 1 of these images"]
    assert seen.taints("abcd") == [
        "weights were trained on 3 of these images",
        "weights were chosen on 2 of these images",
    ]
    assert Exposure().taints("abc") == []
    assert (seen | Exposure(frozenset("z"))).trained == frozenset("abcz")


def ids(source: Source, *splits: str) -> list[str]:
    return [image for split in splits or ("train",) for image in image_ids(source, source.samples(split))]


def test_drawn_scenes_have_the_names_of_their_label_set() -> None:
    streets = Streets(size=(64, 64), num_train=2, num_val=1)
    assert ids(streets, "train", "val") == [
        "streets-11/0/train_00000", "streets-11/0/train_00001", "streets-11/0/val_00000"
    ]  # fmt: skip


OPENED: dict[str, Callable[[str], FileSource]] = {
    "camvid": CamVid,
    "camvid_full": CamVidFull,
    "cityscapes": partial(Cityscapes, extra=True),
    "cityscapes_kitti": partial(Concat, cityscapes=Cityscapes, kitti=Kitti),
    "folder": Folder,
    "kitti": Kitti,
    "kitti_road": KittiRoad,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_image_keeps_its_id_when_its_data_are_moved(name: str, tmp_path: Path) -> None:
    """All images of a dataset differ, those of every split; a renamed root and a link to it change none."""
    root = LAYOUTS[name](tmp_path / "first")
    source = OPENED[name](str(root))
    own = {split: ids(source, split) for split in source.splits if (name, split) != ("camvid", "test")}
    if name != "camvid":  # whose writer gives both splits the same names
        parts = [image for split in own if "_" not in split for image in own[split]]
        assert len(set(parts)) == len(parts) > 2
    root.rename(tmp_path / "other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    for place in ("other", "link"):
        moved = OPENED[name](str(tmp_path / place))
        assert {split: ids(moved, split) for split in own} == own


def test_a_join_knows_its_members_images(tmp_path: Path) -> None:
    root = write_cityscapes_kitti(tmp_path)
    joined = OPENED["cityscapes_kitti"](str(root))
    members = ids(Cityscapes(str(root / "cityscapes"))) + ids(Kitti(str(root / "kitti")))
    assert ids(joined) == ids(joined, "cityscapes_train", "kitti_train") == members
    assert members[0] == "cityscapes/leftImg8bit/train/aachen/aachen_000000_000000_leftImg8bit"


def test_splits_and_tasks_of_the_same_frames_share_them(tmp_path: Path) -> None:
    write_kitti(tmp_path / "kitti")
    write_kitti_road(tmp_path / "road")
    mseg, whole = Kitti(str(tmp_path / "kitti")), Kitti(str(tmp_path / "kitti"), split="all")
    assert set(ids(mseg, "train", "val")) == set(ids(whole))
    road, lane = (KittiRoad(str(tmp_path / "road"), task) for task in ("road", "lane"))
    assert set(ids(lane, "train", "val")) < set(ids(road, "train", "val"))


def test_equal_names_of_training_and_testing_are_other_images(tmp_path: Path) -> None:
    write_kitti(tmp_path / "kitti")
    source = Kitti(str(tmp_path / "kitti"))
    assert names(source, "train")[0] == names(source, "test")[0] == "000000_10"
    assert ids(source)[0] == "kitti/training/image_2/000000_10"
    assert ids(source, "test")[0] == "kitti/testing/image_2/000000_10"


def test_camvid_in_both_layouts_has_the_same_frames(tmp_path: Path) -> None:
    full = CamVidFull(str(write_camvid_full(tmp_path / "full")), labels="32")
    rng = np.random.default_rng(0)
    for sample in full.samples("train"):
        image, mask = tmp_path / "segnet" / "train" / f"{sample.name}.jpg", tmp_path / "segnet" / "trainannot"
        write_pair(image, mask / f"{sample.name}.png", (36, 48), range(12), rng)
    segnet = CamVid(str(tmp_path / "segnet"))
    assert ids(segnet) == ids(full) == ["camvid/0001TP_006690", "camvid/0006R0_f00930"]


def test_own_images_are_known_in_any_layout_and_not_taken_for_others(tmp_path: Path) -> None:
    """Also under other classes; another user's folder with the same names and classes has other images."""
    own = Folder(str(write_folder(tmp_path / "own")))
    before = ids(own, "train"), ids(own, "val")
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            target = tmp_path / "again" / split / kind
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / kind / split).rename(target)
    (tmp_path / "again" / "classes.txt").write_text("ground: 1 1 1\nrest: 2 2 2 1\nrest: 3 3 3 2\n")
    again = Folder(str(tmp_path / "again"), labels="two")
    assert (ids(again, "train"), ids(again, "val")) == before
    write_folder(tmp_path / "other")
    rng = np.random.default_rng(1)
    for sample in Folder(str(tmp_path / "other")).samples("train"):
        write_image(sample.image, (48, 80), rng)
    assert not set(ids(Folder(str(tmp_path / "other")))) & set(before[0])


def test_a_pack_gives_the_same_ids(tmp_path: Path) -> None:
    root = LAYOUTS["camvid"](tmp_path / "camvid")
    files = ids(CamVid(str(root)))
    pack_split(CamVid(str(root)), "train", tmp_path / "pack", 1)
    packed = attach(CamVid(str(root)), str(tmp_path / "pack"))
    assert packed.pack.open(packed.samples("train")[0]) is not None
    assert ids(packed) == files == ["camvid/0001TP_00000", "camvid/0016E5_00001"]


def test_what_was_seen_is_handed_on(tmp_path: Path) -> None:
    """A run is not tainted by what it trains on itself: its splits say that. Those that start from it are."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_exposure(first, ["a"], Exposure(frozenset("z"), frozenset("v")))
    assert exposure_before(first) == Exposure(frozenset("z"), frozenset("v"))
    note_exposure(second, ["b"], first / "checkpoints" / "best.ckpt")
    assert exposure_before(second) == exposure_after(first) == Exposure(frozenset("az"), frozenset("v"))
    assert exposure_after(second) == Exposure(frozenset("abz"), frozenset("v"))
    assert json.loads((second / "exposure.json").read_text())["trained"] == ["b"]


def test_a_source_that_does_not_tell_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        note_exposure(tmp_path / "run", ["b"], tmp_path / "weights.pth")
    assert "weights.pth does not tell what it was trained on" in caplog.text
    assert exposure_before(tmp_path / "run") == Exposure()
    assert exposure_after(tmp_path / "none") == Exposure()
