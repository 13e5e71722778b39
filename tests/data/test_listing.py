"""Tests of listing datasets: once per process, and with faults: missing pairs in every layout, broken lists, links."""

import copy
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch._utils import ExceptionWrapper

from src.data.folds import Folds
from src.data.packed import attach
from src.data.reading import open_mask, read_beginning, read_image, read_size
from src.data.source import FileSource, Sample
from src.data.sources.camvid import CamVid
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.folder import Folder
from src.data.sources.kitti_road import KittiRoad
from src.data.statistics import training_statistics
from src.data.tools.check import check
from src.data.tools.pack import pack_split
from src.errors import DataError
from tests.data.test_check import configured, kinds_and_files
from tests.support.trees import (
    WRITERS,
    write_camvid,
    write_camvid_full,
    write_cityscapes,
    write_folder,
    write_image,
    write_kitti_road,
    write_mask,
    write_pair,
)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Counts how often each dataset and split is looked for on disk."""
    counts: Counter[tuple[str, str]] = Counter()
    original = FileSource._pair

    def counted(self: FileSource, split: str) -> Iterator[Sample | DataError]:
        counts[type(self).__name__, split] += 1
        return original(self, split)

    monkeypatch.setattr(FileSource, "_pair", counted)
    return counts


def test_a_fold_run_lists_train_once(camvid: Path, tmp_path: Path, walks: Counter[tuple[str, str]]) -> None:
    """Everything that a run of a fold asks of its dataset, from its class weights to its batches."""
    pack_split(CamVid(str(camvid)), "train", tmp_path / "pack", 1)
    walks.clear()
    source, folds = attach(CamVid(str(camvid)), str(tmp_path / "pack")), Folds(num_folds=2, fold=0)
    samples = folds.samples(source, "train")
    folds.samples(source, "fold")
    folds.lists(source)
    folds.note(source)
    folds.describe(source, "fold")
    training_statistics(source, samples)
    attach(source, str(tmp_path / "pack"))
    check(source, ["train"])
    assert walks == {("CamVid", "train"): 1}


def test_a_join_lists_each_part_once(tmp_path: Path, walks: Counter[tuple[str, str]]) -> None:
    source = configured("cityscapes_kitti", WRITERS["cityscapes_kitti"](tmp_path))
    for split in ("train", "kitti_train", "cityscapes_train", "train"):
        source.samples(split)
    check(source)
    assert {dataset for dataset, split in walks if split == "train"} == {"Cityscapes", "Kitti"}
    assert set(walks.values()) == {1}


def test_a_list_is_not_changed_by_its_users(camvid: Path) -> None:
    source = CamVid(str(camvid))
    source.samples("train").clear()
    assert len(source.samples("train")) == 4


def test_a_fault_keeps_its_fields_between_processes() -> None:
    fault = DataError(Path("a/x.png"), "label", "label 12 (7 px) is not in the label table; mend the mask", {"12": 7})
    again = copy.copy(fault)  # by __reduce_ex__, as between processes
    assert (again.path, again.kind, again.text, again.counts) == (fault.path, fault.kind, fault.text, fault.counts)
    assert str(again) == str(fault) == "a/x.png: label 12 (7 px) is not in the label table; mend the mask"


def test_a_fault_in_a_data_worker_stays_a_fault() -> None:
    """A worker of torch hands on only the message, and the main process makes the exception again from it."""
    try:
        raise DataError(Path("a/x.png"), "unreadable", "cannot be read (torn); replace or remove the file")
    except DataError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DataError, match=r"(?s)in DataLoader worker process 0.*a/x.png: cannot be read \(torn\)"):
        wrapped.reraise()


# Faults


@pytest.mark.parametrize("name", WRITERS)
def test_missing_masks_and_images_of_every_dataset_are_named(name: str, tmp_path: Path) -> None:
    """Sound trees pass; an image and a mask that were removed are named, by the rules of each layout."""
    root = WRITERS[name](tmp_path / "data")
    source = configured(name, root)
    report = check(source)
    assert report.errors == []
    assert {fault.kind for fault in report.faults} <= {"absent split", "empty class"}
    samples = source.samples("train")
    without_mask, without_image = samples[0], samples[-1]
    without_mask.mask.unlink()
    without_image.image.unlink()
    faults = kinds_and_files(check(configured(name, root)))
    assert faults.count(("missing mask", (without_mask.image,))) == 1
    assert faults.count(("mask without image", (without_image.mask,))) == 1
    with pytest.raises(DataError, match=f"{without_mask.image}: image without mask; expected ") as first:
        configured(name, root).samples("train")
    assert (first.value.path, first.value.kind) == (without_mask.image, "missing mask")


def test_splits_that_cannot_be_listed(tmp_path: Path) -> None:
    """A broken list stops only its split; a missing val is an error unless only train is asked for."""
    root = write_camvid(tmp_path / "camvid", {"train": 3})
    report = check(CamVid(str(root)))
    assert [(fault.kind, fault.split) for fault in report.faults] == [("split", "val"), ("absent split", "test")]
    assert len(report.readings["train"]) == 3
    assert check(CamVid(str(root)), ["train"]).faults == []
    own = write_folder(tmp_path / "own")
    shutil.rmtree(own / "images" / "val")
    (own / "train.txt").write_text("train/a/0\n")
    (own / "val.txt").write_text("train/a/9\n")
    shutil.move(own / "images" / "train", own / "images" / "x")
    shutil.move(own / "masks" / "train", own / "masks" / "x")
    report = check(Folder(str(own)))
    assert [fault.kind for fault in report.errors] == ["split", "split"]
    assert f"{own}/val.txt: no image 'train/a/9' in {own}/images; correct the list" in report.errors[1].text


def test_files_with_a_foreign_name_are_named_once(tmp_path: Path) -> None:
    root = write_camvid_full(tmp_path / "full")
    stray = root / "701_StillsRaw_full" / "holiday.png"
    write_image(stray, (72, 96), np.random.default_rng(0))
    report = check(configured("camvid_full", root))
    assert kinds_and_files(report) == [("listing", (stray,))]
    assert [len(found) for found in report.readings.values()] == [2, 2, 2]


def test_two_files_of_one_name_are_refused(camvid: Path) -> None:
    """Of two images the second; of two masks both, as either may be the right one."""
    image, mask = camvid / "train" / "0001TP_00000.png", camvid / "valannot" / "0001TP_00000.png"
    for path in (image, mask):
        shutil.copy(path, path.with_suffix(".tif"))
    report = check(CamVid(str(camvid)))
    expected = [("listing", (path.with_suffix(".tif"),)) for path in (image, mask)]
    assert kinds_and_files(report) == expected
    assert {split: len(readings) for split, readings in report.readings.items()} == {"train": 4, "val": 2, "test": 2}
    assert report.errors[0].text == f"{image.with_suffix('.tif')}: {image.name} has the same name; keep one of them"
    with pytest.raises(DataError, match=r"train/0001TP_00000.tif: 0001TP_00000.png has the same name"):
        CamVid(str(camvid)).samples("train")


def test_an_image_whose_header_cannot_be_read_is_unreadable(tmp_path: Path) -> None:
    """KITTI road groups frames by their sizes, so that a damaged file has no group; the others are still listed."""
    source = KittiRoad(str(write_kitti_road(tmp_path)))
    path = tmp_path / "training" / "image_2" / "umm_000001.png"
    path.write_text("no image")
    report = check(source)
    assert kinds_and_files(report) == [("unreadable", (path,))]
    assert len(report.readings["train"]) == 5
    with pytest.raises(DataError, match=r"umm_000001.png: cannot be read \(not an image\)"):
        source.samples("train")


def test_links_are_followed_but_not_in_circles_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    """Training and check share one walk; `Folder` looks for images at any depth."""
    data, own = write_camvid(tmp_path / "elsewhere", {"train": 2, "val": 1, "test": 1}), tmp_path / "own"
    root = tmp_path / "camvid"
    root.mkdir()
    for folder in data.iterdir():
        (root / folder.name).symlink_to(folder)
    (root / "train" / "circle").symlink_to(root)
    (root / "train" / "._x.png").touch()
    (root / ".git").mkdir()
    (root / ".git" / "x.png").touch()
    source = CamVid(str(root))
    assert [sample.image for sample in source.samples("train")] == sorted((root / "train").glob("0*.png"))
    assert check(source).faults == []
    write_folder(own)
    for kind in ("images", "masks"):
        shutil.move(own / kind / "train" / "b", tmp_path / kind)
        (own / kind / "train" / "b").symlink_to(tmp_path / kind)
        (own / kind / "train" / "circle").symlink_to(own / kind)
        (own / kind / "train" / ".trash").mkdir()
        (own / kind / "train" / ".trash" / "0.png").touch()
    folder = Folder(str(own))
    assert [sample.name for sample in folder.samples("train")] == ["a/0", "a/1", "b/0"]
    assert check(folder).faults == []


def test_only_files_with_the_name_of_a_mask_can_lack_an_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    road = write_kitti_road(tmp_path / "road")
    masks = road / "training" / "gt_image_2"
    for name in ("um_road_000002.png", "um_lane_000002.png"):
        write_mask(masks / name, (48, 80), [(255, 0, 255), (255, 0, 0)], rng)
    assert kinds_and_files(check(KittiRoad(str(road)))) == [("mask without image", (masks / "um_road_000002.png",))]
    city = write_cityscapes(tmp_path / "city")
    masks = city / "gtFine" / "train" / "zurich"
    for ending in ("labelIds.png", "color.png", "polygons.json"):
        write_mask(masks / "x.png", (64, 128), range(34), rng)
        shutil.move(masks / "x.png", masks / f"zurich_000009_000019_gtFine_{ending}")
    orphan = masks / "zurich_000009_000019_gtFine_labelIds.png"
    shutil.copy(orphan, masks / f"._{orphan.name}")
    assert kinds_and_files(check(Cityscapes(str(city)))) == [("mask without image", (orphan,))]


def test_pairs_that_no_split_lists_are_not_orphans(tmp_path: Path) -> None:
    rng, own = np.random.default_rng(0), tmp_path / "own"
    for name in ("a", "b"):
        write_pair(own / "images" / f"{name}.png", own / "masks" / f"{name}_mask.png", (48, 80), range(2), rng)
    for name in ("c_mask", "c_mask_old"):
        write_mask(own / "masks" / f"{name}.png", (48, 80), range(2), rng)
    (own / "classes.txt").write_text("a: 1 1 1\nb: 2 2 2\n")
    (own / "train.txt").write_text("a\n")
    report = check(Folder(str(own), suffix="_mask"), ["train"])
    assert kinds_and_files(report) == [("mask without image", (own / "masks" / "c_mask.png",))]


# Not regular files


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("what", ["a FIFO", "a device", "a broken link"])
def test_what_is_no_regular_file_is_refused_by_name(tmp_path: Path, kind: str, what: str) -> None:
    """Reading a FIFO or a device would never end. src.check names it and reads the others."""
    root = write_folder(tmp_path)
    path = root / kind / "train" / "a" / "0.png"
    path.unlink()
    if what == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if what == "a device" else tmp_path / "gone.png")
    source = Folder(str(root))
    with pytest.raises(DataError, match=rf"{kind}/train/a/0.png: cannot be read \(") as error:
        source.samples("train")
    assert (error.value.path, error.value.kind) == (path, "unreadable")
    assert what == "a broken link" or what in error.value.text
    report = check(source)
    assert [(fault.kind, fault.files) for fault in report.errors] == [("unreadable", (path,))]
    assert len(report.readings["train"]) == 2


def test_no_reader_opens_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "a.png")
    readers = (read_image, read_size, open_mask, lambda path: read_beginning(path, 1))
    for reader in readers:
        with pytest.raises(DataError, match=r"a.png: cannot be read \(it is a FIFO, no regular file\); remove it"):
            reader(path)


def test_files_and_folders_without_permission_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so that the refusal of the system is imitated."""
    path = write_folder(tmp_path) / "images" / "train" / "a" / "0.png"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        patch.setattr(Path, "open", refuse)
        for reader in (read_image, open_mask, lambda path: read_beginning(path, 1)):
            with pytest.raises(DataError, match=r"0.png: cannot be read \(Permission denied\); make it readable"):
                reader(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"data.root=.*: no permission to list this folder; make it readable"):
        Folder(str(tmp_path))


def test_pictures_beyond_the_limit_of_the_decoder_are_refused_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_folder(tmp_path) / "images" / "train" / "a" / "0.png"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 80 // 2 - 1)
    for reader in (read_image, read_size, open_mask):
        with pytest.raises(DataError, match=r"0.png: cannot be read \(Image size \(3840 pixels\) exceeds .*into tiles"):
            reader(path)
