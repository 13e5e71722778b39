"""Compares an exported file with the network that it was made of, on real images, as another program would run it."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from src.evaluation.engine import Engine, Run
from src.evaluation.exported import Examples, ExportCheck, ExportLoss, ExportOptions, Read, spread
from src.inference import Protocol, fit_labels, most_likely, predict_rows, resize
from src.metrics.confusion import count_images
from src.metrics.figures import figures
from src.metrics.intervals import paired
from src.models.head import Head
from src.models.network import Network

SCALES = (1.0, 0.61)  # of the sides of the images; at the second they are multiples of nothing
COMPARED = 4  # images at each


def compare(head: Head, run: Run, options: ExportOptions, examples: Examples) -> tuple[ExportCheck, ...]:
    """Runs the file and the network on real images at two sizes, or at the only one that the file takes."""
    images = [to_batch(read()[0]) for read in spread(examples.reads, COMPARED)]
    checks = []
    for scale in SCALES[: 1 if options.size else None]:
        same = pixels = 0
        difference, largest, size = 0.0, 0.0, (0, 0)
        for image in images:
            fitting = fit(image, options.size or _scaled(image, scale))
            # Mirrored after the first, so that images that a file mixes up are seen.
            batch = torch.cat([fitting, fitting.flip(-1).expand(options.batch_size - 1, -1, -1, -1)])
            with torch.no_grad():
                expected, found = head(batch), run(batch)
            assert found.shape == expected.shape, f"{tuple(found.shape)} is not {tuple(expected.shape)}"
            ids = [each if options.head == "labels" else each.argmax(1) for each in (found, expected)]
            same += int((ids[0] == ids[1]).sum())
            pixels += ids[0].numel()
            size = (batch.shape[-2], batch.shape[-1])
            if options.head != "labels":
                difference = max(difference, float((found - expected).abs().max()))
                largest = max(largest, float(expected.abs().max()))
        checks.append(ExportCheck(*size, len(images), same / pixels, difference, largest))
    return tuple(checks)


def measure_loss(
    head: Head, run: Run, options: ExportOptions, reads: Sequence[Read], protocol: Protocol, num_classes: int
) -> ExportLoss | None:
    """Measures the mIoU of the file and of the network on the same images; None if none of them has labels.

    Args:
        protocol: the way of an image through both. A file that takes images of one size, or that gives no logits, is
            measured with whole images instead.
    """
    if options.head != "logits":
        protocol = Protocol(size=options.size, labels="seen")
    elif options.size is not None:
        protocol = Protocol(size=options.size)
    engine = cast(Network, Engine(run, options, head.network.align_corners))
    matrices: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for pixels, truth in (read() for read in reads):
        if truth is None:
            continue
        image, mask, seen = fit_labels(to_batch(pixels), torch.from_numpy(truth.copy())[None], protocol)
        if options.head != "logits":
            image = image.round().to(torch.uint8)  # the network too, as the file takes no others
        for counts, network in zip(matrices, (head.network, engine), strict=True):
            with torch.inference_mode():
                if options.head == "logits":
                    ids = torch.cat([most_likely(scores) for _, scores in predict_rows(network, image, seen)], dim=1)
                else:
                    output = head(image) if network is head.network else network(image)[0]
                    ids = output if options.head == "labels" else output.argmax(1)
                counts.append(count_images(ids, mask, num_classes).numpy()[0])
    if not matrices[0]:
        return None
    expected, found = (np.stack(each) for each in matrices)
    interval = paired(found, expected)
    own, other = (figures(each.sum(0)).miou for each in (expected, found))
    return ExportLoss(len(found), own, other, interval.low, interval.high)


def to_batch(pixels: np.ndarray) -> Tensor:
    """Turns pixels uint8 `(H, W, 3)` into a batch `(1, 3, H, W)`."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes images uint8 `(B, 3, H, W)` to uint8."""
    if size == (image.shape[-2], image.shape[-1]):
        return image
    return resize(image, size).round().clamp(0, 255).to(torch.uint8)


def _scaled(image: Tensor, scale: float) -> tuple[int, int]:
    return max(1, round(image.shape[-2] * scale)), max(1, round(image.shape[-1] * scale))
