"""The learning rate range test (Smith 2017): a training under a rate that rises step by step."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from src.inference import most_likely
from src.metrics.confusion import ConfusionMatrix, count_images
from src.metrics.figures import figures
from src.task import SegmentationTask
from src.training.lr_range import Point
from src.upsampling import upsample

DIVERGED = 4.0  # times the lowest smoothed loss
SMOOTHING = 0.9  # of the loss that decides whether the test has diverged


class RangeTest(L.Callback):
    """Raises the learning rate of every group exponentially, once per step, and records loss and mIoU in `points`.

    The base rate goes from `lowest` to `highest`. The groups keep their proportions; the run's schedule has no effect.
    The test ends after `steps` optimiser steps, or when the loss is not finite or four times its lowest.
    """

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        self.lowest, self.highest, self.steps = lowest, highest, steps
        self.points: list[Point] = []
        self._losses: list[float] = []  # of the batches of one step
        self._matrix: ConfusionMatrix
        self._smoothed = 0.0
        self._best = math.inf

    def on_fit_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        self._matrix = ConfusionMatrix(len(task.classes)).to(task.device)
        task.loss.register_forward_hook(self._watch)

    def _watch(self, module: nn.Module, inputs: tuple[Any, ...], losses: dict[str, Tensor]) -> None:
        (main, *_), mask, align_corners = inputs
        scores = main.detach()
        # One image at a time: logits of full size are large.
        for logits, truth in zip(scores.split(1), mask.split(1), strict=True):
            full = upsample(logits.float(), tuple(truth.shape[-2:]), align_corners)
            self._matrix.update(count_images(most_likely(full), truth, self._matrix.num_classes))
        self._losses.append(float(losses["loss"].detach()))

    def on_train_batch_start(self, trainer: L.Trainer, task: SegmentationTask, *args: Any) -> None:
        (optimizer,) = trainer.optimizers
        lr = self.rate(trainer.global_step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr / optimizer.defaults["lr"]

    def on_train_batch_end(self, trainer: L.Trainer, task: SegmentationTask, *args: Any) -> None:
        if trainer.global_step == len(self.points):
            return  # this batch's gradients are accumulated
        loss = sum(self._losses) / len(self._losses)
        miou = figures(self._matrix.compute().cpu()).miou
        self.points.append(Point(self.rate(len(self.points)), loss, miou))
        self._losses.clear()
        self._matrix.reset()
        self._smoothed = SMOOTHING * self._smoothed + (1 - SMOOTHING) * loss
        unbiased = self._smoothed / (1 - SMOOTHING ** len(self.points))
        self._best = min(self._best, unbiased)
        if not math.isfinite(loss) or (unbiased > DIVERGED * self._best and len(self.points) > 10):
            trainer.should_stop = True
            task.bad_step.copy_(torch.tensor(-1))  # diverging is the purpose of the test

    def rate(self, step: int) -> float:
        """Returns the base learning rate of a step, counted from 0."""
        return self.lowest * (self.highest / self.lowest) ** (step / (self.steps - 1))
