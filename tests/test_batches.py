"""Batches through shared memory that is used again: never while anything still looks at it."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from src.data.batches import PLACE, SLOTS, BatchLoader, Collate, start_worker


class Numbered(Dataset):
    """Sample i is all i; sizes may differ between batches of two."""

    def __init__(self, length: int, *, several_sizes: bool = False) -> None:
        self.length, self.several_sizes = length, several_sizes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        height = 16 + (index // 2 % 3 if self.several_sizes else 0)
        image = torch.full((height, 24, 3), index % 251, dtype=torch.uint8).permute(2, 0, 1)
        return {"image": image, "mask": torch.full((height, 24), index % 251, dtype=torch.uint8)}


def loader(length: int, workers: int, **options: bool) -> BatchLoader:
    return BatchLoader(
        Numbered(length, **options),
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=Collate(workers),
        worker_init_fn=start_worker,
    )


def number(tensor: torch.Tensor) -> list[int]:
    assert all((sample == sample.flatten()[0]).all() for sample in tensor)
    return [int(sample.flatten()[0]) for sample in tensor]


@pytest.mark.parametrize("several_sizes", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_is_right_and_has_channels_last(workers: int, several_sizes: bool) -> None:
    data = loader(60, workers, several_sizes=several_sizes)
    for _ in range(3):
        count = 0
        for index, batch in enumerate(data):
            assert set(batch) == {"image", "mask"}
            assert number(batch["image"]) == number(batch["mask"]) == [2 * index, 2 * index + 1]
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            count += 1
        assert count == 30


@pytest.mark.parametrize("keep", ["image", "mask", "view", "array"])
def test_memory_in_use_is_not_written_over(keep: str) -> None:
    """All batches of three epochs are kept, more than there are slots, by one of their tensors or a part of it."""
    data, kept = loader(40, 2), []
    for epoch in range(3):
        for index, batch in enumerate(data):
            part = {"image": batch["image"], "mask": batch["mask"], "view": batch["image"][1:, 0], "array": None}[keep]
            kept.append((index, batch["mask"].numpy() if keep == "array" else part))
        assert len(kept) == 20 * (epoch + 1)
    for index, part in kept:
        expected = [2 * index + 1] if keep == "view" else [2 * index, 2 * index + 1]
        assert number(torch.as_tensor(part)) == expected


def test_memory_out_of_use_is_written_again() -> None:
    """A loop that keeps nothing always finds a free slot, and a process that reads a slot sees the next batch there."""
    data, most = loader(200, 1), 0
    for batch in data:
        most = max(most, int(data.collate_fn.busy.sum()))
        del batch
    assert 0 < most < SLOTS


def test_an_epoch_left_early_loses_no_slot() -> None:
    data = loader(40, 2)
    for _ in range(3 * SLOTS):
        for index, batch in enumerate(data):
            assert number(batch["mask"]) == [2 * index, 2 * index + 1]
            if index == 3:
                break
    assert [number(batch["mask"])[0] for batch in data] == list(range(0, 40, 2))
    del batch
    data.collate_fn.begin()
    assert not data.collate_fn.busy.any()


def test_a_pinned_copy_frees_its_slot_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collate = Collate(1)
    collate.busy[2] = True
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: True)
    batch = collate.take({"image": torch.zeros(1), "mask": torch.zeros(1), PLACE: 2})
    assert set(batch) == {"image", "mask"}
    assert not collate.busy.any()


def test_it_is_a_loader_like_any_other() -> None:
    """Lightning asks for this, and takes the batches in any process."""
    data = loader(7, 0)
    assert isinstance(data, DataLoader)
    assert len(data) == 4
    assert [len(batch["mask"]) for batch in data] == [2, 2, 2, 1]
