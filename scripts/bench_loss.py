"""Compares the cost of a loss from logits at stride 4, forward and backward, with that of the usual way.

    python scripts/bench_loss.py [--batch 2] [--size 1024 2048] [--repeats 5] [--losses ce_dice_smooth,ohem]

19 classes, label-smoothed cross-entropy + Dice. The usual way: F.interpolate, F.cross_entropy, softmax, one-hot. Memory
is the peak above the memory in use before (logits, mask and libraries after a small first pass), each way in a process
of its own: resident memory on a CPU, torch's allocations on a GPU. Both ways are timed in turn in one process, which
makes their ratio least sensitive to other work on the machine. Still, this project's loss has many more operations that
threads share, and waits at each of them on a busy machine (--threads 1 does not). --losses adds other yamls of
conf/loss.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from src.losses.combined import CombinedLoss

CONF = Path(__file__).parents[1] / "conf"
K, STRIDE = 19, 4
NAIVE, BANDED = "usual way", "ce_dice_smooth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 2048])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--losses", default="", help="further yamls of conf/loss, by comma")
    parser.add_argument("--threads", type=int, help="of the CPU; default: all")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "DEVICE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.measure:
        print(measure_memory(*options.measure, options.batch, options.size))
        return
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        compare(device, [NAIVE, BANDED, *filter(None, options.losses.split(","))], options)


def compare(device: str, ways: list[str], options: argparse.Namespace) -> None:
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    shape = f"{K} x {options.size[0]} x {options.size[1]}, batch {options.batch}"
    memory = {}
    for way in ways:
        command = [sys.executable, *sys.argv, "--measure", way, device]
        memory[way] = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    logits, mask = make_batch(options.batch, options.size, device)
    functions = {way: make_loss(way).to(device) for way in ways}
    times: dict[str, list[float]] = {way: [] for way in ways}
    work: dict[str, list[float]] = {way: [] for way in ways}
    values = {}
    for repeat in range(-1, options.repeats):  # the first time is not counted
        for way, function in functions.items():
            begin, cpu = time.perf_counter(), time.process_time()
            values[way] = run(function, logits, mask)
            if repeat >= 0:
                times[way].append(time.perf_counter() - begin)
                work[way].append(time.process_time() - cpu)
    print(f"{where}: {shape}, from stride {STRIDE}; {options.repeats} repeats in turn")
    print(f"{'':<16}{'peak MB':>10}{'share':>9}{'s, median':>11}{'min':>9}{'ratio':>8}{'CPU s':>9}{'loss':>10}")
    middle = {way: statistics.median(seconds) for way, seconds in times.items()}
    for way in ways:
        print(
            f"{way:<16}{memory[way] / 1e6:10.0f}{memory[way] / memory[NAIVE]:9.1%}{middle[way]:11.3f}"
            f"{min(times[way]):9.3f}{middle[way] / middle[NAIVE]:8.2f}{statistics.median(work[way]):9.3f}"
            f"{values[way][0]:10.6f}"
        )
    difference = (values[BANDED][1] - values[NAIVE][1]).abs().max() / values[NAIVE][1].abs().max()
    print(f"largest difference of the gradients, of the largest: {difference:.1e}\n")


def make_batch(batch: int, size: list[int], device: str) -> tuple[Tensor, Tensor]:
    """Makes float32 logits at stride 4, and labels in blocks, the top rows ignored."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    logits = torch.randn(batch, K, height // STRIDE, width // STRIDE, generator=generator)
    blocks = torch.randint(0, K, (batch, height // 16, width // 16), generator=generator, dtype=torch.uint8)
    mask = blocks.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    mask[:, : height // 16] = 255
    return logits.to(device), mask.to(device)


def make_loss(way: str) -> torch.nn.Module:
    if way == NAIVE:
        return Naive()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"loss={way}"])
    loss = instantiate(cfg.loss, _convert_="all")
    assert isinstance(loss, CombinedLoss), way
    return loss


class Naive(torch.nn.Module):
    """The usual way to write .5 CE + .5 Dice."""

    def forward(self, outputs: tuple[Tensor], mask: Tensor) -> dict[str, Tensor]:
        mask = mask.long()
        full = F.interpolate(outputs[0], mask.shape[-2:], mode="bilinear", align_corners=False)
        entropy = F.cross_entropy(full, mask, ignore_index=255, label_smoothing=0.1)
        valid = mask != 255
        target = F.one_hot(mask.where(valid, 0), K).permute(0, 3, 1, 2) * valid.unsqueeze(1)
        probability = full.softmax(dim=1) * valid.unsqueeze(1)
        intersection, size = (probability * target).sum((0, 2, 3)), probability.sum((0, 2, 3))
        truth = target.sum((0, 2, 3))
        dice = 1 - (2 * intersection + 1) / (size + truth + 1)
        return {"loss": 0.5 * entropy + 0.5 * dice[truth > 0].mean()}


def run(loss: Callable[..., dict[str, Tensor]], logits: Tensor, mask: Tensor) -> tuple[float, Tensor]:
    """Computes value and gradient; returns when the device has computed them."""
    leaf = logits.detach().requires_grad_()
    value = loss((leaf,), mask)["loss"]
    value.backward()
    return value.item(), leaf.grad


def measure_memory(way: str, device: str, batch: int, size: list[int]) -> int:
    """Measures the peak bytes of a forward and backward pass above those in use before."""
    loss = make_loss(way).to(device)
    run(loss, *make_batch(1, [64, 128], device))  # so that libraries, threads and their buffers do not count
    logits, mask = make_batch(batch, size, device)
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(loss, logits, mask)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    run(loss, logits, mask)
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """Reads the bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
