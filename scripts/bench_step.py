"""Compares the time of a training step with the plain way's: `python scripts/bench_step.py` (minutes on a CPU).

    python scripts/bench_step.py [--networks unet/resnet18,deeplabv3plus/resnet50] [--size 192 256] [--batch 4]

11 classes, CE + Dice, AdamW, random weights, images that are in memory already. The plain way: smp's network (for
PSPNet, whose smp version has another structure, this project's), smp's DiceLoss and F.cross_entropy, NCHW, torch's
defaults, in 32 bits and with bfloat16 by autocast. This project's: the network, loss and optimiser of conf/, likewise;
`tuned` lets cuDNN try all of its algorithms first (`trainer.benchmark=true`; only without an untuned way of the same
network before it, whose choices cuDNN would keep), `compiled` is `task.compile=true`. All ways take a step in turn in
one process, which makes their ratios least sensitive to other work on the machine; medians, the first steps left out.
On a CUDA device also the peak memory of a step above weights and the optimiser's state.
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
from omegaconf import DictConfig
from torch import Tensor, nn

from src.config.resolvers import register_resolvers

CONF = Path(__file__).parents[1] / "conf"
K = 11
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="unet/resnet18,unet/resnet50,unet/efficientnet_lite0")
    parser.add_argument("--ways", default="plain/fp32,plain/bf16,own/fp32,own/bf16")
    parser.add_argument("--size", type=int, nargs=2, default=[192, 256])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    register_resolvers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {options.threads} threads"
    height, width = options.size
    print(
        f"{where}, torch {torch.__version__}: batch {options.batch} of {height}x{width}, medians of {options.repeats}"
    )
    print(
        f"{'network':<26}{'parameters':>11}  {'way':<18}{'s per step':>11}{'images/s':>10}{'ratio':>7}"
        f"{'first loss':>12}{'last':>8}{'peak GiB':>10}{'first s':>9}"
    )
    for network in options.networks.split(","):
        compare(*network.split("/"), options, device)


def compare(model: str, backbone: str, options: argparse.Namespace, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (options.batch, 3, *options.size), dtype=torch.uint8, generator=generator).to(device)
    mask = torch.randint(0, K, (options.batch, *options.size), dtype=torch.uint8, generator=generator).to(device)
    parts = {"plain": plain_parts, "own": own_parts}
    ways = {
        way: Way(*parts[way.split("/")[0]](model, backbone), image, mask, way.split("/")[1:])
        for way in options.ways.split(",")
    }
    for repeat in range(-2, options.repeats):  # the first two are not counted
        for way in ways.values():
            way.step(counts=repeat >= 0)
    usual = next(iter(ways.values())).seconds
    for name, way in ways.items():
        print(
            f"{f'{model}/{backbone}':<26}{way.parameters / 1e6:10.2f}M  {name:<18}{way.seconds:11.4f}"
            f"{options.batch / way.seconds:10.2f}{usual / way.seconds:7.2f}{way.losses[0]:12.4f}{way.losses[-1]:8.4f}"
            f"{max(way.memory, default=0) / 2**30:10.2f}{way.first:9.1f}",
            flush=True,
        )


class Way:
    """A network, its loss and its optimiser, which take one step at a time."""

    def __init__(
        self, network: nn.Module, loss: Loss, is_own: bool, image: Tensor, mask: Tensor, options: list[str]
    ) -> None:
        self.network, self.loss, self.is_own = network.to(image.device).train(), loss, is_own
        self.image, self.mask, self.options = image, mask, options
        if "compiled" in options:
            self.network.compile()
        self.optimiser = own_optimiser(network) if is_own else torch.optim.AdamW(network.parameters(), lr=1e-3)
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.first = 0.0  # seconds of the first step
        self.times: list[float] = []
        self.losses: list[float] = []
        self.memory: list[int] = []

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)

    def step(self, counts: bool) -> None:
        is_cuda = self.image.is_cuda
        torch.backends.cudnn.benchmark = "tuned" in self.options
        if is_cuda:
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        begin = time.perf_counter()
        with torch.autocast(self.image.device.type, torch.bfloat16, enabled="bf16" in self.options):
            value = self.loss(self.network, self.image, self.mask)
        value.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.losses.append(float(value.detach()))  # which waits for the device
        self.first = self.first or time.perf_counter() - begin
        if counts:
            self.times.append(time.perf_counter() - begin)
            self.memory += [torch.cuda.max_memory_allocated() - held] if is_cuda else []


def own_parts(model: str, backbone: str) -> tuple[nn.Module, Loss, bool]:
    cfg = composed(f"model={model}", f"backbone={backbone}", "backbone.weights=null", "loss=ce_dice")
    cfg.data.classes = {f"class {index}": [index] * 3 for index in range(K)}
    cfg.data.mean, cfg.data.std = [0.5] * 3, [0.25] * 3
    torch.manual_seed(0)
    network = instantiate(cfg.task.network, _convert_="all")
    loss = instantiate(cfg.task.loss, _convert_="all")
    return network, lambda net, image, mask: loss(net(image), mask, net.align_corners)["loss"], True


def own_optimiser(network: nn.Module) -> torch.optim.Optimizer:
    return instantiate(composed("optimizer=adamw").task.optimizer)(network)


def plain_parts(model: str, backbone: str) -> tuple[nn.Module, Loss, bool]:
    structure = {"unet": smp.Unet, "deeplabv3plus": smp.DeepLabV3Plus}.get(model)
    torch.manual_seed(0)
    if structure is None:
        network = own_parts(model, backbone)[0].to(memory_format=torch.contiguous_format)
        network.channels_last = False
    else:
        network = structure(composed(f"backbone={backbone}").backbone.name, encoder_weights=None, classes=K)
    dice = smp.losses.DiceLoss("multiclass")

    def loss(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        outputs, labels = net(image if structure is None else image.float() / 255), mask.long()
        values = []
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            logits = F.interpolate(output, image.shape[-2:], mode="bilinear") if structure is None else output
            values.append(F.cross_entropy(logits, labels) + dice(logits, labels))
        return values[0] + 0.4 * sum(values[1:])

    return network, loss, False


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides)).copy()


if __name__ == "__main__":
    main()
