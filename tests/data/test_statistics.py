"""Tests of class counts: equal to brute force, counted once, and kept on disk until a mask changes."""

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data import statistics as module
from src.data.folds import Folds
from src.data.packed import attach
from src.data.source import FileSource, Sample, Source
from src.data.sources.camvid import CamVid
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.concat import Concat
from src.data.sources.folder import Folder
from src.data.sources.kitti import Kitti
from src.data.statistics import (
    Statistics,
    absent_classes,
    cache_folder,
    split_statistics,
    training_statistics,
)
from src.data.streets.source import Streets
from src.data.tools.pack import pack_split
from tests.support.trees import write_camvid, write_cityscapes, write_cityscapes_kitti, write_folder, write_kitti


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREETSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the names of the samples whose masks are read."""
    found: list[str] = []
    original = module._read_ids

    def noted(source: Source, sample: Sample) -> np.ndarray:
        found.append(sample.name)
        return original(source, sample)

    monkeypatch.setattr(module, "_read_ids", noted)
    return found


def brute_force(source: Source, samples: list[Sample]) -> Statistics:
    masks = [source.read(sample)[1] for sample in samples]
    counts = [[int((mask == label).sum()) for label in range(source.num_classes)] for mask in masks]
    return Statistics(np.array(counts), np.array([int((mask == 255).sum()) for mask in masks]))


def assert_equal(a: Statistics, b: Statistics) -> None:
    assert np.array_equal(a.counts, b.counts)
    assert np.array_equal(a.ignored, b.ignored)


# Counts


@pytest.mark.parametrize("name", ["camvid", "kitti", "folder", "streets", "concat"])
def test_counts_equal_brute_force(name: str, tmp_path: Path) -> None:
    source = {
        "camvid": lambda: CamVid(str(write_camvid(tmp_path / "data", {"train": 4}))),
        "kitti": lambda: Kitti(str(write_kitti(tmp_path / "data"))),
        "folder": lambda: Folder(str(write_folder(tmp_path / "data"))),
        "streets": lambda: Streets(size=(64, 96), num_train=3),
        "concat": lambda: Concat(str(write_cityscapes_kitti(tmp_path / "data")), kitti=Kitti, cityscapes=Cityscapes),
    }[name]()
    again = deepcopy(source)
    expected = brute_force(source, source.samples("train"))
    for each in (source, source, again):  # counted, remembered, from the cache or drawn again
        found = split_statistics(each, "train")
        assert_equal(found, expected)
        assert found.counts.dtype == np.int64
        assert np.array_equal(found.presence, expected.counts > 0)
        assert found.shares == pytest.approx(expected.counts.sum(0) / expected.counts.sum())


def test_extra_splits_and_folds_are_rows_of_whole_splits(tmp_path: Path, reads: list[str]) -> None:
    source = Cityscapes(str(write_cityscapes(tmp_path / "data")), extra=True)
    for fold in range(3):
        samples = Folds(num_folds=3, fold=fold).samples(source, "train")
        assert any(sample.name.startswith("augsburg") for sample in samples)
        assert len(samples) < 8
        assert_equal(training_statistics(source, samples), brute_force(source, samples))
    assert len(reads) == 8, "six of train and two of train_extra, once for all folds"


def test_a_pack_is_read_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_camvid(tmp_path / "data", {"train": 4})
    expected = brute_force(CamVid(str(root)), CamVid(str(root)).samples("train"))
    pack_split(CamVid(str(root)), "train", tmp_path / "pack", 1)
    packed = attach(CamVid(str(root)), str(tmp_path / "pack"))
    monkeypatch.setattr(FileSource, "read_labels", lambda *_: pytest.fail("a file was decoded"))
    assert_equal(split_statistics(packed, "train"), expected)


def test_labels_outside_the_table_are_an_error(camvid: Path, cache: Path) -> None:
    Image.fromarray(np.full((72, 96), 77, np.uint8)).save(camvid / "trainannot" / "0001TP_00000.png")
    with pytest.raises(ValueError, match=r"0001TP_00000.png: label 77 .* is not in the label table"):
        split_statistics(CamVid(str(camvid)), "train")
    assert not cache.exists()


def test_no_label_at_all_is_an_error(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", {"train": 2})
    for path in (root / "trainannot").iterdir():
        Image.fromarray(np.full((72, 96), 11, np.uint8)).save(path)
    source = CamVid(str(root))
    with pytest.raises(ValueError, match="no pixel of the 2 training images is labelled"):
        training_statistics(source, source.samples("train"))


def test_samples_are_known_by_their_files(camvid: Path) -> None:
    """Statistics are looked up by samples that are equal, not only by the same objects."""
    source = CamVid(str(camvid))
    samples = source.samples("train")
    assert_equal(
        training_statistics(source, [replace(sample) for sample in samples[::-1]]), brute_force(source, samples[::-1])
    )


# Cache


def test_a_hit_reads_no_file_and_a_changed_mask_is_counted_again(camvid: Path, cache: Path, reads: list[str]) -> None:
    def count() -> Statistics:
        return split_statistics(CamVid(str(camvid)), "train")

    first = count()
    assert len(reads) == 4
    assert_equal(count(), first)
    assert len(reads) == 4
    (kept,) = cache.iterdir()
    assert kept.name.startswith("statistics-camvid-11-merged-")
    mask = camvid / "trainannot" / "0001TP_00000.png"
    time = mask.stat().st_mtime_ns
    Image.fromarray(np.full((72, 96), 3, np.uint8)).save(mask)
    assert count().counts[0].tolist() == [0, 0, 0, 72 * 96] + [0] * 7
    assert len(reads) == 8
    os.utime(mask, ns=(time, time + 1))
    count()
    assert len(reads) == 12, "only its time has changed"


def test_a_process_counts_once(camvid: Path, cache: Path, reads: list[str]) -> None:
    """Neither the cache on disk nor the files are looked at again for the same source."""
    source = CamVid(str(camvid))
    first = split_statistics(source, "train")
    for path in (*cache.iterdir(), *(camvid / "trainannot").iterdir()):
        path.unlink()
    assert split_statistics(source, "train") is first
    assert len(reads) == 4


def test_another_label_set_folder_and_way_of_reading(tmp_path: Path, reads: list[str]) -> None:
    root = write_folder(tmp_path / "data")
    split_statistics(Folder(str(root)), "train")
    root = root.rename(tmp_path / "moved")
    split_statistics(Folder(str(root)), "train")
    assert len(reads) == 3, "the folder does not matter"
    text = (root / "classes.txt").read_text()
    (root / "classes.txt").write_text(text.replace("70 130 180", "70 130 180 2").replace("128 64 128", "128 64 128 0"))
    split_statistics(Folder(str(root)), "train")
    assert len(reads) == 3, "the same table, written otherwise"
    (root / "classes.txt").write_text(text.replace("70 130 180", "70 130 180 9") + "ignore: 0 0 0 2\n")
    assert split_statistics(Folder(str(root)), "train").pixels[2] == 0
    assert len(reads) == 6
    split_statistics(Folder(str(root), masks="index"), "train")
    assert len(reads) == 9


def test_another_label_table(camvid: Path) -> None:
    source = CamVid(str(camvid))
    pixels = split_statistics(source, "train").pixels
    source = CamVid(str(camvid))
    source.table = {**CamVid.table, 3: 255}
    assert split_statistics(source, "train").pixels.tolist() == [*pixels[:3], 0, *pixels[4:]]


def test_drawn_scenes_are_counted_once_and_not_kept_on_disk(cache: Path, reads: list[str]) -> None:
    """Their key would have to identify the code that draws them."""
    source = Streets(size=(64, 96), num_train=2)
    first = split_statistics(source, "train")
    assert split_statistics(source, "train") is first
    assert len(reads) == 2
    assert not cache.exists()


def test_a_damaged_cache_is_replaced(camvid: Path, cache: Path, reads: list[str]) -> None:
    first = split_statistics(CamVid(str(camvid)), "train")
    (kept,) = cache.iterdir()
    for content in (b"", kept.read_bytes()[:200], b"no numbers"):
        kept.write_bytes(content)
        assert_equal(split_statistics(CamVid(str(camvid)), "train"), first)
    split_statistics(CamVid(str(camvid)), "train")
    assert len(reads) == 16
    assert list(cache.iterdir()) == [kept]


def test_a_cache_that_cannot_be_written_is_a_warning(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREETSEG_CACHE", str(tmp_path / "file" / "cache"))
    for source in (CamVid(str(camvid)), CamVid(str(camvid))):
        assert_equal(split_statistics(source, "train"), brute_force(source, source.samples("train")))
    assert caplog.text.count("class statistics cannot be kept") == 2
    assert "set STREETSEG_CACHE=DIR" in caplog.text


def test_the_folder_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("STREETSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/streetseg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/streetseg")


def test_classes_without_a_pixel_in_train_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in the images that are trained on, and only if few masks must be read for it."""
    source = Folder(str(write_folder(tmp_path)))
    samples = source.samples("train")
    for sample in samples[:2]:
        Image.fromarray(np.where(np.asarray(Image.open(sample.mask)) == 1, 0, 2).astype(np.uint8)).save(sample.mask)
    monkeypatch.setattr(module, "NUM_COUNTED", 2)
    assert absent_classes(source, samples[:2]) == []
    monkeypatch.setattr(module, "NUM_COUNTED", 3)
    assert absent_classes(source, samples[:2]) == ["traffic light"]
    assert absent_classes(source, samples) == []
    monkeypatch.setattr(module, "NUM_COUNTED", 2)
    assert absent_classes(source, samples[:2]) == ["traffic light"], "counted already"
