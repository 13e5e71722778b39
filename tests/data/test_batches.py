"""Batches through shared memory that is used again: never while anything still looks at it."""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from src.data.dataset import EpochSampler, SegmentationDataset, as_tensors
from src.data.loader import HELD, PREFETCHED, BatchLoader, Slots

SIZE = (16, 24)


class Numbered(SegmentationDataset):
    """Sample i of epoch e is all 50 e + i; written where it belongs, or returned for the loader to copy."""

    def __init__(self, length: int, *, in_place: bool = False, fault: Callable[[int], Any] | None = None) -> None:
        self.samples, self.in_place, self.fault = list(range(length)), in_place, fault

    def read(self, key: tuple[int, int], out: Any = (None, None)) -> tuple[np.ndarray, np.ndarray]:
        epoch, index = key
        if self.fault is not None and (result := self.fault(index)) is not None:
            return result
        value = 50 * epoch + index
        if self.in_place and out[0] is not None:
            for array in out:
                array[:] = value
            return out
        return np.full((*SIZE, 3), value, np.uint8), np.full(SIZE, value, np.uint8)


def loader(length: int, workers: int = 2, *, pin: bool = False, **options: Any) -> BatchLoader:
    dataset = Numbered(length, **options)
    return BatchLoader(dataset, EpochSampler(length, 0, False, True), 2, workers, dataset[0, 0], pin)


def numbers(tensor: torch.Tensor) -> list[int]:
    assert all((sample == sample.flatten()[0]).all() for sample in tensor)
    return [int(sample.flatten()[0]) for sample in tensor]


def in_use(data: BatchLoader) -> int:
    gc.collect()
    return len(data.slots.memory) - len(data.slots.free)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_batch_is_right_and_has_channels_last(workers: int, in_place: bool) -> None:
    data = loader(41, workers, in_place=in_place)
    assert len(data) == 20
    for epoch in range(3):
        data.sampler.set_epoch(epoch)
        count = 0
        for index, batch in enumerate(data):
            value = 50 * epoch + 2 * index
            assert batch["image"].shape == (2, 3, *SIZE)
            assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
            assert numbers(batch["image"]) == numbers(batch["mask"]) == [value, value + 1]
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            count += 1
        assert count == 20
        assert len(multiprocessing.active_children()) >= workers
    assert {worker.pid for worker in data.workers} == {worker.pid for worker in data.workers if worker.is_alive()}


@pytest.mark.parametrize("keep", ["image", "mask", "view", "array"])
def test_memory_in_use_is_not_written_over(keep: str) -> None:
    """All batches of three epochs are kept, more than there are slots, by one of their tensors or a part of it."""
    data, kept = loader(40), []
    for epoch in range(3):
        data.sampler.set_epoch(epoch)
        for index, batch in enumerate(data):
            part = {"image": batch["image"], "mask": batch["mask"], "view": batch["image"][1:, 0], "array": None}[keep]
            kept.append((50 * epoch + 2 * index, batch["mask"].numpy() if keep == "array" else part))
    assert len(kept) == 60 > len(data.slots.memory)
    for value, part in kept:
        assert numbers(torch.as_tensor(part)) == ([value + 1] if keep == "view" else [value, value + 1])


def test_memory_out_of_use_is_written_again_and_never_copied() -> None:
    data, places = loader(80), set()
    before = data.slots.memory.data_ptr()
    for batch in data:
        places.add(batch["image"].data_ptr())
        assert 0 <= batch["image"].data_ptr() - before < data.slots.memory.numel(), "the worker's own memory"
    assert 2 <= len(places) <= len(data.slots.memory)
    del batch
    assert in_use(data) == 0


def test_who_holds_a_few_batches_holds_them_without_a_copy() -> None:
    data, held, first = loader(40, 1), [], None
    for batch in data:
        held.append(batch)
        first = data.slots.memory.data_ptr()
    inside = [0 <= batch["mask"].data_ptr() - first < data.slots.memory.numel() for batch in held]
    assert inside.count(True) >= HELD - 1
    assert all(inside[: HELD - 1])
    assert not all(inside)
    assert [numbers(batch["mask"])[0] for batch in held] == list(range(0, 40, 2))


