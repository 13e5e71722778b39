"""Measures what a dense CRF (inference.crf) gives to a run on some images of its val, paired, and what it costs.

python scripts/bench_crf.py zoo/camvid_unet_lite0 --root DIR [--every 3]
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra.utils import instantiate  # noqa: E402

from src.config.build import build_data  # noqa: E402
from src.config.reopen import forget_weights  # noqa: E402
from src.config.resolvers import register_resolvers  # noqa: E402
from src.config.saved import load_config  # noqa: E402
from src.crf.mean_field import refine  # noqa: E402
from src.crf.settings import DenseCRF  # noqa: E402
from src.evaluation.checkpoint import load_weights  # noqa: E402
from src.inference import fit_labels, predict_scores  # noqa: E402
from src.metrics.confusion import count_images  # noqa: E402
from src.metrics.figures import figures  # noqa: E402
from src.metrics.intervals import paired  # noqa: E402
from src.runs.folder import RunFolder  # noqa: E402

# The defaults, and the authors' example.
SETTINGS = (DenseCRF(), DenseCRF(position=60, colour=20, weight=10, smooth_position=3, smooth_weight=3))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--root", help="folder of the data; as in the run if it is not given")
    parser.add_argument("--every", type=int, default=1, help="takes every n-th image of val")
    options = parser.parse_args()
    register_resolvers()
    run = RunFolder(options.run)
    config = load_config(run.config)
    forget_weights(config.task.network.architecture)
    if options.root:
        config.datamodule.dataset.root = options.root
    source = instantiate(config.datamodule.dataset, _convert_="all")
    task = instantiate(config.task).eval()
    load_weights(task, run.checkpoint("best"))
    dataset = build_data(config.datamodule, source, augmentation=None).eval_dataloader("val").dataset
    counts: list[list[np.ndarray]] = [[] for _ in range(1 + len(SETTINGS))]
    seconds = [0.0] * len(counts)
    for index in range(0, len(dataset), options.every):
        sample = dataset[0, index]  # by epoch and index
        image, mask = (torch.as_tensor(sample[key])[None] for key in ("image", "mask"))
        image, mask, protocol = fit_labels(image, mask, task.protocol)
        for place, crf in enumerate((None, *SETTINGS)):
            start = time.process_time()
            if crf is None:
                scores = predict_scores(task.network, image, protocol)
            found = scores if crf is None else refine(scores, image, crf)
            seconds[place] += time.process_time() - start
            counts[place].append(count_images(found.argmax(1), mask, source.num_classes)[0].numpy())
        print(f"\r{len(counts[0])} images", end="", file=sys.stderr, flush=True)
    print()
    for crf, matrices, spent in zip(("no CRF", *SETTINGS), counts, seconds, strict=True):
        result, against = figures(sum(matrices)), paired(np.stack(matrices), np.stack(counts[0]))
        iou = ", ".join(f"{name} {value:.3f}" for name, value in zip(source.classes, result.iou, strict=True))
        print(f"{crf}: mIoU {result.miou:.4f}, pixel accuracy {result.pixel_accuracy:.4f}; {iou}")
        gap = f"{100 * against.difference:+.2f} points ({100 * against.low:+.2f} to {100 * against.high:+.2f})"
        print(f"  {gap}, p = {against.p:.4f}; {spent / len(matrices):.2f} s of processor per image", flush=True)


if __name__ == "__main__":
    main()
