"""Leakage: images are known again wherever their data are, and what weights have seen is handed on."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from src.config.open import weight_files
from src.data.packed import attach
from src.data.source import FileSource, Source
from src.data.sources.ade20k import Ade20k
from src.data.sources.bdd100k import Bdd100k
from src.data.sources.camvid import CamVid, CamVidFull
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.concat import Concat
from src.data.sources.folder import Folder
from src.data.sources.kitti import Kitti
from src.data.sources.kitti_road import KittiRoad
from src.data.sources.mapillary import Mapillary
from src.data.streets.source import Streets
from src.data.tools.pack import pack_split
from src.runs.leakage import image_ids, leakage_after, leakage_before, note_leakage, write_leakage
from src.runs.records import Leakage, Taint
from tests.support.trees import WRITERS as LAYOUTS
from tests.support.trees import (
    names,
    write_camvid_full,
    write_cityscapes_kitti,
    write_folder,
    write_image,
    write_kitti,
    write_kitti_road,
    write_pair,
)


def test_taints_count_the_images() -> None:
    seen = Leakage(frozenset("abc"), frozenset("cd"))
    assert seen.taints("xyz") == ()
    assert seen.taints("ax") == (Taint("trained", 1),)
    assert seen.taints("abcd") == (Taint("trained", 3), Taint("chosen", 2))
    assert list(map(str, seen.taints("abcd"))) == [
        "weights were trained on 3 of these images",
        "weights were chosen on 2 of these images",
    ]
    assert Leakage().taints("abc") == ()
    assert (seen | Leakage(frozenset("z"))).trained == frozenset("abcz")


def ids(source: Source, *splits: str) -> list[str]:
    return [image for split in splits or ("train",) for image in image_ids(source, source.samples(split))]


def test_drawn_scenes_have_names_with_their_label_set() -> None:
    streets = Streets(size=(64, 64), num_train=2, num_val=1)
    assert ids(streets, "train", "val") == [
        "streets-11/0/train_00000", "streets-11/0/train_00001", "streets-11/0/val_00000"
    ]  # fmt: skip


OPENED: dict[str, Callable[[str], FileSource]] = {
    "ade20k": Ade20k,
    "bdd100k": Bdd100k,
    "camvid": CamVid,
    "camvid_full": CamVidFull,
    "cityscapes": partial(Cityscapes, extra=True),
    "cityscapes_kitti": partial(Concat, cityscapes=Cityscapes, kitti=Kitti),
    "folder": Folder,
    "kitti": Kitti,
    "kitti_road": KittiRoad,
    "mapillary": Mapillary,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_image_keeps_its_id_when_its_data_are_moved(name: str, tmp_path: Path) -> None:
    """All ids of a dataset differ, across its splits; a renamed root and a link to it change none."""
    root = LAYOUTS[name](tmp_path / "first")
    source = OPENED[name](str(root))
    own = {split: ids(source, split) for split in source.splits if (name, split) != ("camvid", "test")}
    if name not in ("camvid", "bdd100k", "mapillary"):  # their writers give both splits the same names
        parts = [image for split in own if "_" not in split for image in own[split]]
        assert len(set(parts)) == len(parts) > 2
    root.rename(tmp_path / "other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    for place in ("other", "link"):
        moved = OPENED[name](str(tmp_path / place))
        assert {split: ids(moved, split) for split in own} == own


def test_a_join_keeps_the_ids_of_its_members(tmp_path: Path) -> None:
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


def test_equal_names_in_training_and_testing_are_different_images(tmp_path: Path) -> None:
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


def test_own_images_keep_their_ids_in_any_layout_and_differ_from_others(tmp_path: Path) -> None:
    """The ids hold under other classes too; another user's folder of the same names and classes has other images."""
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


def test_a_run_hands_its_leakage_on(tmp_path: Path) -> None:
    """A run is not tainted by its own training images, which its splits state; runs that start from it are."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_leakage(first, ["a"], Leakage(frozenset("z"), frozenset("v")))
    assert leakage_before(first) == Leakage(frozenset("z"), frozenset("v"))
    note_leakage(second, ["b"], first / "checkpoints" / "best.ckpt")
    assert leakage_before(second) == leakage_after(first) == Leakage(frozenset("az"), frozenset("v"))
    assert leakage_after(second) == Leakage(frozenset("abz"), frozenset("v"))
    assert json.loads((second / "exposure.json").read_text())["trained"] == ["b"]


def test_every_file_of_weights_hands_its_leakage_on(tmp_path: Path) -> None:
    """Of the backbone and of a teacher, as of `init_from`."""
    files = [tmp_path / name / "checkpoints" / "best.ckpt" for name in ("first", "backbone", "teacher")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
        write_leakage(file.parents[1], [file.parents[1].name], Leakage())
    cfg = OmegaConf.create(
        {
            "init_from": "first",
            "init_source": {"path": str(files[0])},
            "backbone": {"name": "resnet18", "weights": str(files[1])},
            "model": {
                "backbone": "${backbone}",
                "weights": None,
                "teacher": {"backbone": {"weights": "imagenet"}, "weights": str(files[2])},
            },
        }
    )
    assert weight_files(cfg) == files
    note_leakage(tmp_path / "run", [], *weight_files(cfg))
    assert leakage_before(tmp_path / "run").trained == {"first", "backbone", "teacher"}
    cfg.init_from, cfg.backbone.weights, cfg.model.teacher = None, "imagenet", None
    assert weight_files(cfg) == []


def test_unknown_leakage_of_the_first_weights_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        note_leakage(tmp_path / "run", ["b"], tmp_path / "weights.pth")
    assert "weights.pth does not say what it was trained on" in caplog.text
    assert leakage_before(tmp_path / "run") == Leakage()
    assert leakage_after(tmp_path / "none") == Leakage()