def test_an_epoch_left_early_loses_no_slot_and_mixes_nothing() -> None:
    data = loader(40)
    for epoch in range(4 * PREFETCHED):
        data.sampler.set_epoch(epoch % 4)
        for index, batch in enumerate(data):
            assert numbers(batch["mask"])[0] == 50 * (epoch % 4) + 2 * index
            if index == 3:
                break
    data.sampler.set_epoch(0)
    assert [numbers(batch["mask"])[0] for batch in data] == list(range(0, 40, 2))
    del batch
    assert in_use(data) == 0


def test_an_older_iteration_ends_where_a_new_one_begins() -> None:
    data = loader(40)
    older = iter(data)
    assert numbers(next(older)["mask"]) == [0, 1]
    newer = iter(data)
    assert numbers(next(newer)["mask"]) == [0, 1]
    assert next(older, None) is None
    assert [numbers(batch["mask"])[0] for batch in newer] == list(range(2, 40, 2))


def test_pinned_batches_are_copies_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no CUDA here: pinning is replaced by a copy, which is what it is."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    data = loader(40, pin=True)
    for stop in (3, None, None):
        kept = []
        for index, batch in enumerate(data):
            kept.append(batch)
            if index == stop:
                break
        expected = list(range(0, 40, 2))[: None if stop is None else stop + 1]
        assert [numbers(batch["image"])[0] for batch in kept] == expected
    assert in_use(data) == 0, "a pinned batch holds no slot"


@pytest.mark.parametrize("pin", [False, True])
def test_what_a_worker_raises_reaches_the_training(pin: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)

    def fault(index: int) -> None:
        if index == 5:
            raise ValueError("frame 5 is torn")

    data = loader(40, fault=fault, pin=pin)
    for _ in range(2):  # the workers live on
        with pytest.raises(ValueError, match=r"in DataLoader worker process 0(.|\n)*frame 5 is torn"):
            list(data)
        assert in_use(data) == sum(len(asked) for asked in data._asked)


def test_another_size_is_refused() -> None:
    odd = (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"sizes \[\(8, 8\), \(16, 24\)\] cannot share a batch"):
        list(loader(40, fault=lambda index: odd if index == 5 else None))


def test_a_dead_worker_is_told() -> None:
    data = loader(40)
    batches = iter(data)
    next(batches)
    os.kill(data.workers[1].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"data process 1 ended with status -9; was it killed for its memory\?"):
        list(batches)


def test_workers_end_with_their_loader() -> None:
    data = loader(40)
    next(iter(data))
    workers = data.workers
    del data
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)


def _train_and_tell(connection: Any) -> None:
    data = loader(40)
    next(iter(data))
    # Another child, which holds the training process's ends of the connections open.
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(25,)).start()
    connection.send([worker.pid for worker in data.workers])
    time.sleep(60)


def test_workers_end_when_the_training_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe()
    training = multiprocessing.get_context("spawn").Process(target=_train_and_tell, args=(theirs,))
    training.start()
    workers = ours.recv()
    training.kill()
    training.join()
    limit = time.monotonic() + 20
    while time.monotonic() < limit and any(os.path.exists(f"/proc/{worker}/cwd") for worker in workers):
        time.sleep(0.2)
    assert not any(os.path.exists(f"/proc/{worker}/cwd") for worker in workers)


def test_a_slot_is_one_batch() -> None:
    sample = as_tensors(np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8), np.zeros((3, 4), np.float32))
    slots = Slots(3, 2, sample)
    batch = slots.views(slots.memory[1])
    batch["image"][:] = 7
    batch["mask"][:] = 9
    batch["colour"][:] = 1.0
    ones = np.ones(2 * 12, np.float32).view(np.uint8).tolist()
    assert slots.memory[1].tolist() == [7] * (2 * 3 * 16 * 24) + [9] * (2 * 16 * 24) + ones
    assert not slots.memory[[0, 2]].eq(7).all()
    assert batch["image"].stride() == (3 * 16 * 24, 1, 3 * 24, 3)
    assert sample["image"].stride() == batch["image"].stride()[1:]
