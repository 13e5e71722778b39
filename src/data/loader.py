"""Training batches that worker processes write straight into shared memory, which is used again once they are let go.

torch's own loader takes fresh shared memory for every batch, whose pages the system clears (at 8 x 512 x 1024 that
takes as long as half the augmentation), and hands it over by threads, which wait for a core where workers fill all.
`scripts/bench_loader.py` measures both. What a batch holds is the same, whoever makes it.
"""

import ctypes
import multiprocessing
import os
import queue
import signal
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import BatchSampler, default_collate

from src.data.dataset import EpochSampler, SegmentationDataset
from src.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
PREFETCHED = 3  # batches a worker has in work or ready
HELD = 4  # batches that a training loop holds at once, without a copy: Lightning has its current and its next one
Batch = dict[str, Tensor]


class Slots:
    """Shared memory for a number of batches of `batch_size` samples like one, channels last where that one is."""

    def __init__(self, count: int, batch_size: int, sample: Batch) -> None:
        self.batch_size = batch_size
        rows = sample | {"image": sample["image"].permute(1, 2, 0)}
        self.layout = {name: (array.dtype, tuple(array.shape)) for name, array in rows.items()}
        self.ends = np.cumsum([batch_size * array.nbytes for array in rows.values()]).tolist()
        self.memory = torch.empty((count, self.ends[-1]), dtype=torch.uint8).share_memory_()
        self.free = deque(range(count))
        self.handed_out: set[int] = set()

    def views(self, memory: Tensor) -> Batch:
        """The batch that one slot's bytes are."""
        parts = memory.tensor_split(self.ends[:-1])
        batch = {
            name: part.view(dtype).view(self.batch_size, *shape)
            for part, (name, (dtype, shape)) in zip(parts, self.layout.items(), strict=True)
        }
        return batch | {"image": batch["image"].permute(0, 3, 1, 2)}

    def hand_out(self, slot: int) -> Batch:
        """The batch in a slot, which is free again when the last tensor that looks at it is gone.

        Beyond `HELD` batches, a copy: who keeps many has them in memory of their own.
        """
        if len(self.handed_out) == HELD:
            batch = {name: tensor.clone() for name, tensor in self.views(self.memory[slot]).items()}
            self.free.append(slot)
            return batch
        # torch keeps this array as long as any tensor shares its memory, so its end is the end of the batch.
        array = self.memory[slot].numpy()
        weakref.finalize(array, self._let_go, slot).atexit = False
        self.handed_out.add(slot)
        return self.views(torch.from_numpy(array))

    def _let_go(self, slot: int) -> None:
        self.handed_out.remove(slot)
        self.free.append(slot)


class BatchLoader:
    """Full batches of a training epoch, in the sampler's order, made by processes that stay for the next epoch.

    Args:
        dataset: what a worker reads samples from; sent to it once.
        sampler: keys of an epoch.
        batch_size: samples a batch; those at an epoch's end that do not fill one are left out.
        num_workers: processes, at least 1.
        sample: one of the dataset; all have its sizes.
        pin_memory: hand out copies in pinned memory, made by a thread; for CUDA.

    Raises:
        RuntimeError: a worker ended before its time.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        sampler: EpochSampler,
        batch_size: int,
        num_workers: int,
        sample: Batch,
        pin_memory: bool = False,
    ) -> None:
        assert num_workers > 0, "without workers nothing is handed over"
        self.dataset, self.sampler, self.pin_memory = dataset, sampler, pin_memory
        self.batch_size = batch_size
        self.batch_sampler = BatchSampler(sampler, batch_size, drop_last=True)
        self.num_workers = num_workers
        # One is between the workers and the loop: it has arrived, and is not handed out yet.
        self.slots = Slots(PREFETCHED * num_workers + 1 + HELD, batch_size, sample)
        self.workers: list[multiprocessing.Process] = []
        self._connections: list[Connection] = []
        self._asked: list[deque[int]] = [deque() for _ in range(num_workers)]  # slots of batches that are on their way
        self._current: weakref.ref[Iterator[Batch]] | None = None

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        """A new epoch, which ends one that was left early, as torch's loader with lasting workers does."""
        if not self.workers:
            self._start()
        if self._current is not None and (current := self._current()) is not None:
            current.close()
        self._forget_asked()
        batches = pinned(self._receive()) if self.pin_memory else self._receive()
        self._current = weakref.ref(batches)
        return batches

    def _start(self) -> None:
        for _ in range(self.num_workers):
            ours, theirs = multiprocessing.Pipe()
            arguments = (theirs, self.dataset, self.slots, os.getpid(), len(self.workers))
            worker = multiprocessing.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            theirs.close()  # so that a worker's end is the connection's
            self.workers.append(worker)
            self._connections.append(ours)
        weakref.finalize(self, _stop, self.workers, self._connections)

    def _receive(self) -> Iterator[Batch]:
        keys = iter(self.batch_sampler)
        for _ in range(PREFETCHED):
            for worker in range(self.num_workers):
                self._ask(worker, keys)
        worker = 0
        while self._asked[worker]:
            slot, failure = self._answer(worker)
            if failure is not None:
                self.slots.free.append(slot)
                failure.reraise()
            self._ask(worker, keys)  # first of all, for the worker is idle
            yield self.slots.hand_out(slot)
            worker = (worker + 1) % self.num_workers

    def _ask(self, worker: int, keys: Iterator[list]) -> None:
        if (batch := next(keys, None)) is not None:
            slot = self.slots.free.popleft()  # there is one: `hand_out` sees to it
            self._asked[worker].append(slot)
            self._connections[worker].send((slot, batch))

    def _answer(self, worker: int) -> tuple[int, ExceptionWrapper | None]:
        """Waits for the oldest batch of a worker: its slot, and what the worker raised, if it did."""
        try:
            failure = self._connections[worker].recv()
        except (EOFError, ConnectionError) as error:
            process = self.workers[worker]
            process.join()
            killed = "; was it killed for its memory? data.num_workers sets how many there are"
            raise RuntimeError(
                f"data process {worker} ended with status {process.exitcode}{killed if process.exitcode < 0 else ''}"
            ) from error
        return self._asked[worker].popleft(), failure

    def _forget_asked(self) -> None:
        """Takes back the slots of the batches that an epoch which was left early had asked for."""
        for worker, asked in enumerate(self._asked):
            while asked:
                slot, _ = self._answer(worker)
                self.slots.free.append(slot)


