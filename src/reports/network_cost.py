"""The cost of a network: parameters, operations, time and memory, as figures, table and chart.

It takes any module whose output is a tensor, or a tuple or dict of tensors with the main one first.
"""

import copy
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from src.losses.cross_entropy import CrossEntropy
from src.runs.records import Evaluation

CPU_WARM_UP = 2
GPU_WARM_UP = 5  # cuDNN compares its kernels in the first

COLUMNS = {  # titles and formats of the figures of `profile` in tables
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
    """Measures a network that was built on the CPU.

    Args:
        network: as `src.models.network.Network`: uint8 images `(B, 3, H, W)` to a tuple of logits.
        size: `(H, W)` of the images.
        latency: measure the time on the CPU, with batch 1.
        gpu: measure throughput and training memory on CUDA too, on `batch` images, if there is a device.

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
        times = [1000 * seconds for seconds in cpu_latency(network, image, repeats)]
        result |= {"cpu_ms": statistics.median(times), "cpu_ms_min": min(times), "threads": torch.get_num_threads()}
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
    """Counts the floating-point operations of a forward pass in eval mode, two per multiply-accumulate.

    Convolutions, matrix products and attention count; normalisation, activations, pooling and resizing do not. It is
    done on the meta device, which takes no time; on a CPU the fused nn.MultiheadAttention would count as nothing.
    """
    network = _on_meta(network)
    with FlopCounterMode(display=False) as counter:
        network(image.to("meta"))
    return counter.get_total_flops()


def count_parameters(network: nn.Module, image: Tensor) -> tuple[int, int]:
    """Counts the parameters that inference uses, and those that it does not use (auxiliary heads).

    A parameter is used if the main logits in eval mode have a gradient in it.
    """
    network = _on_meta(network)
    parameters = [parameter.requires_grad_() for parameter in network.parameters()]
    gradients = torch.autograd.grad(_main(network(image.to("meta"))).sum(), parameters, allow_unused=True)
    used = sum(gradient.numel() for gradient in gradients if gradient is not None)
    return used, sum(parameter.numel() for parameter in parameters) - used


@torch.inference_mode()
def cpu_latency(network: nn.Module, image: Tensor, repeats: int) -> list[float]:
    """Measures the seconds of each of `repeats` forward passes in eval mode, after a few that do not count."""
    network.eval()
    times = []
    for _ in range(CPU_WARM_UP + repeats):
        start = time.perf_counter()
        network(image)
        times.append(time.perf_counter() - start)
    return times[CPU_WARM_UP:]


@torch.inference_mode()
def gpu_throughput(network: nn.Module, images: Tensor, repeats: int) -> float:
    """Measures images per second in eval mode under bf16 autocast; network and images are on the device."""
    network.eval()
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # as in conf/trainer/gpu.yaml
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
    """Measures the peak bytes allocated on the device by a training step under bf16 autocast, without an optimizer.

    A step is a forward pass, the project's cross-entropy on every output, and a backward pass. The second of two steps
    counts, since libraries take memory of their own in the first.
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
        # Otherwise the peak of the next step would include these outputs.
        del outputs, losses
    return torch.cuda.max_memory_allocated()


def _on_meta(network: nn.Module) -> nn.Module:
    """Copies a network without its data, in eval mode."""
    return copy.deepcopy(network).to("meta").eval()


def _main(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    return next(iter(output.values())) if isinstance(output, dict) else output[0]


def cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Formats a table: titles, and texts per row, of `model`, `backbone` and the COLUMNS that any row has."""
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
    """Draws models.png of the rows, and cost.png of the runs (row, evaluation), without those that failed."""
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
    """Draws a PNG of points `(x, y, label, group)`, a colour per group; numbers beside the points stand for the labels.

    `legend` is the title of the groups; `settings` are those of matplotlib's `Axes.set`.
    """
    from src.reports.plotting import name_points, plain_log_ticks, plt, save_figure

    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    groups = list(dict.fromkeys(group for *_, group in points))
    for index, name in enumerate(groups):
        x, y = zip(*((x, y) for x, y, _, group in points if group == name), strict=True)
        axes.scatter(x, y, color=f"C{index % 10}", marker="os^D"[index // 10 % 4], label=name, zorder=3)
    at: dict[tuple[float, float], list[str]] = {}  # numbers of equal points are joined
    for number, (x, y, *_) in enumerate(points, start=1):
        at.setdefault((x, y), []).append(str(number))
    labels = "\n".join(f"{number}  {label}" for number, (*_, label, _) in enumerate(points, start=1))
    axes.annotate(labels, (1.02, 1), xycoords="axes fraction", va="top", fontsize=8)
    axes.set(**settings)
    axes.margins(0.08)
    axes.grid(alpha=0.3)
    plain_log_ticks(axes.xaxis, axes.yaxis)
    name_points(axes, [(", ".join(numbers), *point) for point, numbers in at.items()])
    columns = max(1, 150 // (max(map(len, groups)) + 8))
    figure.legend(title=legend, loc="outside lower center", ncols=columns, fontsize="small")
    save_figure(figure, path)
