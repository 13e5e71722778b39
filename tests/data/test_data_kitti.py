"""Tests of KITTI's two benchmarks in their true layouts: pairs, splits, groups, the dev-kits' rules, mistakes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.kitti import Kitti, drive
from src.data.sources.kitti_road import KittiRoad
from tests.support.trees import names, write_image, write_kitti, write_kitti_road


def test_kitti_reads_its_layout(tmp_path: Path) -> None:
    source = Kitti(str(write_kitti(tmp_path)))
    assert names(source, "val") == ["000001_10", "000003_10"], "frames of MSeg's list"
    assert names(source, "train") == ["000000_10", "000002_10", "000004_10", "000005_10"], "and no _11"
    assert names(source, "test") == ["000000_10", "000001_10"]
    sizes = {source.read(sample)[1].shape for sample in source.samples("train")}
    assert len(sizes) > 1
    sample = source.samples("train")[0]
    assert set(source.read(sample)[1].ravel().tolist()) == {*range(19), 255}
    whole = Kitti(str(tmp_path), split="all")
    assert len(whole.samples("train")) == 6
    assert whole.splits == ("train", "test")


def test_kitti_groups_are_the_drives_of_the_dev_kit() -> None:
    groups = [drive(f"{number:06d}_10") for number in range(200)]
    sizes = Counter(groups)
    # Frames of some drives, counted in the dev-kit's mapping.
    expected = {
        "2011_09_26_0005": 2, "2011_09_26_0009": 6, "2011_09_26_0014": 12, "2011_09_26_0032": 10,
        "2011_09_26_0051": 11, "2011_09_26_0059": 10, "2011_09_29_0004": 8, "2011_10_03_0047": 1,
    }  # fmt: skip
    assert {name: sizes[name] for name in expected} == expected
    assert sum(count for name, count in sizes.items() if not name.startswith("unmapped")) == 142
    assert groups == sorted(groups, key=groups.index), "the numbers of a drive are consecutive"


def test_kitti_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split=half: must be mseg"):
        Kitti(str(tmp_path), split="half")
    with pytest.raises(
        ValueError, match="no folder training/image_2/ there; give the folder that KITTI's data_semantics"
    ):
        Kitti(str(tmp_path))
    source = Kitti(str(write_kitti(tmp_path, numbers=(0, 2))))
    with pytest.raises(ValueError, match=r"training/image_2: no frame NNNNNN_10.png of split 'val' there"):
        source.samples("val")
    (tmp_path / "training" / "semantic" / "000002_10.png").unlink()
    with pytest.raises(ValueError, match=r"000002_10.png: image without mask; expected .*semantic/000002_10.png"):
        source.samples("train")


def dev_kit(path: Path) -> np.ndarray:
    """Computes getGroundTruth of KITTI road's dev-kit: road if blue > 0, valid if red > 0."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    return np.where(picture[..., 0] > 0, np.where(picture[..., 2] > 0, 0, 1), 255)


@pytest.mark.parametrize(("task", "counts"), [("road", (6, 3)), ("lane", (2, 1))])
def test_kitti_road_reads_its_layout(tmp_path: Path, task: str, counts: tuple[int, int]) -> None:
    source = KittiRoad(str(write_kitti_road(tmp_path)), task)
    assert tuple(len(source.samples(split)) for split in ("train", "val")) == counts
    assert source.labels == f"kitti-{task}-2"
    assert list(source.classes) == [task.capitalize(), f"Not_{task.capitalize()}"]
    for sample in source.samples("train") + source.samples("val"):
        assert sample.mask.name == sample.name.replace("_", f"_{task}_") + ".png"
        assert np.array_equal(source.read(sample)[1], dev_kit(sample.mask))
    assert names(source, "val")[0] == "um_000085"
    assert names(source, "test") == ["um_000000"]


def test_real_kitti_road_follows_the_dev_kit(real_kitti_road: Path) -> None:
    source = KittiRoad(str(real_kitti_road), "lane")
    train = source.samples("train")
    assert len(train) == 11
    assert {sample.group for sample in train} == {"um_2011_09_26"}
    for sample in train:
        image, mask = source.read(sample)
        assert image.shape == (375, 1242, 3)
        assert np.array_equal(mask, dev_kit(sample.mask))
    with pytest.raises(ValueError, match=r"no frame of split 'val' for task=lane .* data.num_folds=5 data.fold=0"):
        source.samples("val")
    with pytest.raises(
        ValueError, match=r"um_000000.png: image without mask; expected .*um_road_000000.png, .* task=lane"
    ):
        KittiRoad(str(real_kitti_road)).samples("train")


def test_kitti_road_groups_are_category_and_day(tmp_path: Path) -> None:
    root, rng = write_kitti_road(tmp_path), np.random.default_rng(0)
    write_image(root / "training" / "image_2" / "uu_000001.png", (376, 1241), rng)
    groups = {sample.name: sample.group for sample in KittiRoad(str(root)).samples("train")}
    assert groups["uu_000001"] == "uu_2011_10_03"
    assert groups["um_000000"] == "um_48x80"


def test_kitti_road_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task=path: must be road or lane"):
        KittiRoad(str(tmp_path), "path")
    with pytest.raises(ValueError, match=r"no folder training/image_2/ there; give the folder that KITTI's data_road"):
        KittiRoad(str(tmp_path))
    source = KittiRoad(str(write_kitti_road(tmp_path)))
    (tmp_path / "training" / "image_2" / "frame.png").touch()
    with pytest.raises(ValueError, match=r"frame.png: KITTI road's frames are called um_, umm_ or uu_NNNNNN.png"):
        source.samples("train")
