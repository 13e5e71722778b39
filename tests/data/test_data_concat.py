"""Tests of several datasets as one, of sampling weights, and of training from each layout."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import EpochSampler, SegmentationDataset
from src.data.source import FileSource
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.concat import Concat
from src.data.sources.kitti import Kitti
from src.data.sources.kitti_road import KittiRoad
from tests.support.paths import SMALL
from tests.support.trees import WRITERS, names, write_cityscapes_kitti, write_kitti, write_kitti_road


def cityscapes_kitti(root: Path, weights: dict[str, float] | None = None) -> Concat:
    datasets: dict[str, Callable[..., FileSource]] = {"cityscapes": partial(Cityscapes, extra=True), "kitti": Kitti}
    return Concat(str(root), weights, **datasets)


def test_concat_is_the_union(tmp_path: Path) -> None:
    source = cityscapes_kitti(write_cityscapes_kitti(tmp_path))
    cityscapes, kitti = Cityscapes(str(tmp_path / "cityscapes")), Kitti(str(tmp_path / "kitti"))
    expected = [f"cityscapes/{name}" for name in names(cityscapes, "val")] + [
        f"kitti/{name}" for name in names(kitti, "val")
    ]
    assert names(source, "val") == expected
    assert names(source, "kitti_val") == expected[3:]
    assert source.samples("kitti_val")[0].group == "kitti/unmapped_000"
    assert source.splits == (
        "train", "val", "cityscapes_train", "cityscapes_val", "cityscapes_test", "cityscapes_train_extra",
        "kitti_train", "kitti_val", "kitti_test",
    )  # fmt: skip
    assert source.extra_splits == ("cityscapes_train_extra",)
    assert source.unlabelled == ("cityscapes_test", "kitti_test")
    parts = cityscapes.samples("val") + kitti.samples("val")
    for joined, part in zip(source.samples("val"), parts, strict=True):
        assert np.array_equal(source.read(joined)[1], cityscapes.read(part)[1])


def test_concat_mistakes(tmp_path: Path) -> None:
    root = write_cityscapes_kitti(tmp_path)
    with pytest.raises(
        ValueError, match=r"weights=\{'kitti': 1\}: give a number above 0 for each of cityscapes, kitti"
    ):
        cityscapes_kitti(root, {"kitti": 1})
    write_kitti_road(root / "road")
    with pytest.raises(ValueError, match="kitti has labels cityscapes-19, road has kitti-road-2: not one label set"):
        Concat(str(root), None, kitti=Kitti, road=KittiRoad)


def test_weights_are_shares_of_the_epoch(tmp_path: Path) -> None:
    source = cityscapes_kitti(write_cityscapes_kitti(tmp_path), {"cityscapes": 3, "kitti": 1})
    samples = source.samples("train")
    weights = source.weights(samples)
    assert weights.sum() == pytest.approx(10)
    assert weights[:6].sum() == pytest.approx(7.5)
    assert cityscapes_kitti(tmp_path).weights(samples) is None


def test_weighted_sampler() -> None:
    """Counts are the weights rounded up or down, right on average, a function of (seed, epoch), shared by ranks."""
    weights = np.array([0.25] * 8 + [4.0] * 2)
    total = Counter()
    for epoch in range(400):
        sampler = EpochSampler(10, 7, True, weights=weights)
        sampler.set_epoch(epoch)
        keys = [key for _, key in sampler]
        assert len(keys) == len(set(keys)) == 10, "repeats have different keys, and so augmentation seeds"
        counts = Counter(key % 10 for key in keys)
        assert all(counts[index] in (0, 1) for index in range(8))
        assert counts[8] == counts[9] == 4
        total += counts
        shards = [EpochSampler(10, 7, True, rank, 2, weights) for rank in range(2)]
        for shard in shards:
            shard.set_epoch(epoch)
        assert sorted(key for shard in shards for _, key in shard) == sorted(keys)
        assert keys == [key for _, key in sampler]
    for index in range(8):
        assert total[index] == pytest.approx(100, abs=35)
    plain = EpochSampler(10, 7, True, weights=np.ones(10))
    assert sorted(key for _, key in plain) == list(range(10)), "equal weights: once each"


def test_a_repeat_is_the_same_sample_with_another_seed(tmp_path: Path) -> None:
    source = Kitti(str(write_kitti(tmp_path)))
    samples, seeds = source.samples("val"), []
    data = SegmentationDataset(source, samples, lambda frame, seed: (seeds.append(seed), frame.whole())[1], 0)
    first, again = data[0, 1], data[0, 1 + len(samples)]
    assert first["image"].equal(again["image"])
    assert seeds[0] != seeds[1]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("data", "options", "tag"),
    [
        ("cityscapes_kitti", ["data.dataset.cityscapes.extra=true"], "cityscapes-19 val (5 images)"),
        ("folder", ["data.num_folds=2", "data.fold=1"], "own-3 fold 1 of 2 (by group, seed 42) of train (1 images)"),
        ("kitti_road", ["data.task=lane"], "kitti-lane-2 val (1 images)"),
    ],
)
def test_datasets_train_from_their_layout(cli, tmp_path: Path, data: str, options: list[str], tag: str) -> None:
    root = WRITERS[data](tmp_path / "data")
    arguments = [f"data={data}", f"data.root={root}", *options, f"runs={tmp_path}/runs", "name=run"]
    cli("train", *SMALL, *arguments)
    results = json.loads((tmp_path / "runs" / "run" / "results.json").read_text())
    assert next(iter(results["evaluations"])).startswith(tag)
    if data == "cityscapes_kitti":
        cli("eval", f"run={tmp_path}/runs/run", "accelerator=cpu", "split=kitti_val")
        assert "cityscapes-19 kitti_val (2 images)" in (tmp_path / "runs" / "run" / "results.json").read_text()
    if data == "kitti_road":
        cli("eval", f"run={tmp_path}/runs/run", "accelerator=cpu", "birdseye=true")
        assert "bird's-eye" in (tmp_path / "runs" / "run" / "results.json").read_text()
