"""From samples to batches in the training process, without asking the system for fresh memory each time.

A fresh page costs more (it is found, zeroed and mapped) than filling it: a batch of 8 at 512x1024 has 4096 of them.
"""

import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.data import DataLoader, get_worker_info

Batch = dict[str, Tensor]
PLACE = "place"  # key of a batch's slot, counted through all workers, on its way to the main process
SLOTS = 6  # of shared memory a worker: two wait, one is written, the others are in use, or were until just now
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


class Collate:
    """Stacks samples: `image` `(B, 3, H, W)` with channels last in memory, `mask` `(B, H, W)`.

    A worker writes into one of its slots of shared memory, which the main process lets go of when nothing uses the
    batch any more; into new memory where all slots are in use.

    Raises:
        ValueError: samples of several sizes.
    """

    def __init__(self, num_workers: int) -> None:
        self.busy = torch.zeros(num_workers * SLOTS, dtype=torch.bool).share_memory_()
        self.slots: dict[int, Tensor] = {}  # a worker's own: uint8 `(N,)`, a batch's image and mask end to end
        self.held: list[tuple[int, StorageWeakRef]] = []  # the main process's

    def __call__(self, samples: list[Batch]) -> Batch:
        sizes = {tuple(sample["mask"].shape) for sample in samples}
        if len(sizes) > 1:
            raise ValueError(f"images of sizes {sorted(sizes)} cannot share a batch; set data.eval_batch_size=1")
        images = [sample["image"].permute(1, 2, 0) for sample in samples]
        masks = [sample["mask"] for sample in samples]
        place = self._free_place()
        if place is None:
            return {"image": torch.stack(images).permute(0, 3, 1, 2), "mask": torch.stack(masks)}
        image, mask = self._views(place, len(samples), *masks[0].shape)
        torch.stack(images, out=image)
        torch.stack(masks, out=mask)
        self.busy[place] = True
        return {"image": image.permute(0, 3, 1, 2), "mask": mask, PLACE: place}

    def _free_place(self) -> int | None:
        worker = get_worker_info()
        places = range(0) if worker is None else range(worker.id * SLOTS, (worker.id + 1) * SLOTS)
        return next((place for place in places if not self.busy[place]), None)

    def _views(self, place: int, count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Image `(B, H, W, 3)` and mask `(B, H, W)` in one piece of memory: it is sent once."""
        pixels = count * height * width
        if place not in self.slots or len(self.slots[place]) != 4 * pixels:
            self.slots[place] = torch.empty(4 * pixels, dtype=torch.uint8).share_memory_()
        memory = self.slots[place]
        return memory[: 3 * pixels].view(count, height, width, 3), memory[3 * pixels :].view(count, height, width)

    def begin(self) -> None:
        """In the main process, before an epoch: batches that an epoch left off has not taken are lost."""
        self._let_go()
        self.busy.zero_()
        for place, _ in self.held:
            self.busy[place] = True

    def take(self, batch: Batch) -> Batch:
        """In the main process: the batch as the loop wants it; keeps account of its slot."""
        self._let_go()
        place = batch.pop(PLACE, None)
        if place is not None and batch["image"].is_pinned():  # a copy already
            self.busy[place] = False
        elif place is not None:
            self.held.append((place, StorageWeakRef(batch["mask"].untyped_storage())))
        return batch

    def _let_go(self) -> None:
        for place, memory in self.held:
            if memory.expired():
                self.busy[place] = False
        self.held = [(place, memory) for place, memory in self.held if self.busy[place]]


class BatchLoader(DataLoader):
    """A DataLoader whose `collate_fn` is a `Collate`."""

    def __iter__(self) -> Iterator[Batch]:
        self.collate_fn.begin()
        return map(self.collate_fn.take, super().__iter__())


def start_worker(worker_id: int) -> None:
    """One thread a worker (OpenCV's own would fight over the cores that the workers fill), and memory that it keeps."""
    import cv2

    cv2.setNumThreads(0)
    # glibc gives arrays above 128 kB back to the system when they are freed, and takes fresh pages for the next ones.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)
