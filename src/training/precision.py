"""Measures which precision trains faster on this CPU."""

import copy
import statistics
from collections.abc import Sequence
from time import perf_counter

import torch

from src.models.network import Network
from src.task import SegmentationTask

PRECISIONS = ("32-true", "bf16-mixed")
REPEATS = 3
ENOUGH = 1.2  # times as fast as 32-true; below it the timing may be noise


def choose_precision(task: SegmentationTask, crop_size: Sequence[int], batch_size: int) -> tuple[str, float]:
    """Times forward and backward passes of the task's network and loss in 32 bits and with bfloat16 by autocast.

    bfloat16 is up to twice as fast where a CPU multiplies matrices of it (AMX), and slower for depthwise convolutions
    or without. The ways take turns, after one step each that does not count. Weights and random states stay as they
    are.

    Args:
        task: on the CPU.
        crop_size: `(H, W)` of training samples.
        batch_size: training images per step.

    Returns:
        the precision to train with, and how many times as fast as 32-true bf16-mixed is, by the medians.
    """
    assert isinstance(task.network, Network)
    network = copy.deepcopy(task.network).train()
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    with torch.random.fork_rng(devices=[]):
        image = torch.randint(0, 256, (batch_size, network.channels, *crop_size), dtype=torch.uint8)
        mask = torch.randint(0, len(task.classes), (batch_size, *crop_size), dtype=torch.uint8)
        for _ in range(1 + REPEATS):  # the first step of each does not count
            for precision, spent in times.items():
                began = perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                    loss = task.loss(network(image), mask, network.align_corners)["loss"]
                loss.backward()
                network.zero_grad(set_to_none=True)
                spent.append(perf_counter() - began)
    plain, mixed = (statistics.median(times[precision][1:]) for precision in PRECISIONS)
    ratio = plain / mixed
    return PRECISIONS[int(ratio >= ENOUGH)], ratio
