"""Listing datasets that have faults: all missing pairs of every layout, splits that cannot be listed, links."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from src.data.source import Sample
from src.data.sources.camvid import CamVid
from src.data.sources.folder import Folder
from src.data.tools.check import check
from src.data.tools.listing import list_all, masks_without_image
from tests.data.test_check import configured
from tests.support.trees import WRITERS, write_camvid, write_camvid_full, write_folder, write_image


@pytest.mark.parametrize("name", WRITERS)
def test_every_dataset_in_both_directions(name: str, tmp_path: Path) -> None:
    """Sound trees pass; an image and a mask taken away are named, whatever the layout calls them."""
    root, make = WRITERS[name](tmp_path / "data"), configured(name)
    if name == "camvid":
        write_camvid(root, {"train": 3, "val": 2})  # one pair more, by which masks are known
    report = check(make, root)
    assert report.errors == []
    assert {fault.kind for fault in report.faults} <= {"absent split", "empty class"}
    samples = make(str(root)).samples("train")
    without_mask, without_image = samples[0], samples[-1]
    without_mask.mask.unlink()
    without_image.image.unlink()
    kinds = {(fault.kind, fault.files) for fault in check(make, root).faults}
    assert ("missing mask", (without_mask.image,)) in kinds
    assert ("mask without image", (without_image.mask,)) in kinds


def test_splits_that_cannot_be_listed(tmp_path: Path) -> None:
    """A broken list stops its split alone; a val that is missing is an error unless only train is asked for."""
    root = write_camvid(tmp_path / "camvid", {"train": 3})
    report = check(CamVid, root)
    assert [(fault.kind, fault.split) for fault in report.faults] == [("split", "val"), ("absent split", "test")]
    assert len(report.readings["train"]) == 3
    assert check(CamVid, root, ["train"]).faults == []
    own = write_folder(tmp_path / "own")
    shutil.rmtree(own / "images" / "val")
    (own / "train.txt").write_text("train/a/0\n")
    (own / "val.txt").write_text("train/a/9\n")
    shutil.move(own / "images" / "train", own / "images" / "x")
    shutil.move(own / "masks" / "train", own / "masks" / "x")
    report = check(Folder, own)
    assert [fault.kind for fault in report.errors] == ["split", "split"]
    assert f"{own}/val.txt: no image 'train/a/9' in {own}/images; correct the list" in report.errors[1].text


def test_listing_names_files_that_messages_name_by_stem(tmp_path: Path) -> None:
    root = write_camvid_full(tmp_path / "full")
    stray = root / "701_StillsRaw_full" / "holiday.png"
    write_image(stray, (72, 96), np.random.default_rng(0))
    report = check(configured("camvid_full"), root)
    assert [(fault.kind, fault.files) for fault in report.faults] == [("listing", (stray,))]
    assert [len(found) for found in report.readings.values()] == [2, 2, 2]


def test_shadow_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    data = write_camvid(tmp_path / "elsewhere", {"train": 2, "val": 1, "test": 1})
    root = tmp_path / "camvid"
    root.mkdir()
    for folder in data.iterdir():
        (root / folder.name).symlink_to(folder)
    (root / "train" / "circle").symlink_to(root)
    (root / ".git").mkdir()
    (root / ".git" / "x.png").touch()
    listing = list_all(CamVid, root, ("train", "val"))
    assert [sample.image for sample in listing.samples["train"]] == sorted((root / "train").glob("*.png"))
    assert not [path for path in listing.files if ".git" in path.parts]
    assert listing.refused == []


def test_masks_without_image_by_what_masks_are_called() -> None:
    road = [Sample("um_1", "um", Path("i/um_1.png"), Path("m/um_road_1.png"))]
    there = [
        Path("i/um_1.png"),
        *map(Path, ("m/um_road_1.png", "m/um_road_2.png", "m/um_lane_1.png", "m/um_lane_2.png")),
    ]
    assert masks_without_image(road, there) == [Path("m/um_road_2.png")]
    city = [Sample("a", "a", Path("i/a_leftImg8bit.png"), Path("m/a_gtFine_labelIds.png"))]
    there = [*map(Path, ("i/a_leftImg8bit.png", "m/a_gtFine_labelIds.png", "m/b_gtFine_labelIds.png"))]
    there += [Path("m/b_gtFine_color.png"), Path("m/b_gtFine_polygons.json"), Path("m/._b_gtFine_labelIds.png")]
    assert masks_without_image(city, there) == [Path("m/b_gtFine_labelIds.png")]
    # Pairs that no split lists are no masks without images.
    own = [Sample("a", "", Path("i/a.jpg"), Path("m/a_mask.png"))]
    there = [*map(Path, ("i/a.jpg", "i/b.jpg", "m/a_mask.png", "m/b_mask.png", "m/c_mask.png", "m/c_mask_old.png"))]
    assert masks_without_image(own, there) == [Path("m/c_mask.png")]
