"""Batches from worker processes: order, errors, epochs, signals."""

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.data.dataset import EpochSampler, SegmentationDataset
from src.data.frame import ArrayFrame, Frame
from src.data.loader import Loader, collate, end, start_worker
from src.data.source import Sample, Source
from src.errors import DataError, UserError

SIZE = (16, 24)
FAULT = DataError(Path("train/0005.png"), "label", "label 77 (3 px) is not in the label table", {"77": 3})
FORK = multiprocessing.get_context("fork")


class Numbered(Source):
    """Every pixel of frame i is i; `act` is called first, with i."""

    def __init__(self, act: Callable[[int], object]) -> None:
        self.act = act

    def samples(self, split: str) -> list[Sample]:
        return []

    def image_id(self, sample: Sample) -> str:
        return sample.name

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        size = self.act(int(sample.name)) or SIZE
        return np.full((*size, 3), int(sample.name), np.uint8), np.full(size, int(sample.name), np.uint8)


def children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def loader(
    workers: int, act: Callable[[int], object] = lambda index: None, length: int = 41, patience: float = 60
) -> Loader:
    def transform(frame: Frame, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return frame.whole()

    samples = [Sample(str(number), "") for number in range(length)]
    return Loader(
        SegmentationDataset(Numbered(act), samples, transform, 0),
        batch_size=2,
        sampler=EpochSampler(length, 0, shuffle=False),
        drop_last=True,
        num_workers=workers,
        patience=patience,
        persistent_workers=workers > 0,
        collate_fn=collate,
        worker_init_fn=start_worker,
    )


def numbers(batches: list[dict[str, torch.Tensor]]) -> list[int]:
    for batch in batches:
        assert batch["image"].shape == (2, 3, *SIZE)
        assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert batch["mask"].is_contiguous()
        assert (batch["image"] == batch["mask"][:, :1, :1].unsqueeze(1)).all()
    return [int(mask.flatten()[0]) for batch in batches for mask in batch["mask"]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # more than a small CI has cores
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_and_workers_stay_for_the_next_epoch(workers: int) -> None:
    data = loader(workers)
    assert len(data) == 20
    assert numbers(list(data)) == list(range(40))
    before = children()
    assert len(before) >= workers
    kept = list(data)
    assert numbers(kept) == list(range(40)), "batches that are kept are not written over"
    assert children() <= before


def test_an_epoch_that_is_left_early_mixes_nothing_into_the_next() -> None:
    data = loader(2)
    for _ in range(3):
        batches = iter(data)
        assert numbers([next(batches), next(batches)]) == [0, 1, 2, 3]
    assert numbers(list(data)) == list(range(40))


def raise_fault(index: int) -> None:
    if index == 5:
        raise FAULT


@pytest.mark.parametrize("workers", [0, 1])
def test_a_user_error_arrives_as_it_was_raised(workers: int) -> None:
    data = loader(workers, raise_fault)
    for _ in range(2):  # the workers live on
        batches = iter(data)
        assert numbers([next(batches), next(batches)]) == [0, 1, 2, 3]
        with pytest.raises(DataError) as caught:
            next(batches)
        error = caught.value
        assert (type(error), error.path, error.kind, error.counts) == (DataError, FAULT.path, "label", {"77": 3})
        assert str(error) == "train/0005.png: label 77 (3 px) is not in the label table"
        del caught, error  # their traceback keeps the iterator, which ends its workers slowly if the collector finds it


def raise_bug(index: int) -> None:
    if index == 5:
        raise KeyError("a bug")


def test_a_bug_in_a_worker_keeps_its_traceback() -> None:
    with pytest.raises(KeyError, match=r"Caught KeyError in DataLoader worker process 0(.|\n)*in raise_bug"):
        list(loader(1, raise_bug))


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_another_size_are_refused(workers: int) -> None:
    with pytest.raises(
        UserError, match=r"^images of sizes \[\(8, 8\), \(16, 24\)\] cannot share a batch; set data.eval"
    ):
        list(loader(workers, lambda index: (8, 8) if index == 5 else None))


def _read_all(connection: Connection) -> None:
    try:
        list(loader(1, lambda index: os.kill(os.getpid(), signal.SIGKILL) if index == 5 else None))
    except Exception as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises a second error, at any time
        connection.send(repr(error))


def test_a_killed_worker_is_reported() -> None:
    receiver, sender = multiprocessing.Pipe()
    process = FORK.Process(target=_read_all, args=(sender,))
    process.start()
    error = receiver.recv() if receiver.poll(20) else "nothing"
    process.join()
    own = r"UserError\(.data process 0 was killed by SIGKILL, perhaps for memory; a lower data.num_workers"
    assert re.match(rf"{own}|RuntimeError\(.DataLoader worker.*signal: Killed", error), error


def test_a_stopped_worker_is_named_and_ended() -> None:
    before = children()  # of loaders of other tests
    data = loader(2, length=4000, patience=0.5)
    batches = iter(data)
    next(batches)
    stopped = data._workers()[1]
    assert stopped.pid
    os.kill(stopped.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(
        UserError,
        match=rf"^no batch in data\.worker_timeout=0\.5 s: data process 1 \(pid {stopped.pid}\) is stopped.*"
        "the same command goes on$",
    ):
        list(batches)
    assert time.monotonic() - began < 10
    assert children() <= before
    again = iter(data)  # by new workers
    assert numbers([next(again)]) == [0, 1]
    del again
    end(data._workers())


def test_a_worker_that_is_stopped_between_two_epochs_is_named() -> None:
    data = loader(1, patience=0.5)
    list(data)
    worker = data._workers()[0]
    assert worker.pid
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(UserError, match=r"data process 0 \(pid \d+\) is stopped"):
        iter(data)


def test_a_worker_that_hangs_in_a_read_is_named_with_its_file() -> None:
    before = children()
    data = loader(2, lambda index: time.sleep(60) if index == 5 else None, patience=0.5)
    with pytest.raises(
        UserError, match=r"data process 0 \(pid \d+\) hangs at 5; look at the file and its disk, or, if"
    ):
        list(data)
    assert children() <= before


def test_time_spent_with_a_batch_does_not_count() -> None:
    batches = iter(loader(1, patience=0.2))
    next(batches)
    time.sleep(0.6)
    assert len(list(batches)) == 19


def test_batches_that_shared_memory_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker gives 64 MB; without this check the main process would wait for a batch that its worker lost."""
    sample = {"image": torch.zeros(3, 512, 512, dtype=torch.uint8), "mask": torch.zeros(512, 512, dtype=torch.uint8)}
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=2**14, f_frsize=2**12))
    assert isinstance(collate([sample] * 8), dict), "in the main process"
    monkeypatch.setattr("src.data.loader.get_worker_info", lambda: SimpleNamespace(num_workers=4))
    assert isinstance(collate([sample] * 8), dict)
    monkeypatch.setattr("src.data.loader.get_worker_info", lambda: SimpleNamespace(num_workers=9))
    message = str(collate([sample] * 8))
    assert message.startswith("shared memory (/dev/shm) has 67 MB left: 9 data processes with batches of 8 MB")
    assert "--shm-size" in message
    assert "data.num_workers" in message


def test_workers_leave_an_interrupt_to_the_main_process() -> None:
    data = loader(1)
    batches = iter(data)
    next(batches)
    for worker in multiprocessing.active_children():
        assert worker.pid
        os.kill(worker.pid, signal.SIGINT)
    assert numbers(list(batches)) == list(range(2, 40))


def _train(connection: Connection) -> None:
    batches = iter(loader(2, length=4000))
    next(batches)
    connection.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(60)


@pytest.mark.e2e
def test_workers_end_when_the_training_process_is_killed() -> None:
    receiver, sender = multiprocessing.Pipe()
    training = FORK.Process(target=_train, args=(sender,))
    training.start()
    workers = receiver.recv()
    assert len(workers) == 2
    training.kill()
    training.join()
    limit = time.monotonic() + 20
    while time.monotonic() < limit and any(os.path.exists(f"/proc/{worker}/cwd") for worker in workers):
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{worker}/cwd") for worker in workers)


def test_a_frame_in_memory_has_the_sizes_of_its_arrays() -> None:
    frame = ArrayFrame(np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.uint8))
    assert frame.size == SIZE
    assert frame.image(2, 3, 4, 5).shape == (4, 5, 3)
    assert frame.mask(2, 3, 4, 5).sum() == 20
