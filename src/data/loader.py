"""torch's DataLoader, with workers that keep their memory and hand on user errors as they are."""

import ctypes
import signal
from collections.abc import Iterator

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from src.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
Batch = dict[str, Tensor]


class Loader(DataLoader):
    """A DataLoader over a `SegmentationDataset` that raises a UserError of a worker as the object that it was.

    torch would raise one whose text holds the worker's traceback. Use `collate` and `start_worker` with it.

    Raises:
        UserError: a sample cannot be read, or sizes differ.
        RuntimeError: a worker was killed.
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
        for number, worker in enumerate(getattr(batches, "_workers", [])):
            if worker.exitcode:
                raise RuntimeError(
                    f"data process {number} ended with status {worker.exitcode}; was it killed for its memory? "
                    "data.num_workers sets the number of data processes"
                ) from error
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
    return batch | {"image": batch["image"].permute(0, 3, 1, 2)}


def start_worker(worker_id: int) -> None:
    """Prepares a worker process: one thread, freed memory is kept, Ctrl-C is left to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # OpenCV's threads would fight over the cores that the workers fill
    # glibc gives arrays above 128 kB back to the system when they are freed, and takes fresh pages for the next ones.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)
