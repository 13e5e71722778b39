"""Sources, labels, and that a sample is a function of (seed, epoch, index)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from src.data.datamodule import SegmentationDataModule
from src.data.dataset import EpochSampler, SegmentationDataset, derive_seed
from src.data.reading import read_image, read_mask
from src.data.source import Sample
from src.data.sources.camvid import CamVid
from src.data.streets.source import Streets

CONF = str(Path(__file__).parents[2] / "conf")


def augmentation(*overrides: str) -> object:
    with initialize_config_dir(CONF, version_base="1.3"):
        return instantiate(compose("train", [*overrides]).augmentation, _convert_="all")


def batches(workers: int, epochs: range = range(2), seed: int = 0) -> list[dict[str, torch.Tensor]]:
    source = Streets(size=(64, 96), num_train=10, num_val=1, num_test=1)
    data = SegmentationDataModule(source, augmentation("data.crop_size=[64,96]"), 2, 1, workers, seed)
    loader = data.train_dataloader()
    result = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        result += list(loader)
    return result


def same(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # more than a small CI has cores
def test_batches_do_not_depend_on_workers() -> None:
    expected = batches(0)
    assert same(expected, batches(2))
    assert same(expected, batches(4))


def test_epochs_samples_and_seeds_differ_and_a_resume_continues() -> None:
    first = batches(2)
    pictures = [picture for batch in first for picture in batch["image"]]
    assert len(pictures) == 20
    for i, a in enumerate(pictures):
        assert not any(torch.equal(a, b) for b in pictures[:i])
    assert same(first[5:], batches(2, range(1, 2))), "epoch 1 does not depend on epoch 0"
    assert not same(first, batches(2, seed=1))


def test_batch_contract() -> None:
    batch = batches(0)[0]
    assert batch["image"].shape == (2, 3, 64, 96)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert set(batch["mask"].unique().tolist()) <= {*range(11), 255}


@pytest.mark.parametrize(("num_samples", "world_size"), [(7, 2), (8, 3), (5, 4)])
def test_ranks_see_every_sample_once(num_samples: int, world_size: int) -> None:
    shards = [list(EpochSampler(num_samples, 0, False, rank, world_size)) for rank in range(world_size)]
    assert sorted(index for shard in shards for _, index in shard) == list(range(num_samples))
    assert [len(EpochSampler(num_samples, 0, False, r, world_size)) for r in range(world_size)] == [
        len(shard) for shard in shards
    ]


def test_training_ranks_have_equal_shares_of_one_permutation() -> None:
    samplers = [EpochSampler(11, 3, True, rank, 2) for rank in range(2)]
    for sampler in samplers:
        sampler.set_epoch(4)
    shards = [list(sampler) for sampler in samplers]
    assert [len(shard) for shard in shards] == [5, 5]
    assert len({index for shard in shards for _, index in shard}) == 10
    assert {epoch for shard in shards for epoch, _ in shard} == {4}


def test_seeds_of_neighbours_are_unrelated() -> None:
    seeds = {derive_seed(s, e, i) for s in range(3) for e in range(20) for i in range(20)}
    assert len(seeds) == 1200


def test_camvid_reads_its_layout(camvid: Path) -> None:
    source = CamVid(str(camvid))
    samples = source.samples("train")
    assert [sample.name for sample in samples] == ["0001TP_00000", "0001TP_00002", "0016E5_00001", "0016E5_00003"]
    assert [sample.group for sample in samples] == ["0001TP", "0001TP", "0016E5", "0016E5"]
    image, mask = source.read(samples[0])
    raw = np.asarray(Image.open(samples[0].mask))
    assert image.shape == (72, 96, 3)
    assert np.array_equal(mask, np.where(raw == 11, 255, raw))


def test_real_camvid(real_camvid: Path) -> None:
    """Counts and pixel shares of SegNet's labels, as the reference states them (void 3.95 and 1.70 %)."""
    source = CamVid(str(real_camvid))
    assert {s: len(source.samples(s)) for s in ("train", "val")} == {"train": 367, "val": 101}
    groups = [sample.group for sample in source.samples("train")]
    assert {g: groups.count(g) for g in set(groups)} == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    assert {sample.group for sample in source.samples("val")} == {"0016E5"}
    counts = np.zeros(256, dtype=np.int64)
    for sample in source.samples("val"):
        counts += np.bincount(source.read(sample)[1].ravel(), minlength=256)
    share = 100 * counts / counts.sum()
    assert share[255] == pytest.approx(1.70, abs=0.01)
    names = list(source.classes)
    for name, expected in {"SignSymbol": 0.89, "Pole": 0.56, "Pedestrian": 0.65, "Bicyclist": 2.22}.items():
        assert share[names.index(name)] == pytest.approx(expected, abs=0.01)


def test_streets_has_camvids_classes() -> None:
    assert Streets.classes == CamVid.classes


def test_errors_name_unreadable_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.png").write_text("hello")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"cut.png: cannot be read .*[Tt]runcated"):
        read_image(tmp_path / "cut.png")
    with pytest.raises(ValueError, match=r"text.png: cannot be read \(not an image\)"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"deep.png: .* more than 8 bits"):
        read_image(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"whole.png: a mask holds one label per pixel .* this one is RGB"):
        read_mask(whole, CamVid.table)


def test_palette_masks_are_read_as_labels(tmp_path: Path) -> None:
    ids = np.array([[0, 3], [11, 10]], dtype=np.uint8)
    picture = Image.fromarray(ids).convert("P")
    picture.putpalette([255 - i // 3 for i in range(768)])
    picture.save(tmp_path / "p.png")
    raw = np.asarray(Image.open(tmp_path / "p.png"))
    assert np.array_equal(read_mask(tmp_path / "p.png", {int(v): int(v) for v in raw.ravel()}), raw)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_channels_last_in_memory(workers: int) -> None:
    for batch in batches(workers, range(1)):
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert batch["mask"].is_contiguous()


def test_a_dataset_without_transform_returns_whole_frames(camvid: Path) -> None:
    source = CamVid(str(camvid))
    samples: list[Sample] = source.samples("val")
    item = SegmentationDataset(source, samples, None, seed=0)[0, 1]
    image, mask = source.read(samples[1])
    assert np.array_equal(item["image"].permute(1, 2, 0).numpy(), image)
    assert np.array_equal(item["mask"].numpy(), mask)
