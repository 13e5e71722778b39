"""Segments images of any size, one at a time, by the inference protocol of the run."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.progress import track

from src.evaluation.inputs import Images
from src.evaluation.measure import load_weights
from src.evaluation.prediction_files import LabelIds, Pictures
from src.evaluation.quiet import quieten
from src.task import SegmentationTask


def predict_images(
    task: SegmentationTask,
    checkpoint: Path,
    images: Images,
    writer: LabelIds | Pictures,
    accelerator: str,
    precision: Any,
) -> list[str]:
    """Writes the prediction for each image that can be read; returns the messages of those that cannot."""
    quieten()
    fabric = L.Fabric(accelerator=accelerator, devices=1, precision=precision)
    load_weights(task, checkpoint)
    task.to(fabric.device).eval()
    unread = []
    for name, read in track(images.items(), f"{len(images)} images", disable=len(images) == 1):
        try:
            image = read()
        except ValueError as error:
            unread.append(str(error))
            continue
        with fabric.autocast():
            ids = task.predict_ids(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0].numpy()
        writer.write(name, image, ids)
    return unread
