"""Class-uniform sampling, crops about a pixel, and crops that no class fills too much."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data.augment.crop import Geometry
from src.data.augment.pipeline import Augmentation
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import EpochSampler, SegmentationDataset
from src.data.frame import ArrayFrame, Frame
from src.data.source import Sample, Source


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETSEG_CACHE", str(tmp_path / "cache"))


class Painted(Source):
    """Eight frames of 90x160, all of class 0; a patch of class 1 in half of them, four pixels of class 2 in one."""

    labels, classes, splits = "painted", {"a": (1, 1, 1), "b": (2, 2, 2), "c": (3, 3, 3)}, ("train",)

    def samples(self, split: str) -> list[Sample]:
        return [Sample(str(number), "") for number in range(8)]

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        number, mask = int(sample.name), np.zeros((90, 160), np.uint8)
        if number % 2:
            mask[5 * number : 5 * number + 20, 100:130] = 1
        if number == 6:
            mask[70:72, 20:22] = 2
        return np.repeat(mask[..., None], 3, axis=2), mask

    def image_id(self, sample: Sample) -> str:
        return sample.name


PRESENCE = np.array([[True, bool(number % 2), number == 6] for number in range(8)])


def sampler(share: float, repeat: int = 1, **options) -> EpochSampler:
    presence = np.repeat(PRESENCE, repeat, axis=0)
    return EpochSampler(len(presence), 0, True, class_uniform=share, presence=presence, **options)


def epochs(given: EpochSampler, count: int, first: int = 0) -> list[tuple[int, ...]]:
    keys = []
    for epoch in range(first, first + count):
        given.set_epoch(epoch)
        keys += list(given)
    return keys


def test_classes_are_drawn_uniformly_then_images_that_have_them() -> None:
    keys = epochs(sampler(0.75, repeat=10), 40)
    assert len(keys) == 80 * 40
    aimed = [key for key in keys if len(key) == 3]
    assert len(aimed) == 60 * 40
    assert Counter(label for *_, label in aimed) == {0: 800, 1: 800, 2: 800}
    images = np.array([index % 80 for _, index, _ in aimed])
    labels = np.array([label for *_, label in aimed])
    presence = np.repeat(PRESENCE, 10, axis=0)
    assert presence[images, labels].all()
    for label in range(3):
        counts = np.bincount(images[labels == label], minlength=80)[presence[:, label]]
        expected = 800 / len(counts)
        chi2 = ((counts - expected) ** 2 / expected).sum() / (len(counts) - 1)
        assert 0.4 < chi2 < 1.8, "each is drawn as often as any other that has the class"
    others = np.bincount([key[1] % 80 for key in keys if len(key) == 2], minlength=80)
    assert others.max() < 25, "the rest is drawn as without a share: no image twice per epoch, 10 of 40 on average"
    assert others.min() > 1


def test_a_share_of_zero_changes_no_key() -> None:
    plain = EpochSampler(8, 0, True)
    assert epochs(sampler(0.0), 3) == epochs(plain, 3)
    assert sorted(index for _, index in list(plain)) == list(range(8))


def test_keys_are_unique_shared_among_ranks_and_the_same_after_a_resume() -> None:
    whole = epochs(sampler(0.5), 4)
    assert len({key[:2] for key in whole}) == len(whole), "each has its own seed"
    assert epochs(sampler(0.5), 2, first=2) == whole[16:]
    assert whole[:8] != [(0, *key[1:]) for key in whole[8:16]]
    ranks = [epochs(sampler(0.5, rank=rank, world_size=2), 4) for rank in range(2)]
    assert [key for pair in zip(*ranks, strict=True) for key in pair] == whole
    assert {len(key) for key in whole} == {2, 3}


def test_weights_of_datasets_hold_within_a_class() -> None:
    weights = np.tile([0.5, 1.5], 4)  # only images 1 3 5 7 have class 1; every second image of class 0 is rare
    keys = epochs(sampler(1.0, weights=weights), 600)
    zero = [index % 8 for _, index, label in keys if label == 0]
    assert np.mean(np.array(zero) % 2) == pytest.approx(0.75, abs=0.04)


def test_a_rare_class_is_in_more_crops() -> None:
    source, transform = Painted(), Augmentation(Geometry((30, 40), scale=(0.75, 1.5), flip_p=0.5))
    dataset = SegmentationDataset(source, source.samples("train"), transform, seed=0)
    shares = {}
    for share in (0.0, 0.6):
        masks = [dataset[key]["mask"] for key in epochs(sampler(share), 40)]
        shares[share] = np.mean([bool((mask == 2).any()) for mask in masks])
    assert shares[0.0] < 0.04
    # One of five is drawn for class 2; of the others few see it. (.6 of 8 samples is 5, of three classes.)
    assert shares[0.6] == pytest.approx(5 / 3 / 8, abs=0.05)


@pytest.mark.parametrize("size", [(90, 160), (20, 30)])
@pytest.mark.parametrize("rotate", [0.0, 20.0])
def test_an_aimed_crop_shows_its_pixel_near_the_middle(size: tuple[int, int], rotate: float) -> None:
    """One pixel at a time, scaled up so that no nearest-neighbour step can lose it."""
    geometry = Geometry((33, 47), scale=(1.5, 3.0), rotate=rotate, flip_p=0.5)
    rng = np.random.default_rng(0)
    central = lost = 0
    for seed in range(200):
        mask = np.zeros(size, np.uint8)
        margin = 0 if not rotate else min(size) // 3  # a corner may be turned away
        mask[rng.integers(margin, size[0] - margin), rng.integers(margin, size[1] - margin)] = 7
        _, ids = geometry(ArrayFrame(np.zeros((*size, 3), np.uint8), mask), np.random.default_rng(seed), 7)
        rows, columns = np.nonzero(ids == 7)
        lost += not len(rows)
        if len(rows):
            central += 7 <= rows.mean() <= 25 and 10 <= columns.mean() <= 36
    assert lost == 0
    assert central / 200 > (0.6 if size == (90, 160) else 0.3), "it lies further out only at the frame's edge"


@pytest.mark.parametrize("limit", [None, 0.75])
def test_crops_obey_the_ratio_if_possible(limit: float | None) -> None:
    """Stripes: a crop across an edge is accepted, one within a stripe is not."""
    mask = np.repeat(np.arange(6, dtype=np.uint8), 50)[None].repeat(40, axis=0)
    mask[:, :60] = 0  # a wide stripe: few crops here cross an edge
    frame = ArrayFrame(np.zeros((40, 300, 3), np.uint8), mask)
    transform = Augmentation(Geometry((40, 60), max_share=limit))
    largest = [np.bincount(transform(frame, seed)[1].ravel()).max() / 2400 for seed in range(300)]
    again = [np.bincount(transform(frame, seed)[1].ravel()).max() / 2400 for seed in range(300)]
    assert largest == again
    if limit is None:
        assert np.mean(np.array(largest) > 0.75) > 0.25
    else:
        assert max(largest) <= 0.75


def test_the_ratio_holds_for_aimed_crops_and_an_impossible_one_is_taken() -> None:
    halves = np.repeat(np.array([0, 1], np.uint8), 100)[None].repeat(40, axis=0)
    geometry, image = Geometry((40, 60), max_share=0.8), np.zeros((40, 200, 3), np.uint8)
    over = []
    for seed in range(300):
        _, ids = geometry(ArrayFrame(image, halves), np.random.default_rng(seed), 0)
        over.append((ids == 0).mean() > 0.8)
    # The pixel's column is 0 to 99 and lies 15 to 45 from the crop's left, which must lie beyond 52: 18 in 100.
    assert np.mean(over) == pytest.approx(0.82**10, abs=0.06)
    _, ids = geometry(ArrayFrame(image, np.full_like(halves, 4)), np.random.default_rng(0), 4)
    assert (ids == 4).all()


def batches(workers: int, first: int, count: int, max_share: float | None) -> list[dict[str, torch.Tensor]]:
    transform = Augmentation(Geometry((30, 40), scale=(0.5, 2.0), flip_p=0.5, max_share=max_share))
    data = SegmentationDataModule(Painted(), transform, 2, 1, workers, seed=3, class_uniform=0.5)
    loader = data.train_dataloader()
    found = []
    for epoch in range(first, first + count):
        loader.sampler.set_epoch(epoch)
        found += [{key: value.clone() for key, value in batch.items()} for batch in loader]
    return found


@pytest.mark.parametrize("max_share", [None, 0.75])
def test_batches_do_not_depend_on_workers_or_resumes(max_share: float | None) -> None:
    whole = batches(0, 0, 3, max_share)
    assert len(whole) == 12
    for other in (batches(2, 0, 3, max_share), whole[:8] + batches(0, 2, 1, max_share)):
        assert all(torch.equal(a[key], b[key]) for a, b in zip(whole, other, strict=True) for key in a)
    assert not torch.equal(whole[0]["mask"], whole[4]["mask"])


def test_only_aimed_samples_read_the_whole_mask() -> None:
    asked: list[tuple[int, ...]] = []

    class Watched(Frame):
        size = (90, 160)

        def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
            assert (height, width) != self.size
            return np.zeros((height, width, 3), np.uint8)

        def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
            asked.append((height, width))
            return np.zeros((height, width), np.uint8)

    geometry = Geometry((30, 40))
    geometry(Watched(), np.random.default_rng(0))
    assert (90, 160) not in asked
    geometry(Watched(), np.random.default_rng(0), 0)
    assert asked.count((90, 160)) == 1
