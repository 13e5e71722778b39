"""What a network costs: parameters, operations, time, memory; and the chart of it.

Takes any module whose output is a tensor, or a tuple or dict of tensors with the main one first.
"""

import copy
import itertools
import math
import platform
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from src.files import atomic_path
from src.losses.cross_entropy import CrossEntropy
from src.runs.records import Evaluation

CPU_WARM_UP = 2
GPU_WARM_UP = 5  # cuDNN tries its kernels in the first

COLUMNS = {  # what `profile` returns for tables: titles and formats
    "parameters": ("parameters", "{:,}"),
    "training_parameters": ("more in training", "{:,}"),
    "gmacs": ("GMACs", "{:,.2f}"),
    "gflops": ("GFLOPs", "{:,.2f}"),
    "cpu_ms": ("CPU ms, median", "{:,.1f}"),
    "cpu_ms_min": ("CPU ms, min", "{:,.1f}"),
    "images_per_s": ("images/s", "{:,.1f}"),
    "training_gib": ("training GiB", "{:.2f}"),
    "error": ("failed", "{}"),
}
TEXTS = ("model", "backbone", "failed")  # columns that are not numbers


def profile(
    network: nn.Module, size: tuple[int, int], num_classes: int, latency: bool, gpu: bool, repeats: int, batch: int
) -> dict[str, Any]:
    """Every figure of a network built on the CPU; the device's where `gpu` asks for them and there is one.

    Args:
        network: as `src.models.network.Network`: uint8 images `(B, 3, H, W)` to a tuple of logits.
        size: `(H, W)` of the images.
        num_classes: of the logits.
        latency: time it on the CPU, with batch 1.
        gpu: measure throughput and training memory on CUDA, with `batch` images.
        repeats: timed runs.

    Returns:
        `parameters`, `training_parameters`, `gmacs`, `gflops`; with latency `cpu_ms` (median), `cpu_ms_min`, `threads`;
        with gpu `images_per_s`, `training_gib`, `gpu` (its name).
    """
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    parameters, training_parameters = count_parameters(network, image)
    flops = count_flops(network, image)
    result: dict[str, Any] = {"parameters": parameters, "training_parameters": training_parameters}
    result |= {"gmacs": flops / 2e9, "gflops": flops / 1e9}
    if latency:
        times = cpu_latency(network, image, repeats)
        result |= {"cpu_ms": 1000 * statistics.median(times), "cpu_ms_min": 1000 * min(times)}
        result |= {"threads": torch.get_num_threads()}
    if gpu and torch.cuda.is_available():
        network.to("cuda")
        images = image.to("cuda").expand(batch, -1, -1, -1).contiguous()
        result |= {
            "images_per_s": gpu_throughput(network, images, repeats),
            "training_gib": training_memory(network, images, num_classes) / 2**30,
            "gpu": torch.cuda.get_device_name(),
        }
    return result


@torch.no_grad()
def count_flops(network: nn.Module, image: Tensor) -> int:
    """Floating-point operations of a forward pass in eval mode, two to a multiply-accumulate.

    Convolutions, matrix products and attention; not normalisation, activations, pooling, resizing. Counted without
    data, which takes no time; on a CPU, moreover, the fused nn.MultiheadAttention would count as nothing.
    """
    network = _on_meta(network)
    with FlopCounterMode(display=False) as counter:
        network(image.to("meta"))
    return counter.get_total_flops()


def count_parameters(network: nn.Module, image: Tensor) -> tuple[int, int]:
    """Parameters that inference uses, and those that it does not: auxiliary heads.

    Used is what the main logits of eval mode have a gradient for.
    """
    network = _on_meta(network)
    parameters = [parameter.requires_grad_() for parameter in network.parameters()]
    gradients = torch.autograd.grad(_main(network(image.to("meta"))).sum(), parameters, allow_unused=True)
    used = sum(
        parameter.numel() for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None
    )
    return used, sum(parameter.numel() for parameter in parameters) - used


@torch.inference_mode()
def cpu_latency(network: nn.Module, image: Tensor, repeats: int) -> list[float]:
    """Seconds of each of `repeats` forward passes in eval mode, after a few that do not count."""
    network.eval()
    times = []
    for _ in range(CPU_WARM_UP + repeats):
        start = time.perf_counter()
        network(image)
        times.append(time.perf_counter() - start)
    return times[CPU_WARM_UP:]


@torch.inference_mode()
def gpu_throughput(network: nn.Module, images: Tensor, repeats: int) -> float:
    """Images a second in eval mode under bf16 autocast; network and images are on the device."""
    network.eval()
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # as trainer=gpu
    try:
        with torch.autocast("cuda", torch.bfloat16):
            for _ in range(GPU_WARM_UP):
                network(images)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(repeats):
                network(images)
            torch.cuda.synchronize()
    finally:
        torch.backends.cudnn.benchmark = benchmark
    return repeats * len(images) / (time.perf_counter() - start)


def training_memory(network: nn.Module, images: Tensor, num_classes: int) -> int:
    """Peak bytes allocated on the device by a training step under bf16 autocast, optimizer apart.

    Forward, the project's cross-entropy on every output, backward. The second of two steps counts, for the first one's
    libraries take memory of their own.
    """
    network.train()
    loss = CrossEntropy()
    mask = torch.randint(0, num_classes, (len(images), *images.shape[-2:]), device=images.device)
    for _ in range(2):
        network.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16):
            outputs = network(images)
        losses = [loss(output, mask, network.align_corners) for output in outputs]
        torch.stack(losses).sum().backward()
        torch.cuda.synchronize()
        # Else the next step's peak has this one's outputs beside its own.
        del outputs, losses
    return torch.cuda.max_memory_allocated()


