"""Tests of `src.check`: it names every planted fault with its file, passes sound data, and changes nothing."""

import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from src.check import check_data
from src.config.cli import CONF, launch
from src.data.frame import ImageForm
from src.data.source import FileSource, Sample
from src.data.sources.camvid import CamVid
from src.data.sources.kitti_road import KittiRoad
from src.data.tools import check_files
from src.data.tools.check import ERRORS, Report, check
from src.data.tools.check_files import read_pair
from src.machine import num_cores
from src.reports.pictures import contact_sheet
from tests.support.planted_faults import Found, plant
from tests.support.trees import (
    WRITERS,
    write_camvid,
    write_camvid_full,
    write_image,
    write_mask,
)  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls `python -m src.check ...` in this process; returns its exit status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["src.check", "num_processes=1", *arguments])
        try:
            launch(check_data, "check")
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    return call


def configured(name: str, root: Path, *overrides: str) -> FileSource:
    """The dataset that `data=name` configures."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("check", [f"data={name}", f"data.root={root}", *overrides])
    return instantiate(cfg.data.dataset, _convert_="all")


def found(report: Report) -> Found:
    root = report.source.root
    return {
        (fault.kind, frozenset(path.relative_to(root).as_posix() for path in fault.files) or fault.text)
        for fault in report.faults
    }


def kinds_and_files(report: Report) -> list[tuple[str, tuple[Path, ...]]]:
    return [(fault.kind, fault.files) for fault in report.faults]


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_finds_every_planted_fault_and_nothing_else(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "camvid", {"train": 80, "val": 5, "test": 2})
    assert check(CamVid(str(root))).faults == []
    planted = plant(root)
    before = digest(root)
    report = check(CamVid(str(root)), num_processes=2)
    assert found(report) == planted
    assert len({kind for kind, _ in planted}) == 17
    assert all(str(root) in fault.text for fault in report.faults if fault.files)
    assert all(path.name in fault.text for fault in report.faults for path in fault.files)
    assert report.outside_the_table() == {"12": 8, "40": 3}
    assert len(report.errors) == sum(kind in ERRORS for kind, _ in planted)
    assert digest(root) == before


@pytest.mark.e2e
def test_finds_the_faults_planted_in_the_real_camvid(real_camvid: Path, tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    for source in real_camvid.glob("*/*"):
        target = root / source.relative_to(real_camvid)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())  # the data may be read-only, the copy must not be
    planted = plant(root)
    report = check(CamVid(str(root)), num_processes=num_cores())
    absent = ("absent split", f"split test: {root}/test: no such folder")
    assert found(report) == planted | {absent}


@pytest.mark.e2e
def test_the_real_camvid_passes_in_time(real_camvid: Path) -> None:
    start = time.perf_counter()
    report = check(CamVid(str(real_camvid)), num_processes=num_cores())
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s")
    assert report.errors == []
    assert [fault.kind for fault in report.faults] == ["absent split"]
    assert {split: report.sizes(split) for split in report.readings} == {
        "train": {"360x480": 367},
        "val": {"360x480": 101},
    }
    assert seconds < 15


def test_the_real_kitti_road_has_no_masks_of_the_road(real_kitti_road: Path) -> None:
    report = check(KittiRoad(str(real_kitti_road)))
    assert [fault.kind for fault in report.faults] == ["missing mask"] * 11 + ["split", "absent split"]
    assert report.readings["train"] == []


def test_report_equals_a_naive_count(camvid: Path, tmp_path: Path, run: Callable[..., tuple]) -> None:
    for image in (camvid / "val").iterdir():
        Image.open(image).crop((0, 0, 80, 64)).save(image)
        mask = camvid / "valannot" / image.name
        Image.open(mask).crop((0, 0, 80, 64)).save(mask)
    status, out, err = run("data=camvid", f"data.root={camvid}", f"out={tmp_path / 'out'}", "num_samples=5")
    assert (status, err) == (0, "")
    assert "camvid: 0 errors, 0 warnings" in out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["labels"], report["errors"], report["warnings"], report["faults"]) == ("camvid-11-merged", 0, 0, [])
    for split, count, size in (("train", 4, "72x96"), ("val", 3, "64x80"), ("test", 2, "72x96")):
        pixels = Counter(
            int(label) for path in (camvid / f"{split}annot").iterdir() for label in np.asarray(Image.open(path)).flat
        )
        void, total = pixels.pop(11), sum(pixels.values())
        reported = report["splits"][split]
        assert (reported["images"], reported["sizes"]) == (count, {size: count})
        assert reported["void"] == pytest.approx(void / (void + total), rel=1e-12)
        shares = [pixels[label] / total for label in range(11)]
        assert list(reported["shares"].values()) == pytest.approx(shares, rel=1e-12)
        assert f"{100 * pixels[3] / total:.2f} %" in (tmp_path / "out" / "report.md").read_text()
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png"))
    assert sheet.shape[1] == 4 * 320 + 3 * 4


def test_contact_sheet_lays_classes_over_images() -> None:
    rng = np.random.default_rng(0)
    pairs = [
        (name, rng.integers(0, 256, (*size, 3), dtype=np.uint8), np.full(size, label, dtype=np.uint8))
        for name, size, label in (("a", (40, 320), 0), ("b", (80, 320), 1), ("c", (40, 640), 255))
    ]
    sheet = contact_sheet(pairs, {"A": (200, 0, 0), "B": (0, 100, 0)})
    image, laid = sheet[18:58, :320], sheet[18:58, 324:644]
    assert np.array_equal(image, pairs[0][1])
    assert np.abs(laid - (image / 2 + np.array([100, 0, 0]))).max() <= 0.5
    assert np.array_equal(sheet[18:98, 648:968], pairs[1][1])
    assert (sheet[60:98, :644] == 255).all(), "the lower picture of a row has white below it"


def test_exit_status_and_terminal(camvid: Path, tmp_path: Path, run: Callable[..., tuple]) -> None:
    arguments = ("data=camvid", f"data.root={camvid}", f"out={tmp_path / 'out'}")
    (camvid / "train" / "x.gif").touch()
    status, out, _ = run(*arguments)
    assert status == 0
    assert "warning: not read (1)" in out
    assert "x.gif" in out
    for index, path in enumerate(sorted((camvid / "trainannot").iterdir())):
        Image.fromarray(np.full((72, 96), 20 + index, dtype=np.uint8)).save(path)
    status, out, err = run(*arguments)
    assert status == 1
    line = f"error: 4 errors, 1 warning in {camvid}; {tmp_path / 'out' / 'report.md'} names every file"
    assert err.splitlines() == [line]
    markdown = (tmp_path / "out" / "report.md").read_text()
    for path in (camvid / "trainannot").iterdir():
        assert f"  {path}: label 2" in out
        assert f"- {path}: label 2" in markdown
    assert "outside the table: 20 (6912 px), 21 (6912 px), 22 (6912 px), 23 (6912 px)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data=streets",), "data=streets: these images are drawn, not read"),
        (("data=camvid",), "data.root is not set"),
        (("data=camvid", "data.root=/nowhere"), "data.root=/nowhere: no such folder"),
        (("data=camvid", "data.root=.", "splits=[tarin]"), "split 'tarin' is not one of this dataset's"),
        (("data=camvid", "data.root=.", "num_samples=-1"), "num_samples=-1: must be a whole number, at least 0"),
        (("data=camvid", "data.root=.", "num_processes=0"), "num_processes=0: must be auto or a whole number"),
        (("data=camvid", "roots=."), "roots"),
    ],
)
def test_mistakes_are_reported_in_one_line(arguments: tuple[str, ...], message: str, run: Callable[..., tuple]) -> None:
    status, _, err = run(*arguments)
    assert status == 1
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_colours_outside_the_palette_are_counted(tmp_path: Path) -> None:
    root = write_camvid_full(tmp_path)
    for path, count in zip(sorted((root / "LabeledApproved_full").iterdir())[:2], (3, 4), strict=True):
        colours = np.array(Image.open(path))
        colours.reshape(-1, 3)[:count] = (1, 2, 3)
        colours.reshape(-1, 3)[-1] = (9, 9, 9)
        Image.fromarray(colours).save(path)
    report = check(configured("camvid_full", root))
    assert [fault.kind for fault in report.errors] == ["colour", "colour"]
    assert report.outside_the_table() == {"(1, 2, 3)": 7, "(9, 9, 9)": 2}


def test_a_decoder_that_raises_anything_stops_nothing(camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CamVid(str(camvid))
    sample = source.samples("train")[0]

    def broken(path: Path, form: ImageForm) -> None:
        raise KeyError("strip")

    monkeypatch.setattr(check_files, "read_image", broken)
    reading = read_pair(source, sample)
    (fault,) = reading.faults
    assert (fault.path, fault.kind) == (sample.image, "unreadable")
    assert str(fault).startswith(f"{sample.image}: cannot be read (KeyError: 'strip')")
    assert reading.counts.sum() == 72 * 96


def test_leaks_and_duplicates_of_overlapping_splits(tmp_path: Path) -> None:
    """Concat's own splits hold the same files as its common ones: no duplicates. Extra splits are trained on."""
    root = WRITERS["cityscapes_kitti"](tmp_path / "data")
    kitti = root / "kitti" / "training"
    for folder in ("image_2", "semantic"):
        shutil.copy(kitti / folder / "000001_10.png", kitti / folder / "000002_10.png")  # val's into train
    report = check(configured("cityscapes_kitti", root))
    assert [(fault.kind, {path.name for path in fault.files}) for fault in report.errors] == [
        ("leak", {"000001_10.png", "000002_10.png"})
    ]
    city = root / "cityscapes"
    for mask in list((city / "gtFine").rglob("*_labelIds.png")):
        shutil.copy(mask, mask.with_name(mask.name.replace("labelIds", "color")))
    assert len(check(configured("cityscapes_kitti", root)).faults) == len(report.faults), "colours are no masks"
    extra = next((city / "leftImg8bit" / "train_extra").rglob("*.png"))
    shutil.copy(next((city / "leftImg8bit" / "val").rglob("*.png")), extra)
    report = check(configured("cityscapes", city, "data.extra=true"))
    assert [fault.kind for fault in report.errors] == ["leak", "contradiction"]


class Bare(FileSource):
    """A labelled and an unlabelled image."""

    labels, splits, unlabelled = "bare", ("train", "test"), ("test",)
    classes, table = {"A": (0, 0, 0), "B": (255, 255, 255)}, {0: 0, 1: 1}

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def images(self, split: str) -> Iterator[Sample]:
        yield Sample("a", "", self.root / split / "a.png")

    def mask_of(self, image: Path) -> Path:
        return self.root / "m" / image.name


def test_unlabelled_splits_need_no_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_image(tmp_path / "train" / "a.png", (48, 80), rng)
    write_mask(tmp_path / "m" / "a.png", (48, 80), range(2), rng)
    write_image(tmp_path / "test" / "a.png", (48, 80), rng)
    report = check(Bare(str(tmp_path)))
    assert report.faults == []
    assert np.isnan(report.shares("test")["A"])
    assert report.sizes("test") == {"48x80": 1}
