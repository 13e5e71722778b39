"""Compares the time of a training step with the plain way's: `python scripts/bench_step.py` (minutes on a CPU).

    python scripts/bench_step.py [--backbones resnet18,efficientnet_lite0] [--size 192 256] [--batch 4] [--threads 1]

U-Net, 11 classes, CE + Dice, AdamW, random weights, images that are in memory already. The plain way: smp's U-Net with
smp's DiceLoss and F.cross_entropy, 32 bits, NCHW, torch's defaults. This project's: the network, loss and optimiser of
conf/, in 32 bits and with bfloat16 by autocast, as `trainer.precision` sets it. All ways take a step in turn in one
process, which makes their ratios least sensitive to other work on the machine; medians, the first steps left out.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from src.config.resolvers import register_resolvers

CONF = Path(__file__).parents[1] / "conf"
K = 11
Step = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default="resnet18,resnet50,efficientnet_lite0")
    parser.add_argument("--size", type=int, nargs=2, default=[192, 256])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    register_resolvers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {options.threads} threads"
    print(f"{where}: U-Net, batch {options.batch} of {options.size[0]}x{options.size[1]}, medians of {options.repeats}")
    print(f"{'backbone':<20}{'way':<14}{'s per step':>11}{'images/s':>10}{'ratio':>7}{'first loss':>12}{'last':>8}")
    for backbone in options.backbones.split(","):
        compare(backbone, options, device)


def compare(backbone: str, options: argparse.Namespace, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (options.batch, 3, *options.size), dtype=torch.uint8, generator=generator).to(device)
    mask = torch.randint(0, K, (options.batch, *options.size), dtype=torch.uint8, generator=generator).to(device)
    steps = {
        "plain": plain_step(backbone, image, mask),
        "32-true": own_step(backbone, image, mask, bfloat16=False),
        "bf16-mixed": own_step(backbone, image, mask, bfloat16=True),
    }
    times: dict[str, list[float]] = {way: [] for way in steps}
    losses: dict[str, list[float]] = {way: [] for way in steps}
    for repeat in range(-2, options.repeats):  # the first two are not counted
        for way, step in steps.items():
            begin = time.perf_counter()
            losses[way].append(step())  # reading the loss waits for the device
            if repeat >= 0:
                times[way].append(time.perf_counter() - begin)
    usual = statistics.median(times["plain"])
    for way in steps:
        middle = statistics.median(times[way])
        print(
            f"{backbone:<20}{way:<14}{middle:11.3f}{options.batch / middle:10.2f}{usual / middle:7.2f}"
            f"{losses[way][0]:12.4f}{losses[way][-1]:8.4f}",
            flush=True,
        )


def own_step(backbone: str, image: torch.Tensor, mask: torch.Tensor, *, bfloat16: bool) -> Step:
    """Builds one step of `SegmentationTask` with the optimiser of its configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["model=unet", f"backbone={backbone}", "backbone.weights=null", "loss=ce_dice", "optimizer=adamw"]
        cfg = compose("train", overrides).copy()
    cfg.data.classes = {f"class {index}": [index] * 3 for index in range(K)}
    cfg.data.mean, cfg.data.std = [0.5] * 3, [0.25] * 3
    torch.manual_seed(0)
    network = instantiate(cfg.task.network, _convert_="all").to(image.device).train()
    loss, optimiser = instantiate(cfg.task.loss, _convert_="all"), instantiate(cfg.task.optimizer)(network)

    def step() -> float:
        optimiser.zero_grad()
        with torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16):
            value = loss(network(image), mask, network.align_corners)["loss"]
        value.backward()
        optimiser.step()
        return float(value.detach())

    return step


def plain_step(backbone: str, image: torch.Tensor, mask: torch.Tensor) -> Step:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        name = compose("train", [f"backbone={backbone}"]).backbone.name
    torch.manual_seed(0)
    network = smp.Unet(name, encoder_weights=None, classes=K).to(image.device).train()
    dice, optimiser = smp.losses.DiceLoss("multiclass"), torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> float:
        optimiser.zero_grad()
        logits, labels = network(image.float() / 255), mask.long()
        value = F.cross_entropy(logits, labels) + dice(logits, labels)
        value.backward()
        optimiser.step()
        return float(value.detach())

    return step


if __name__ == "__main__":
    main()
