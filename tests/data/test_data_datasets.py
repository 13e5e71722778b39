"""Tests of Cityscapes and CamVid in their true layouts: pairs, splits, groups, independently read labels, mistakes."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.camvid import COLOURS, CamVid, CamVidFull, split_of
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.colours import read_colours
from tests.support.trees import names, raw, write_camvid_full, write_cityscapes, write_mask


def test_cityscapes_reads_its_layout(tmp_path: Path) -> None:
    source = Cityscapes(str(write_cityscapes(tmp_path)))
    train = source.samples("train")
    assert names(source, "train")[:2] == ["aachen_000000_000000", "aachen_000000_000019"]
    assert Counter(sample.group for sample in train) == {"aachen": 3, "bochum": 2, "zurich": 1}
    assert names(source, "val") == ["frankfurt_000000_000000", "frankfurt_000000_000019", "munster_000000_000000"]
    # The nineteen evaluated ids in the order of their train ids, as every paper lists them.
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    expected = np.full(34, 255)
    expected[evaluated] = range(19)
    image, mask = source.read(train[0])
    assert image.shape == (64, 128, 3)
    assert np.array_equal(mask, expected[raw(train[0])])
    assert list(source.classes)[:3] == ["road", "sidewalk", "building"]
    assert len(source.classes) == 19


def test_cityscapes_train_ids_are_read_if_there_are_no_ids(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path)
    city, rng = root / "gtFine" / "train" / "zurich", np.random.default_rng(1)
    path = city / "zurich_000000_000000_gtFine_labelTrainIds.png"
    write_mask(path, (64, 128), [*range(19), 255], rng)
    before = Cityscapes(str(root)).samples("train")[-1]
    assert before.mask.name.endswith("labelIds.png"), "the official files if both are there"
    before.mask.unlink()
    source = Cityscapes(str(root))
    sample = source.samples("train")[-1]
    assert sample.mask == path
    assert np.array_equal(source.read_labels(sample.files[1]), raw(sample))


def test_cityscapes_extra_is_a_split_of_its_own(tmp_path: Path) -> None:
    source = Cityscapes(str(write_cityscapes(tmp_path)), extra=True)
    assert source.extra_splits == ("train_extra",)
    assert {sample.group for sample in source.samples("train_extra")} == {"augsburg"}
    assert source.samples("train_extra")[0].mask.name == "augsburg_000000_000000_gtCoarse_labelIds.png"
    assert len(source.samples("train")) == 6
    with pytest.raises(ValueError, match="split 'train_extra' is not one of this dataset's: train, val, test"):
        Cityscapes(str(tmp_path)).samples("train_extra")
    shutil.rmtree(tmp_path / "leftImg8bit" / "train_extra")
    with pytest.raises(ValueError, match=r"train_extra: no <city>/.* there; unpack leftImg8bit_trainextra.zip into"):
        Cityscapes(str(tmp_path), extra=True).samples("train_extra")


def test_cityscapes_dummy_labels_are_not_read(tmp_path: Path) -> None:
    source = Cityscapes(str(write_cityscapes(tmp_path)))
    assert names(source, "test") == ["berlin_000000_000000", "berlin_000000_000019"]
    assert {sample.mask for sample in source.samples("test")} == {None}
    with pytest.raises(
        ValueError, match=r"split 'test' of cityscapes-19 has no public labels; choose one of train, val"
    ):
        source.check_labelled("test")
    source.check_labelled("val")


def test_cityscapes_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.root=.*nowhere: no folder leftImg8bit/ there; give the folder"):
        Cityscapes(str(tmp_path / "nowhere"))
    root = write_cityscapes(tmp_path)
    source = Cityscapes(str(root))
    sample = source.samples("train")[0]
    wrong = raw(sample).copy()
    wrong[0, :3] = 40
    Image.fromarray(wrong).save(sample.mask)
    with pytest.raises(
        ValueError, match=r"aachen_000000_000000_gtFine_labelIds.png: label 40 \(3 px\) is not in .* 0..33"
    ):
        source.read(sample)
    Image.fromarray(wrong[1:]).save(sample.mask)
    with pytest.raises(ValueError, match=r"labelIds.png: mask is 63x128 \(HxW\) but its image .* is 64x128; make them"):
        source.read(sample)
    sample.mask.unlink()
    with pytest.raises(
        ValueError, match=r"aachen_000000_000000_leftImg8bit.png: image without mask; .*unpack gtFine_tr"
    ):
        Cityscapes(str(root)).samples("train")
    for image in (root / "leftImg8bit" / "val").rglob("*.png"):
        image.unlink()
    with pytest.raises(
        ValueError, match=r"leftImg8bit/val: no <city>/\*_leftImg8bit.png there; unpack leftImg8bit_trainv"
    ):
        source.samples("val")


MERGED_INTO = {  # an independent copy: the class of SegNet's set that each of the 21 others becomes
    "Bridge": "Building", "Wall": "Building", "Tunnel": "Building", "Archway": "Building", "Column_Pole": "Pole",
    "TrafficCone": "Pole", "LaneMkgsDriv": "Road", "LaneMkgsNonDriv": "Road", "Sidewalk": "Pavement",
    "ParkingBlock": "Pavement", "RoadShoulder": "Pavement", "VegetationMisc": "Tree", "Misc_Text": "SignSymbol",
    "TrafficLight": "SignSymbol", "SUVPickupTruck": "Car", "Truck_Bus": "Car", "Train": "Car", "OtherMoving": "Car",
    "Child": "Pedestrian", "CartLuggagePram": "Pedestrian", "Animal": "Pedestrian", "MotorcycleScooter": "Bicyclist",
}  # fmt: skip


@pytest.mark.parametrize(("labels", "num_classes"), [("merged", 11), ("strict", 11), ("32", 31)])
def test_camvid_full_has_three_label_sets(tmp_path: Path, labels: str, num_classes: int) -> None:
    source = CamVidFull(str(write_camvid_full(tmp_path)), labels)
    assert len(source.classes) == num_classes
    sample = source.samples("train")[0]
    ids, picture, order = source.read(sample)[1], raw(sample), list(source.classes)
    for name, colour in COLOURS.items():
        found = set(ids[(picture == colour).all(axis=2)].tolist())
        target = MERGED_INTO.get(name, name) if labels == "merged" else name
        assert found == {order.index(target) if target in order else 255}, name
    assert (ids == 255).any()


def test_segnets_masks_have_no_strict_labels(camvid: Path) -> None:
    assert CamVid(str(camvid), "merged").labels == "camvid-11-merged"
    with pytest.raises(ValueError, match=r"data.labels=strict: .* set data.labels=merged, or choose data=camvid_full"):
        CamVid(str(camvid), "strict")


def test_camvid_full_splits_as_segnet(tmp_path: Path) -> None:
    source = CamVidFull(str(write_camvid_full(tmp_path)))
    assert names(source, "train") == ["0001TP_006690", "0006R0_f00930"]
    assert names(source, "val") == ["0016E5_07959", "0016E5_08159"]
    assert names(source, "test") == ["0001TP_008550", "Seq05VD_f00000"]
    assert [sample.group for sample in source.samples("test")] == ["0001TP", "Seq05VD"]
    # 0001TP is labelled every 30 frames from 6690 to 10380: 124, and SegNet's test has 62 of them.
    numbers = [split_of(f"0001TP_{number:06d}") for number in range(6690, 10381, 30)]
    assert Counter(numbers) == {"train": 62, "test": 62}


def test_camvid_split_rule_gives_the_real_lists(real_camvid: Path) -> None:
    for split, count in {"train": 367, "val": 101}.items():
        frames = [path.stem for path in (real_camvid / split).iterdir()]
        assert len(frames) == count
        assert {split_of(name) for name in frames} == {split}


def test_camvid_full_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels=loose: must be one of merged, strict, 32"):
        CamVidFull(str(tmp_path), "loose")
    with pytest.raises(ValueError, match="no folder 701_StillsRaw_full/ there; give the folder that holds it and"):
        CamVidFull(str(tmp_path))
    source = CamVidFull(str(write_camvid_full(tmp_path)))
    sample = source.samples("train")[0]
    picture = raw(sample).copy()
    picture[0, :2], picture[1, 0] = (1, 2, 3), (255, 0, 0)
    Image.fromarray(picture).save(sample.mask)
    with pytest.raises(
        ValueError,
        match=r"0001TP_006690_L.png: colour \(1, 2, 3\) \(2 px\), \(255, 0, 0\) \(1 px\) is not one of the 32",
    ):
        source.read(sample)
    sample.mask.unlink()
    with pytest.raises(ValueError, match=r"0001TP_006690.png: image without mask; expected .*0001TP_006690_L.png"):
        CamVidFull(str(tmp_path)).samples("train")
    (tmp_path / "701_StillsRaw_full" / "other.png").touch()
    with pytest.raises(ValueError, match=r"other.png: not a frame of CamVid \(0001TP, .*; remove the file"):
        CamVidFull(str(tmp_path)).samples("test")


def test_colours_are_read_from_palettes_too(tmp_path: Path) -> None:
    table = {(255, 0, 255): 0, (0, 0, 0): 255, (255, 255, 255): 1, (0, 0, 1): 253}
    picture = np.array(list(table), dtype=np.uint8)[[[0, 1, 2], [3, 0, 1]]]
    Image.fromarray(picture).save(tmp_path / "rgb.png")
    palette = Image.fromarray(picture).quantize(4)
    assert palette.mode == "P"
    palette.save(tmp_path / "palette.png")
    for name in ("rgb.png", "palette.png"):
        assert read_colours(tmp_path / name, table).tolist() == [[0, 255, 1], [253, 0, 255]]
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(
        ValueError, match=r"noise.png: colour \(\d+, \d+, \d+\) \(1 px\), .* and 392 more is not one of"
    ):
        read_colours(tmp_path / "noise.png", table)
