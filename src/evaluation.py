"""Evaluating a checkpoint on a split: the one path for the end of training and for `src.eval`."""

import re

import lightning as L
import torch

from src.data.datamodule import SegmentationDataModule
from src.run import RunFolder, describe_evaluation
from src.task import SegmentationTask


def evaluate(
    trainer: L.Trainer, task: SegmentationTask, data: SegmentationDataModule, run: RunFolder, split: str, which: str
) -> dict:
    """The evaluation of checkpoint `which` on every image of a split at the size of its labels, for `results.json`."""
    path = run.checkpoint(which)
    loader = data.eval_dataloader(split)
    load_weights(task, path)
    trainer.validate(task, dataloaders=loader, verbose=False)
    progress = torch.load(path, "cpu", weights_only=True)
    protocol = {
        "labels": data.source.labels,
        "split": data.folds.describe(data.source, split),
        "images": len(loader.dataset),
        "inference": str(task.protocol),
        "precision": str(trainer.precision),
    }
    checkpoint = {"name": which, "epoch": progress["epoch"] + 1, "step": progress["global_step"]}
    return describe_evaluation(task.matrix.numpy(), task.classes, protocol, checkpoint)


def load_weights(task: SegmentationTask, path: object) -> None:
    """Loads a checkpoint's weights, never unpickling anything but tensors. ValueError where they do not fit."""
    state = torch.load(path, "cpu", weights_only=True)["state_dict"]
    try:
        task.load_state_dict(state)
    except RuntimeError as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise ValueError(f"{path}: does not fit the network of this run's config.yaml: {reason}") from error
