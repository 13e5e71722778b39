"""Tests of packs: the same frames and batches as from files, and no stale pack is used."""

import hashlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.config.cli import launch
from src.data import packed
from src.data.datamodule import SegmentationDataModule
from src.data.packed import PackedFrame, attach, default_folder
from src.data.reading import FileFrame
from src.data.source import FileSource, Sample
from src.data.sources.camvid import CamVid
from src.data.sources.folder import Folder
from src.data.streets.source import Streets
from src.data.tools.pack import pack_split
from src.errors import UserError
from src.pack import pack
from tests.data.test_augmentation import augmentation
from tests.support.trees import write_folder

ROOT = Path(__file__).parents[2]


class Mixed(FileSource):
    """Frames of several sizes and formats, in one split."""

    labels, splits = "mixed-3", ("train",)
    classes = {"A": (1, 2, 3), "B": (4, 5, 6), "C": (7, 8, 9)}
    table = {0: 0, 1: 1, 2: 2, 255: 255}

    def __init__(self, root: Path) -> None:
        self.root = root

    def images(self, split: str) -> Iterator[Sample]:
        for path in sorted(self.root.glob("image_*")):
            yield Sample(path.stem, path.stem[-1], path)

    def mask_of(self, image: Path) -> Path:
        return self.root / f"mask_{image.stem[-1]}.png"


@pytest.fixture
def mixed(tmp_path: Path) -> Mixed:
    root, rng = tmp_path / "mixed", np.random.default_rng(0)
    root.mkdir()
    sizes = [(37, 61), (64, 32), (1, 200), (50, 50), (37, 61), (29, 83)]
    for number, (size, suffix) in enumerate(zip(sizes, ("png", "jpg", "bmp", "png", "png", "webp"), strict=True)):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / f"image_{number}.{suffix}")
        Image.fromarray(rng.choice([0, 1, 2, 255], size).astype(np.uint8)).save(root / f"mask_{number}.png")
    return Mixed(root)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    """Calls `python -m src.pack ...` in this process; returns the folder of the pack."""
    folders = []
    monkeypatch.setattr(sys, "argv", ["src.pack", *arguments])
    launch(lambda cfg: folders.append(pack(cfg)), "pack")
    return folders[0]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


# Reading