def _work(connection: Connection, dataset: SegmentationDataset, slots: Slots, parent: int, number: int) -> None:
    """A worker's life: receives `(slot, keys)`, writes the batch, answers None, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's to handle
    torch.set_num_threads(1)
    start_worker(number)
    if hasattr(os, "SCHED_BATCH"):  # on Linux: a worker that wakes does not take the training process's core from it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    while (asked := _next_asked(connection, parent)) is not None:
        try:
            write_batch(dataset, asked[1], slots.views(slots.memory[asked[0]]))
            connection.send(None)
        except Exception:
            connection.send(ExceptionWrapper(where=f"in DataLoader worker process {number}"))


def _next_asked(connection: Connection, parent: int) -> tuple[int, list] | None:
    """What the training process asks for; None where it is done, or has been killed."""
    while not connection.poll(5):
        if os.getppid() != parent:  # other children of it may still hold its end of the connection
            return None
    try:
        return connection.recv()
    except EOFError:
        return None


def write_batch(dataset: SegmentationDataset, keys: list, batch: Batch) -> None:
    """Reads the samples of `keys` into a batch.

    Raises:
        UserError: a sample has another size.
    """
    whole = (batch | {"image": batch["image"].permute(0, 2, 3, 1)}).values()
    for key, *places in zip(keys, *(tensor.numpy() for tensor in whole), strict=True):
        sample = dataset.read(key, out=places)
        for array, place in zip(sample, places, strict=True):
            if array.shape != place.shape:
                raise _different_sizes({place.shape[:2], array.shape[:2]})
            if array is not place:
                np.copyto(place, array)


def _stop(workers: list[multiprocessing.Process], connections: list[Connection]) -> None:
    for connection in connections:
        try:
            connection.send(None)
        except OSError:
            continue  # it has ended already
    for worker in workers:
        worker.join(timeout=10)
        if worker.is_alive():
            worker.terminate()


def pinned(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Copies in pinned memory, made by a thread while the device works.

    The shared memory itself is not pinned: a batch could be let go, and written over, while it is still being copied to
    the device. torch's own pinned memory knows when that is done.
    """
    ready: queue.Queue = queue.Queue(maxsize=PREFETCHED)
    left = threading.Event()

    def put(item: object) -> None:
        while not left.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def pin() -> None:
        try:
            for batch in batches:
                put({name: tensor.pin_memory() for name, tensor in batch.items()})
                if left.is_set():
                    return
            put(None)
        except Exception as error:
            put(error)

    thread = threading.Thread(target=pin, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        left.set()
        thread.join()


def collate(samples: list[Batch]) -> Batch:
    """Stacks samples: `image` `(B, 3, H, W)`, channels last in memory as it was read, `mask` `(B, H, W)`.

    Raises:
        UserError: their sizes differ.
    """
    sizes = {tuple(sample["mask"].shape) for sample in samples}
    if len(sizes) > 1:
        raise _different_sizes(sizes)
    batch = default_collate([{**sample, "image": sample["image"].permute(1, 2, 0)} for sample in samples])
    return batch | {"image": batch["image"].permute(0, 3, 1, 2)}


def _different_sizes(sizes: set[tuple[int, ...]]) -> UserError:
    return UserError(
        f"images of sizes {sorted(sizes)} cannot share a batch; set data.eval_batch_size=1, or, in training, a step of "
        "the augmentation that gives all one size"
    )


def start_worker(worker_id: int) -> None:
    """One thread a worker (OpenCV's own would fight over the cores that the workers fill), and memory that it keeps."""
    import cv2

    cv2.setNumThreads(0)
    # glibc gives arrays above 128 kB back to the system when they are freed, and takes fresh pages for the next ones.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)