def _on_meta(network: nn.Module) -> nn.Module:
    """A copy without data, in eval mode."""
    return copy.deepcopy(network).to("meta").eval()


def _main(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    return next(iter(output.values())) if isinstance(output, dict) else output[0]


def processor() -> str:
    """The CPU's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.M) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and texts of a table: `model`, `backbone`, and the COLUMNS that any row has."""
    present = {key: column for key, column in COLUMNS.items() if any(key in row for row in rows)}
    body = [
        [row["model"], row["backbone"] or "-"]
        + [text.format(row[key]) if key in row else "" for key, (_, text) in present.items()]
        for row in rows
    ]
    return ["model", "backbone", *(title for title, _ in present.values())], body


def draw(
    rows: list[dict[str, Any]], runs: list[tuple[dict, Evaluation]], folder: Path, size: Sequence[int], num_classes: int
) -> list[Path]:
    """models.png of the rows that did not fail, cost.png of the runs (row, evaluation) likewise; their paths."""
    measured = [row for row in rows if "error" not in row]
    trained = [(row, evaluation) for row, evaluation in runs if "error" not in row]
    axes = {"xlabel": f"GFLOPs (2 per MAC) of an image of {size[0]}x{size[1]}, log scale", "xscale": "log"}
    if measured:
        points = [(row["gflops"], row["parameters"] / 1e6, row["model"], row["backbone"] or "none") for row in measured]
        axes |= {"ylabel": "million parameters, log scale", "yscale": "log"}
        chart(points, folder / "models.png", "backbone", axes | {"title": f"Cost of networks, {num_classes} classes"})
    if trained:
        points = [
            (row["gflops"], 100 * evaluation.miou, f"{row['model']} {row['backbone']}".strip(), evaluation.tag)
            for row, evaluation in trained
        ]
        axes |= {"ylabel": "mIoU on val (%)", "yscale": "linear"}
        chart(points, folder / "cost.png", "protocol", axes | {"title": "mIoU on val, and cost"})
    return [folder / "models.png"] * bool(measured) + [folder / "cost.png"] * bool(trained)


def chart(points: list[tuple[float, float, str, str]], path: Path, legend: str, settings: dict[str, str]) -> None:
    """A PNG of points `(x, y, label, group)`: a colour a group, labels that cover no point and no other label.

    Args:
        legend: what the groups are.
        settings: of the axes, as matplotlib's `Axes.set`: title, xlabel, xscale, ...
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = plt.subplots(figsize=(11, 7), dpi=110, layout="constrained")
    groups = list(dict.fromkeys(group for *_, group in points))
    for index, name in enumerate(groups):
        x, y = zip(*((x, y) for x, y, _, group in points if group == name), strict=True)
        axes.scatter(x, y, color=f"C{index % 10}", marker="os^D"[index // 10 % 4], label=name, zorder=3)
    axes.set(**settings)
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(NullFormatter())
    columns = max(1, 150 // (max(map(len, groups)) + 8))
    figure.legend(title=legend, loc="outside lower center", ncols=columns, fontsize="small")
    figure.canvas.draw()  # where points are in pixels is known only now
    figure.set_layout_engine("none")
    centres = axes.transData.transform([point[:2] for point in points])
    notes = [
        axes.annotate(
            label, (x, y), (0, 0), textcoords="offset pixels", ha="center", va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.6, "shrinkB": 3},
        )
        for x, y, label, _ in points
    ]  # fmt: skip
    extents = [note.get_window_extent() for note in notes]
    halves = [((extent.width + 2) / 2, (extent.height + 2) / 2) for extent in extents]
    for note, offset in zip(
        notes, place_labels(centres.tolist(), halves, axes.get_window_extent().extents), strict=True
    ):
        note.set_position(offset)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    plt.close(figure)


def place_labels(
    points: list[tuple[float, float]], halves: list[tuple[float, float]], frame: Sequence[float]
) -> list[tuple[float, float]]:
    """Offsets from points to the centres of their labels, the nearest that overlap nothing; all in pixels.

    Args:
        halves: half the width and height of each label.
        frame: (left, bottom, right, top) that labels stay in.
    """
    angles = [math.radians(degrees) for degrees in (0, 90, 270, 180, 45, 315, 135, 225, 20, 340, 160, 200, 70, 290)]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    offsets: list[tuple[float, float]] = [(0, 0)] * len(points)
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        (x, y), (half_x, half_y) = points[index], halves[index]
        others = [box for box in taken if box != (x - 5, y - 5, x + 5, y + 5)]
        best = math.inf
        for distance, angle in itertools.product((7, 14, 24, 36, 50, 70, 95, 125), angles):
            dx, dy = math.cos(angle) * (distance + half_x), math.sin(angle) * (distance + half_y)
            label = (x + dx - half_x, y + dy - half_y, x + dx + half_x, y + dy + half_y)
            pieces = int(math.hypot(dx, dy) / 4)  # of the line from the point to its label
            line = [(x + dx * piece / pieces, y + dy * piece / pieces) * 2 for piece in range(1, pieces)]
            inside = label[0] > frame[0] and label[1] > frame[1] and label[2] < frame[2] and label[3] < frame[3]
            # Where nothing is free, a line may be crossed before a label is covered.
            hits = 1000 * (not inside) + 20 * _overlaps([label], taken) + _overlaps(line, others)
            if hits < best:
                best, offsets[index], boxes = hits, (dx, dy), [label, *line]
            if hits == 0:
                break
        taken.extend(boxes)
    return offsets


def _overlaps(boxes: list[tuple], others: list[tuple]) -> int:
    """How many pairs of boxes (left, bottom, right, top) overlap."""
    return sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a in boxes for b in others)
