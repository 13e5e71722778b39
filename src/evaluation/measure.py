"""Evaluating a checkpoint on a split: the one path for the end of training and for `src.eval`."""

import re
from typing import Any

import lightning as L
import numpy as np
import torch

from src.data.datamodule import SegmentationDataModule
from src.errors import UserError
from src.evaluation.quiet import quieten
from src.runs.folder import RunFolder, describe_evaluation
from src.runs.leakage import Exposure, exposure_before, image_ids
from src.task import SegmentationTask


def evaluate(
    trainer: L.Trainer, task: SegmentationTask, data: SegmentationDataModule, run: RunFolder, split: str, which: str
) -> dict:
    """The evaluation of checkpoint `which` on every image of a split at the size of its labels, for `results.json`."""
    path = run.checkpoint(which)
    load_weights(task, path)
    progress = torch.load(path, "cpu", weights_only=True)
    checkpoint = {"name": which, "epoch": progress["epoch"] + 1, "step": progress["global_step"]}
    return measure(trainer, task, data, split, checkpoint, exposure_before(run.path))


def measure(
    trainer: L.Trainer,
    task: SegmentationTask,
    data: SegmentationDataModule,
    split: str,
    checkpoint: dict[str, Any],
    before: Exposure,
) -> dict:
    """The evaluation of the task's weights as they are on a split, marked where `before` tells of its images.

    Args:
        checkpoint: what `results.json` says of the weights.
        before: what the weights had seen before the run's own training, which a split called train tells by its name.
    """
    matrix = count(trainer, task, data, split)
    taints = find_taints(data, split, before)
    return describe_evaluation(matrix, task.classes, protocol(trainer, task, data, split), checkpoint, taints)


def find_taints(data: SegmentationDataModule, split: str, before: Exposure) -> list[str]:
    """What is wrong with figures on a split, by what the weights had seen before the run's own training."""
    return [] if split == "train" else before.taints(image_ids(data.source, data.samples(split)))


def count(trainer: L.Trainer, task: SegmentationTask, data: SegmentationDataModule, split: str) -> np.ndarray:
    """Confusion matrix int64 `(K, K)`, rows truth, of the task's weights as they are on a split."""
    trainer.validate(task, dataloaders=data.eval_dataloader(split), verbose=False)
    return task.matrix.numpy()


def protocol(trainer: L.Trainer, task: SegmentationTask, data: SegmentationDataModule, split: str) -> dict[str, Any]:
    """What figures on a split are of, and how they are made."""
    return {
        "labels": data.source.labels,
        "split": data.folds.describe(data.source, split),
        "images": len(data.samples(split)),
        "inference": str(task.protocol),
        "precision": str(trainer.precision),
    }


def evaluation_trainer(accelerator: str, precision: str, *, with_progress: bool = True) -> L.Trainer:
    """A trainer that evaluates on one device and leaves nothing."""
    quieten()
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=with_progress,
        use_distributed_sampler=False,
    )


def load_weights(task: SegmentationTask, path: object) -> None:
    """Loads a checkpoint's weights, never unpickling anything but tensors. UserError where they do not fit."""
    state = torch.load(path, "cpu", weights_only=True)["state_dict"]
    try:
        task.load_state_dict(state)
    except RuntimeError as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(f"{path}: does not fit the network of this run's config.yaml: {reason}") from error
