"""Measures the memory that the evaluation of one large image takes above the weights, on the CPU.

python scripts/bench_memory.py [--size 4096 8192] [--model unet_small | stride8] [--window 512 512 | --whole] [--flip]

The image is evaluated as `src.eval` does: by sliding window, row by row, down to the confusion matrix, predicted ids,
confidences and boundaries. The number is the growth of the process's peak resident memory, with the uint8 image and
mask, against that before the image was made, after a small image has warmed everything up. `stride8` is one layer at
stride 8: it takes next to no memory and time itself, so that the figure is that of the evaluation.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from torch import nn  # noqa: E402

from src.config.resolvers import register_resolvers  # noqa: E402
from src.data.streets.source import Streets  # noqa: E402
from src.evaluation.extras import Extras  # noqa: E402
from src.evaluation.observer import ImageObserver  # noqa: E402
from src.inference import Protocol, predict_rows  # noqa: E402
from src.models.network import Network  # noqa: E402


class Classes(Streets):
    """Scenes with as many classes as asked for."""

    def __init__(self, number: int) -> None:
        super().__init__(size=(64, 64), num_train=1, num_val=2)
        self.classes = {f"class {index}": (index, index, index) for index in range(number)}


class Stride8(nn.Module):
    """Means of 8x8 pixels, and one layer."""

    align_corners, divisor = False, 8

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.layer(nn.functional.avg_pool2d(image, 8)),)


def build_network(model: str, classes: int) -> Network:
    """Builds an architecture of conf/model, with random weights, or `stride8`."""
    if model == "stride8":
        return Network(Stride8(classes), mean=None, std=None).eval()
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={model}", "backbone.weights=null"])
    cfg.data.classes = {f"class {index}": [index] * 3 for index in range(classes)}
    return Network(instantiate(cfg.model), mean=None, std=None).eval()


def resident() -> int:
    """Returns the resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(4096, 8192), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--model", default="stride8", help="an architecture of conf/model, or stride8")
    parser.add_argument("--window", type=int, nargs=2, default=(512, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--overlap", type=float, default=1 / 3, help="of neighbouring windows")
    parser.add_argument("--whole", action="store_true", help="no windows: the network sees the whole image at once")
    parser.add_argument("--flip", action="store_true")
    options = parser.parse_args()
    network, source = build_network(options.model, options.classes), Classes(options.classes)
    window = None if options.whole else tuple(options.window)
    weights = "gaussian" if window else "flat"
    protocol = Protocol(window=window, overlap=options.overlap, weights=weights, flip=options.flip)
    samples = source.samples("val")
    observer = ImageObserver(source, samples, None, Extras(boundary=(3,), suspects=5), 0, 1)

    def evaluate(size: tuple[int, int]) -> float:
        rng = np.random.default_rng(0)
        blocks = rng.integers(0, options.classes, (size[0] // 32, size[1] // 32), dtype=np.uint8)
        mask = torch.from_numpy(blocks.repeat(32, 0).repeat(32, 1))[None]
        image = mask[:, None].expand(-1, 3, -1, -1) * (255 // options.classes)
        start = time.perf_counter()
        with torch.inference_mode():
            matrices = observer(predict_rows(network, image, protocol), mask)
        assert int(matrices.sum()) == size[0] * size[1]
        return time.perf_counter() - start

    evaluate((256, 256))
    before = resident()
    seconds = evaluate(tuple(options.size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    logits = 4 * options.classes * options.size[0] * options.size[1]
    print(
        f"{options.model}, {options.size[0]}x{options.size[1]}, {options.classes} classes, {protocol}: peak "
        f"{(peak - before) / 1e9:.2f} GB above the weights ({before / 1e9:.2f} GB before), {seconds:.0f} s; the logits "
        f"of the whole image would be {logits / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
