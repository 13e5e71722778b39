"""torch's DataLoader, with workers that keep their memory, hand on user errors as they are, and never hang a run."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, default_collate, get_worker_info

from src.data.dataset import Reading
from src.errors import UserError, shortened
from src.machine import SHARED_MEMORY, describe_end, die_with, is_stopped

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
Batch = dict[str, Tensor]


class Loader(DataLoader):
    """A DataLoader over a `SegmentationDataset` that raises a UserError of a worker as the object that it was.

    torch would raise one whose text holds the worker's traceback. Use `collate` and `start_worker` with it.

    Args:
        patience: seconds that a batch of the workers may take.
        options: of `DataLoader`.

    Raises:
        UserError: a sample cannot be read, sizes differ, a worker was killed or gave no batch within `patience`, or
            shared memory is too small.
    """

    def __init__(self, *args: Any, num_workers: int = 0, patience: float = 180, **options: Any) -> None:
        # Not torch's timeout: it does not hold while a batch is fetched from the memory of a stopped worker, and while
        # it waits, torch does not see that a worker has died.
        super().__init__(*args, num_workers=num_workers, **options)
        self.patience = patience
        self.reading = Reading(num_workers)
        if num_workers:
            self.dataset.reading = self.reading  # pyright: ignore[reportAttributeAccessIssue]
        self._waits = False  # whether the main process waits for a batch
        self._fault: str | None = None  # why a worker was killed, if the watch has done it

    def __iter__(self) -> Iterator[Batch]:
        with self._watching(), self._waiting():
            batches = super().__iter__()
        return self._raise_errors(batches)

    def _raise_errors(self, batches: Iterator[Batch | UserError]) -> Iterator[Batch]:
        batch = None
        try:
            with self._watching():
                while True:
                    with self._waiting():
                        batch = next(batches, None)
                    if isinstance(batch, UserError):
                        raise batch
                    if batch is None:
                        return
                    yield batch
        finally:
            batch = None  # an error whose traceback keeps this frame must not be kept by it, and with it the workers

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Marks a wait for a batch. Raises a UserError that names the worker if one was killed, or took too long."""
        self._waits = True
        try:
            yield
        except (OSError, EOFError, RuntimeError) as error:  # torch raises any of them if a worker is killed
            workers = self._workers()
            if self._fault is not None:
                end(workers)
                self._iterator = None
                raise UserError(self._fault) from error
            ended = wait([worker.sentinel for worker in workers], timeout=1)
            for number, worker in enumerate(workers):
                if worker.sentinel in ended:
                    worker.join()
                    raise UserError(f"data process {number} {_end(worker.exitcode or 0)}") from error
            raise
        finally:
            self._waits = False

    def _workers(self) -> list[BaseProcess]:
        return getattr(self._iterator, "_workers", [])

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Runs, within the block, a thread that kills a worker if a batch takes longer than `patience`."""
        ended = threading.Event()
        if self.num_workers:
            threading.Thread(target=self._watch, args=(ended,), name="data processes", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _watch(self, ended: threading.Event) -> None:
        """Counts the time in ticks: none passes while this process itself is stopped."""
        tick, waited = min(1.0, self.patience / 5), 0.0
        while not ended.wait(tick):
            waited = waited + tick if self._waits else 0.0
            if waited > self.patience and (workers := self._workers()):
                number, self._fault = self._hanging(workers)
                workers[number].kill()  # which ends the wait of the main thread, wherever it is
                return

    def _hanging(self, workers: Sequence[BaseProcess]) -> tuple[int, str]:
        """Returns the first worker that is stopped, or else is reading, and a line that names all of them."""
        files = self.reading.names()
        stopped = [number for number, worker in enumerate(workers) if is_stopped(worker.pid or 0)]
        found = stopped or [number for number, file in enumerate(files) if file] or list(range(len(workers)))
        state, remedy = "hangs", "look at the file and its disk, or, if they are only slow, raise data.worker_timeout"
        if stopped:
            state, remedy = "is stopped", "the same command goes on"
        names = []
        for number in found:
            place = f" at {files[number]}" if files[number] else ""
            names.append(f"data process {number} (pid {workers[number].pid}) {state}{place}")
        return found[0], f"no batch in data.worker_timeout={self.patience:g} s: {shortened(names)}; {remedy}"


def end(workers: Sequence[BaseProcess]) -> None:
    """Kills workers, stopped ones too."""
    is_main = threading.current_thread() is threading.main_thread()
    # torch's handler of the signal raises an error if a worker is killed.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_main else None
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(2)
    if is_main:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def collate(samples: list[Batch] | UserError) -> Batch | UserError:
    """Stacks samples: `image` `(B, 3, H, W)`, channels last in memory as it was read, `mask` `(B, H, W)`.

    Returns a UserError instead if it is given one, or if sizes differ: `Loader` raises it in the main process.
    """
    if isinstance(samples, UserError):
        return samples
    sizes = {tuple(sample["mask"].shape) for sample in samples}
    if len(sizes) > 1:
        return UserError(
            f"images of sizes {sorted(sizes)} cannot share a batch; set data.eval_batch_size=1, or, in training, add a "
            "step to the augmentation that gives all images one size"
        )
    batch = default_collate([{**sample, "image": sample["image"].permute(1, 2, 0)} for sample in samples])
    batch |= {"image": batch["image"].permute(0, 3, 1, 2)}
    return _too_large(batch) or batch


def _too_large(batch: Batch) -> UserError | None:
    """Returns the error if the batches of all data processes do not fit in shared memory.

    A process that writes beyond its end is killed, or loses the batch, for which the main process would wait forever.
    """
    worker = get_worker_info()
    if worker is None or not os.path.isdir(SHARED_MEMORY):
        return None
    size, state = sum(tensor.nbytes for tensor in batch.values()), os.statvfs(SHARED_MEMORY)
    free = state.f_bavail * state.f_frsize
    if size * worker.num_workers <= free:
        return None
    return UserError(
        f"shared memory ({SHARED_MEMORY}) has {free / 1e6:.0f} MB left: {worker.num_workers} data processes with "
        f"batches of {size / 1e6:.0f} MB each need about {2 * size * worker.num_workers / 1e6:.0f} MB; start "
        "the container with --shm-size=8g or --ipc=host, or set data.num_workers lower (0: no data processes)"
    )


def _end(status: int) -> str:
    """Describes the end of a worker by its exit status, and the remedy."""
    if status >= 0:
        return f"{describe_end(status)}; its output is above; data.num_workers=0 shows its error here"
    return f"{describe_end(status)}; a lower data.num_workers or data.batch_size needs less memory"


def start_worker(worker_id: int) -> None:
    """Prepares a worker process: one thread, memory is kept, and signals are left to the main process.

    Even a stopped worker, or one that hangs in a read, ends with the main process.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and multiprocessing.get_start_method() != "forkserver":
        die_with(parent.pid or 0)
    # A scheduler or a terminal signals the whole process group, and the main process may need one batch more before it
    # has saved. SIGTERM stays what torch ends a worker by.
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)  # OpenCV's threads would fight over the cores that the workers fill
    # glibc gives arrays above 128 kB back to the system when they are freed, and takes fresh pages for the next ones.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)
