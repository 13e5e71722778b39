"""The only LightningModule: trains and validates a network."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from src.data.dataset import derive_seed
from src.errors import UserError
from src.inference import Protocol, Rows, fit_labels, most_likely, predict_rows, predict_scores
from src.metrics.confusion import ConfusionMatrix, count_images
from src.metrics.figures import figures
from src.models.ensemble import Ensemble
from src.models.network import Network

Batch = dict[str, Tensor]
Observer = Callable[[Rows, Tensor], Tensor]


class SegmentationTask(L.LightningModule):
    """Trains a network on batches of `image` uint8 `(B, 3, H, W)` and `mask` uint8 `(B, H, W)`.

    Args:
        loss: `(logits, mask, align_corners) -> dict` of scalars with "loss".
        scheduler: `(optimizer, total_steps, steps_per_epoch) -> LRScheduler`, counted in optimiser steps and stepped
            after each. If the scheduler has a method `observe`, it is called with val/miou after each validation.
        inference: the options of `Protocol.of`, for validation and prediction.
        classes: names, in the order of the ids; of a dict, the keys.
        seed: the run's seed; dropout is a function of (seed, epoch, batch, rank).
        compile: whether to torch.compile the network, not the LightningModule.

    Attributes:
        network: the network that is trained; for an evaluation, averaged weights or an ensemble may stand in its place.
        build_scheduler: the argument `scheduler`; a learning-rate range test puts another in its place.
        bad_step: int64 scalar, the first optimiser step whose loss was not finite, or -1.
        matrix: int64 `(K, K)` confusion matrix of the last validation, rows truth, or None.
        observer: in an evaluation, takes the scores of each batch row by row (`src.inference.predict_rows`) and its
            mask, and returns the confusion matrices int64 `(B, K, K)` of its images; there is no loss then.

    Raises:
        UserError: the loss is not finite; names the step.
    """

    network: Network | Ensemble
    bad_step: Tensor
    matrix: Tensor | None
    observer: Observer | None

    def __init__(
        self,
        network: Network,
        loss: nn.Module,
        optimizer: Callable[[Network], Optimizer],
        scheduler: Callable[[Optimizer, int, int], LRScheduler],
        inference: dict,
        classes: Iterable[str],
        seed: int,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.build_optimizer = optimizer
        self.build_scheduler = scheduler
        self.protocol = Protocol.of(inference)
        self.classes = list(classes)
        self.seed = seed
        self.mean_loss = MeanMetric(
            nan_strategy="disable"
        )  # of the epoch; `bad_step` knows of values that are not finite
        # Lightning's own mean (2.6.6) is wrong if ranks have unequal numbers of images: it truncates their average.
        self.validation_loss = MeanMetric(nan_strategy="disable")
        self.confusion = ConfusionMatrix(len(self.classes))
        self.matrix = None
        self.observer = None
        self.register_buffer("bad_step", torch.tensor(-1), persistent=False)
        # In a list, because a compiled module shares its parameters with the network and must not be registered too.
        self._forward = [torch.compile(network) if compile else network]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert isinstance(self.network, Network)
        logits = self._forward[0](batch["image"])
        losses = self.loss(logits, batch["mask"], self.network.align_corners)
        loss = losses["loss"]
        # Kept on the device and read only now and then: reading it here would make every step wait for the device.
        bad = (self.bad_step < 0) & ~torch.isfinite(loss.detach())
        self.bad_step = torch.where(bad, self.global_step, self.bad_step)
        terms = {f"train/{name}": value.detach() for name, value in losses.items() if name != "loss"}
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        self.log_dict(terms, on_step=True, on_epoch=False)
        self.mean_loss.update(loss.detach(), len(logits[0]))
        self.log("train/loss_epoch", self.mean_loss, on_step=False, on_epoch=True)
        return loss * self._share_of_step(batch_idx)

    def _share_of_step(self, batch_idx: int) -> float:
        """Returns the factor by which the gradient of an epoch's last step is the mean over its batches, too.

        Lightning (2.6.6) divides by the number of batches to accumulate, also if fewer are left.
        """
        every, batches = self.trainer.accumulate_grad_batches, int(self.trainer.num_training_batches)
        rest = batches % every
        return every / rest if rest and batch_idx >= batches - rest else 1.0

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        # Lightning sets `log_every_n_steps` on its Trainer from outside of the class.
        interval: int = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if self.trainer.is_last_batch or self.global_step % interval == 0:
            self.check_finite()

    def check_finite(self) -> None:
        """Raises UserError if a loss was not finite; called before anything is saved."""
        if (step := int(self.bad_step)) >= 0:
            raise UserError(
                f"train/loss is not finite at step {step} (epoch {self.current_epoch}); the last good checkpoint is "
                "kept. Lower optimizer.lr, set trainer.gradient_clip_val=1, or trainer.precision=32-true"
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        image, mask, protocol = fit_labels(batch["image"], batch["mask"], self.protocol)
        if self.observer is not None:
            self.confusion.update(self.observer(predict_rows(self.network, image, protocol), mask))
            return
        scores = predict_scores(self.network, image, protocol)
        self.confusion.update(count_images(most_likely(scores), mask, len(self.classes)))
        self.validation_loss.update(self.loss((scores,), mask)["loss"], len(scores))
        self.log("val/loss", self.validation_loss, on_step=False, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.matrix = self.confusion.compute().cpu()
        self.confusion.reset()
        if self.trainer.sanity_checking:
            return
        result = figures(self.matrix)
        # The same on all ranks, since the matrix is their sum, and before the epoch's checkpoint, so that it resumes.
        scheduler: Any = self.lr_schedulers() if self.trainer.state.fn == "fit" else None
        if hasattr(scheduler, "observe"):
            scheduler.observe(float(result.miou))
        self.log("val/miou", result.miou, prog_bar=True, sync_dist=True)
        names = ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
        others = {f"val/{name}": getattr(result, name) for name in names}
        iou = {f"val/iou/{name}": float(value) for name, value in zip(self.classes, result.iou, strict=True)}
        self.log_dict(others | iou, sync_dist=True)

    @torch.inference_mode()
    def predict_ids(self, image: Tensor) -> Tensor:
        """Predicts ids uint8 `(B, H, W)` on the CPU of images uint8 `(B, 3, H, W)` on any device, at their own size."""
        bands = predict_rows(self.network, image.to(self.device), self.protocol.at_own_size)
        return torch.cat([most_likely(scores).to(torch.uint8).cpu() for _, scores in bands], dim=1)

    def configure_optimizers(self) -> dict:
        assert isinstance(self.network, Network)
        optimizer = self.build_optimizer(self.network)
        total_steps = int(self.trainer.estimated_stepping_batches)
        # Lightning also steps on an epoch's last batch, with the gradients of an accumulation that is not full.
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        scheduler = self.build_scheduler(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