def test_every_frame_is_the_same_packed_or_not(mixed: Mixed, tmp_path: Path) -> None:
    pack_split(mixed, "train", tmp_path / "pack", 2)
    files = [FileFrame(sample, mixed.read_labels).whole() for sample in mixed.samples("train")]
    attach(mixed, str(tmp_path / "pack"))
    for sample, (image, mask) in zip(mixed.samples("train"), files, strict=True):
        frame = mixed.open(sample)
        assert isinstance(frame, PackedFrame)
        assert frame.size == mask.shape
        assert all(np.array_equal(a, b) for a, b in zip(mixed.read(sample), (image, mask), strict=True))
        height, width = mask.shape
        top, left = height // 3, width // 4
        window = frame.image(top, left, height - top, width // 2)
        assert np.array_equal(window, image[top:, left : left + width // 2])
        assert not window.flags.writeable, "the file is mapped for reading"


def test_the_pack_is_what_its_index_says(mixed: Mixed, tmp_path: Path) -> None:
    """Read by numpy only, as anyone could."""
    folder = tmp_path / "pack"
    pack_split(mixed, "train", folder, 1)
    index = json.loads((folder / "train.json").read_text())
    images, masks = np.load(folder / index["images"]), np.load(folder / index["masks"], mmap_mode="r")
    assert images.dtype == masks.dtype == np.uint8
    assert images.shape == (3 * masks.size,)
    assert {key: index[key] for key in ("split", "labels", "classes")} == {
        "split": "train", "labels": "mixed-3", "classes": {"A": [1, 2, 3], "B": [4, 5, 6], "C": [7, 8, 9]},
    }  # fmt: skip
    samples = mixed.samples("train")
    assert [(frame["name"], frame["group"]) for frame in index["frames"]] == [(s.name, s.group) for s in samples]
    end = 0
    for frame, sample in zip(index["frames"], samples, strict=True):
        height, width = frame["size"]
        assert frame["offset"] == end
        end += height * width
        mask = masks[frame["offset"] : end].reshape(height, width)
        assert np.array_equal(mask, np.asarray(Image.open(sample.mask)))
        image = images[3 * frame["offset"] : 3 * end].reshape(height, width, 3)
        assert np.array_equal(image, np.asarray(Image.open(sample.image)))
    assert end == masks.size


def batches(root: Path, where: str | None, workers: int, folds: dict | None = None) -> list[dict[str, torch.Tensor]]:
    data = SegmentationDataModule(
        CamVid(str(root)), augmentation("data.crop_size=[48,64]"), 2, 1, workers, seed=3, folds=folds, pack=where
    )
    packed = [data.source.pack is not None and data.source.pack.open(s) is not None for s in data.samples("train")]
    assert all(packed) if where else not any(packed)
    loader = data.train_dataloader()
    result = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        result += list(loader)
    return result + list(data.val_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_training_and_validation_batches_are_bitwise_the_same(workers: int, camvid: Path, tmp_path: Path) -> None:
    files = batches(camvid, None, 0)
    for split in ("train", "val"):
        pack_split(CamVid(str(camvid)), split, tmp_path / "pack", 2)
    packed = batches(camvid, str(tmp_path / "pack"), workers)
    assert len(files) == len(packed) == 7
    for one, other in zip(files, packed, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def test_folds_find_their_frames_whatever_the_split(camvid: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        pack_split(CamVid(str(camvid)), split, tmp_path / "pack", 2)
    folds = {"num_folds": 2, "fold": 1}
    assert batches(camvid, str(tmp_path / "pack"), 0, folds)


def test_each_process_maps_the_files_and_keeps_few_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "KEPT", 5_000_000)
    root = tmp_path / "large"
    root.mkdir()
    for number in range(8):
        Image.fromarray(np.full((1000, 1500, 3), number, np.uint8)).save(root / f"image_{number}.bmp")
        Image.fromarray(np.zeros((1000, 1500), np.uint8)).save(root / f"mask_{number}.png")
    source = Mixed(root)
    pack_split(source, "train", tmp_path / "pack", 2)
    attach(source, str(tmp_path / "pack"))
    assert len(pickle.dumps(source)) < 10_000
    before = private_memory()
    for sample in source.samples("train"):
        assert source.open(sample).image(0, 0, 1000, 1500).sum() == 4_500_000 * int(sample.name[-1])
    assert len(pickle.dumps(source)) < 10_000, "a worker is sent paths, not arrays"
    assert private_memory() - before < 9e6, "36 MB were read, one frame has 4.5"
    copy = deepcopy(source)  # through the state that is pickled for a worker
    assert (copy.open(copy.samples("train")[3]).image(0, 0, 9, 9) == 3).all()


def private_memory() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


# Use of a pack


def test_auto_takes_the_pack_beside_the_data(camvid: Path) -> None:
    source = CamVid(str(camvid))
    assert attach(source, "auto").pack is None
    pack_split(source, "val", default_folder(source), 1)
    assert default_folder(source) == camvid.parent / "camvid.pack" / "camvid-11-merged"
    attach(source, "auto")
    assert isinstance(source.open(source.samples("val")[0]), PackedFrame)
    assert isinstance(source.open(source.samples("train")[0]), FileFrame), "not packed: read from its files"
    assert attach(CamVid(str(camvid)), None).pack is None


def test_a_pack_is_attached_once(camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call does not look at the files again."""
    source = CamVid(str(camvid))
    pack_split(source, "train", default_folder(source), 1)
    frames = attach(source, "auto").pack
    monkeypatch.setattr(packed, "pair_stamp", lambda sample: pytest.fail("a file was looked at"))
    assert attach(source, "auto").pack is frames
    assert attach(source, str(default_folder(source))).pack is frames


def test_a_pack_moves_with_its_data(camvid: Path, tmp_path: Path) -> None:
    pack_split(CamVid(str(camvid)), "train", tmp_path / "pack", 1)
    moved = shutil.copytree(camvid, tmp_path / "elsewhere" / "frames", copy_function=shutil.copy2)
    shutil.move(tmp_path / "pack", tmp_path / "fast")
    source = attach(CamVid(str(moved)), str(tmp_path / "fast"))
    assert isinstance(source.open(source.samples("train")[0]), PackedFrame)


def test_a_named_pack_must_exist(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.pack=.*nowhere: no pack there; make it \(python -m src.pack"):
        attach(CamVid(str(camvid)), str(tmp_path / "nowhere"))


def test_what_is_no_pack_of_the_data_is_refused_in_one_line(camvid: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    pack_split(CamVid(str(camvid)), "train", folder, 1)
    for content, fault in (("{", r"train.json: is damaged"), ('{"a": 1}', r"train.json: is no index of a pack")):
        (folder / "train.json").write_text(content)
        with pytest.raises(UserError, match=fault):
            attach(CamVid(str(camvid)), str(folder))


def test_a_pack_of_a_split_that_is_gone_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    for split in ("train", "val"):
        pack_split(Folder(str(root)), split, tmp_path / "pack", 1)
    shutil.rmtree(root / "images/val")
    with pytest.raises(UserError, match=r"has a pack of val, and the data have only train; remove .*val.json, or set"):
        attach(Folder(str(root)), str(tmp_path / "pack"))


def test_drawn_scenes_have_no_pack(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    source = Streets(size=(64, 96), num_train=1, num_val=1, num_test=1)
    assert attach(source, "auto") is source
    with pytest.raises(ValueError, match=r"streets-11 is drawn, not read from files; set data.pack=null"):
        attach(source, "folder")
    with pytest.raises(SystemExit):
        call(monkeypatch, "data=streets")
    assert "these images are drawn, not read: nothing to pack" in capfd.readouterr().err


def change_pixels(source: CamVid) -> None:
    path = source.root / "trainannot" / "0001TP_00002.png"
    Image.fromarray(np.asarray(Image.open(path)) * 0).save(path)


def change_times(source: CamVid) -> None:
    touch(source.root / "trainannot" / "0001TP_00002.png")


def add_a_frame(source: CamVid) -> None:
    for folder in ("train", "trainannot"):
        shutil.copy2(source.root / folder / "0001TP_00002.png", source.root / folder / "0001TP_99999.png")


def remove_a_frame(source: CamVid) -> None:
    for folder in ("train", "trainannot"):
        (source.root / folder / "0001TP_00002.png").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_pixels, "changed: 0001TP_00002"),
        (change_times, "changed: 0001TP_00002"),
        (add_a_frame, "new: 0001TP_99999"),
        (remove_a_frame, "gone: 0001TP_00002"),
        (
            lambda source: setattr(source, "table", source.table | {12: 3}),
            "another order, grouping, label table or way",
        ),
        (lambda source: setattr(source, "mask_kind", "colour"), "another order, grouping, label table or way to read"),
        (lambda source: setattr(source, "labels", "camvid-12"), "labels camvid-11-merged, not camvid-12"),
    ],
)
def test_a_stale_pack_is_refused_until_it_is_packed_again(
    change: Callable[[CamVid], None], message: str, camvid: Path, tmp_path: Path
) -> None:
    source, folder = CamVid(str(camvid)), tmp_path / "pack"
    pack_split(source, "train", folder, 1)
    source = CamVid(str(camvid))
    change(source)
    with pytest.raises(ValueError, match=rf"pack of train was made from other data \({message}.*src.pack again, or"):
        attach(source, str(folder))
    assert source.pack is None
    pack_split(source, "train", folder, 1)
    attach(source, str(folder))
    for sample in source.samples("train"):
        assert np.array_equal(source.read(sample)[1], FileFrame(sample, source.read_labels).whole()[1])
    assert len(list(folder.glob("[!.]*"))) == 3, "the old arrays are gone"


# Packing


def test_the_command_packs_verifies_and_says_what_to_do(
    camvid: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = call(monkeypatch, "data=camvid", f"data.root={camvid}")
    out = capfd.readouterr().out
    assert "train: 4 frames packed, 0.00 GB" in out
    assert f"{folder}; training with this data.root uses it" in out
    before = digests(folder)
    call(monkeypatch, "data=camvid", f"data.root={camvid}", "verify=true")
    out = capfd.readouterr().out
    assert "train: 4 frames, packed before" in out
    assert "val: 3 frames verified" in out
    assert digests(folder) == before
    other = call(monkeypatch, "data=camvid", f"data.root={camvid}", f"out={camvid.parent / 'x'}", "splits=[test]")
    assert f"{other}; use it: data.pack={other}" in capfd.readouterr().out
    with pytest.raises(SystemExit):
        call(monkeypatch, "data=camvid")
    assert "error: data.root is not set; give data.root=DIR" in capfd.readouterr().err


def test_files_that_only_have_new_times_are_not_decoded_again(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = CamVid(str(camvid)), tmp_path / "pack"
    pack_split(source, "train", folder, 1)
    before = digests(folder)
    for path in camvid.rglob("*.png"):
        touch(path)
    monkeypatch.setattr(FileFrame, "whole", lambda self: pytest.fail("decoded"))
    assert pack_split(source, "train", folder, 1) == "4 frames packed before; only the times of their files are new"
    after = digests(folder)
    assert after.pop("train.json") != before.pop("train.json")
    assert after == before
    attach(source, str(folder))
