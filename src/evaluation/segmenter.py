"""Segments arrays in memory: one network, several threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from src.errors import UserError
from src.evaluation.checkpoint import load_weights
from src.evaluation.engine import use_engine
from src.evaluation.exported import EngineFile
from src.evaluation.quiet import quieten
from src.evaluation.wanted import Wanted
from src.inference import most_likely, predict_rows
from src.machine import num_cores
from src.task import SegmentationTask

Item = TypeVar("Item")
Result = TypeVar("Result")
FULL = 65535  # stands for a probability of 1
BUDGET = 8_000_000  # pixels of the images in work; a larger image is worked on by itself


@dataclass(frozen=True)
class Segmented:
    """The prediction for one image: arrays at its own size.

    Args:
        ids: uint8 `(H, W)`, 0..K-1, or 255 for a class that is not kept.
        confidence: uint16 `(H, W)`, the probability of the predicted class times 65535; or None.
        probabilities: uint16 `(K, H, W)`, likewise of every class; or None.
    """

    ids: np.ndarray
    confidence: np.ndarray | None = None
    probabilities: np.ndarray | None = None


class Segmenter:
    """Predicts by the protocol of a run, in as many threads as ask for it.

    On a CPU each image is computed by one core, and others beside it: this needs no waiting at the end of every layer,
    and the prediction of an image depends on nothing but the image, bitwise. On another device one batch is computed at
    a time, while other threads read and write.

    Raises:
        UserError: the checkpoint is damaged or does not fit.
    """

    def __init__(
        self,
        task: SegmentationTask,
        checkpoint: Path,
        accelerator: str,
        precision: Any,
        wanted: Wanted,
        engine: EngineFile | None = None,
    ) -> None:
        quieten()
        self.fabric = L.Fabric(accelerator=accelerator, devices=1, precision=precision)
        load_weights(task, checkpoint)
        if engine is not None:
            task.network = use_engine(engine, task.network)
        self.task = task.to(self.fabric.device).eval()
        self.protocol = task.protocol.at_own_size
        self.wanted = wanted
        self.is_cpu = self.fabric.device.type == "cpu"
        self.num_cores = torch.get_num_threads()  # OMP_NUM_THREADS, or one per core
        self.num_threads = self.num_cores if self.is_cpu else num_cores()
        self._turn = nullcontext() if self.is_cpu else threading.Lock()
        table = np.arange(256, dtype=np.uint8)
        table[wanted.left_out] = 255
        self._table = torch.from_numpy(table)

    def __call__(self, images: Sequence[np.ndarray], *, all_cores: bool = False) -> list[Segmented]:
        """Segments images uint8 `(H, W, 3)` of one size.

        Args:
            all_cores: whether nothing else is computed meanwhile, so that all cores are free for this.

        Raises:
            UserError: the images need more memory than there is.
        """
        batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
        if self.is_cpu:
            # Of this thread: OpenMP keeps the number per thread.
            torch.set_num_threads(self.num_cores if all_cores else 1)
        try:
            with self._turn, self.fabric.autocast(), torch.inference_mode():
                return self._segment(batch)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "enough memory" not in str(error):
                raise
            size = "x".join(map(str, batch.shape[2:]))
            raise UserError(
                f"needs more memory than there is at {size} (HxW); give inference.window=[1024,1024], "
                "inference.short_side=N or a smaller batch_size"
            ) from error

    def _segment(self, batch: Tensor) -> list[Segmented]:
        ids, confidence, probabilities = [], [], []
        for _, scores in predict_rows(self.task.network, batch.to(self.fabric.device), self.protocol):
            found = most_likely(scores)
            ids.append(self._table[found.cpu()] if self.wanted.left_out else found.to(torch.uint8).cpu())
            if {"confidence", "probabilities"} & set(self.wanted.outputs):
                each = scores.softmax(dim=1)
                if "confidence" in self.wanted.outputs:
                    confidence.append(_sixteen_bits(each.gather(1, found.unsqueeze(1)).squeeze(1)))
                if "probabilities" in self.wanted.outputs:
                    probabilities.append(_sixteen_bits(each))
        labels = torch.cat(ids, dim=1).numpy()
        confident, shares = (torch.cat(each, dim=-2).numpy() if each else None for each in (confidence, probabilities))
        return [
            Segmented(
                labels[number],
                None if confident is None else confident[number],
                None if shares is None else shares[number],
            )
            for number in range(len(batch))
        ]

    def in_order(
        self,
        function: Callable[[Item, bool], Result],
        items: Iterable[Item],
        weigh: Callable[[Item], int],
        *,
        is_single: bool = False,
    ) -> Iterator[Result]:
        """Yields `function(item, all_cores)` in the order of the items, computed in threads.

        Memory stays flat: the pixels of the items in work, and of results that wait for an earlier one, are at most
        `BUDGET`, or those of one item. An error cancels the items that wait.

        Args:
            function: `all_cores` is true if an item has as many pixels that nothing else is in work.
            weigh: number of pixels of an item.
            is_single: whether there is only one item.
        """
        pool, load = ThreadPoolExecutor(self.num_threads, "segment"), 0
        waiting: deque[tuple[Future[Result], int]] = deque()
        try:
            for item in items:
                weight = weigh(item)
                while waiting and (load + weight > BUDGET or len(waiting) >= 2 * self.num_threads):
                    future, done = waiting.popleft()
                    load -= done
                    yield future.result()
                waiting.append((pool.submit(function, item, is_single or weight >= BUDGET), weight))
                load += weight
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.num_cores)


def _sixteen_bits(shares: Tensor) -> Tensor:
    """Returns probabilities as uint16 on the CPU, 65535 for 1."""
    return (shares * FULL).round().to(torch.int32).cpu().to(torch.uint16)
