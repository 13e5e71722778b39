"""torch's DataLoader, with workers that keep their memory and hand on user errors as they are."""

import ctypes
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import wait

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, default_collate, get_worker_info

from src.errors import UserError

SHARED_MEMORY = "/dev/shm"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
Batch = dict[str, Tensor]


class Loader(DataLoader):
    """A DataLoader over a `SegmentationDataset` that raises a UserError of a worker as the object that it was.

    torch would raise one whose text holds the worker's traceback. Use `collate` and `start_worker` with it.

    Raises:
        UserError: a sample cannot be read, sizes differ, a worker was killed, or shared memory is too small.
    """

    def __iter__(self) -> Iterator[Batch]:
        return _raise_errors(super().__iter__())


def _raise_errors(batches: Iterator[Batch | UserError]) -> Iterator[Batch]:
    try:
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch
    except (OSError, EOFError, RuntimeError) as error:  # torch raises any of them if a worker is killed
        workers = getattr(batches, "_workers", [])
        ended = wait([worker.sentinel for worker in workers], timeout=1)
        for number, worker in enumerate(workers):
            if worker.sentinel in ended:
                worker.join()
                raise UserError(f"data process {number} {_end(worker.exitcode)}") from error
        raise
    finally:
        batch = None  # an error whose traceback keeps this frame must not be kept by it, and with it the workers


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
    """Describes the end of a process by its exit status, and the remedy."""
    if status >= 0:
        return f"ended with status {status}; its output is above; data.num_workers=0 shows its error here"
    name = signal.Signals(-status).name
    reasons = {"SIGKILL": "perhaps for memory", "SIGBUS": f"perhaps because {SHARED_MEMORY} is full (--shm-size)"}
    reason = f", {reasons[name]}" if name in reasons else ""
    return f"was killed by {name}{reason}; a lower data.num_workers or data.batch_size needs less memory"


def start_worker(worker_id: int) -> None:
    """Prepares a worker process: one thread, freed memory is kept, Ctrl-C is left to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # OpenCV's threads would fight over the cores that the workers fill
    # glibc gives arrays above 128 kB back to the system when they are freed, and takes fresh pages for the next ones.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)
