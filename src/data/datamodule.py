"""One LightningDataModule for every dataset."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from src.data.augment.device import recolour
from src.data.dataset import EpochSampler, SegmentationDataset, Transform
from src.data.folds import Folds
from src.data.loader import BatchLoader, collate, start_worker
from src.data.packed import attach
from src.data.source import Sample, Source
from src.data.statistics import training_statistics
from src.errors import UserError
from src.machine import num_cores


class SegmentationDataModule(L.LightningDataModule):
    """Batches of `image` uint8 `(B, 3, H, W)` RGB and `mask` uint8 `(B, H, W)`, 0..K-1 or 255.

    Training samples are augmented and cropped; every other split comes whole and unaugmented, in a fixed order. What a
    sample looks like depends on (seed, epoch, index) alone, not on workers, ranks or resumes.

    Args:
        dataset: where the images are.
        augmentation: applied to training samples, gives one size for all.
        batch_size: training images a device and step.
        eval_batch_size: images a step in evaluation; above 1 only where all images have one size.
        num_workers: data processes a device, or "auto" (the cores this process may use, at most 8).
        seed: the run's seed.
        class_uniform: share of an epoch in which a class is drawn first, then a crop about one of its pixels.
        pack: folder of a pack of the dataset (`python -m src.pack`); `auto`: beside the data, if there is one; None.
        augment_on: `device`: the colour steps at the augmentation's end are applied to the batch where the network is.
        folds: the arguments of `Folds`; None or `num_folds: None` trains on all of train and validates on val.

    Raises:
        UserError: a batch larger than the training split, fewer evaluation images than devices, no labels, an
            augmentation whose end the device cannot do.
    """

    def __init__(
        self,
        dataset: Source,
        augmentation: Transform | None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int | str,
        seed: int,
        folds: dict | None = None,
        pack: str | None = None,
        class_uniform: float = 0.0,
        augment_on: str = "worker",
    ) -> None:
        super().__init__()
        self.source = attach(dataset, pack)
        self.folds = Folds(**(folds or {}))
        if augment_on not in ("worker", "device"):
            raise UserError(f"augment_on={augment_on}: must be worker or device")
        self.augmentation = augmentation.defer() if augment_on == "device" else augmentation
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = min(8, num_cores()) if num_workers == "auto" else int(num_workers)
        self.seed = seed
        self.class_uniform = class_uniform
        self.epochs_done = 0

    # Lightning 2.6.6 starts a resumed run's first iteration before it tells the sampler the epoch: left to it, that
    # epoch would draw the samples of the run's first again.
    def state_dict(self) -> dict[str, int]:
        return {"epochs_done": self.trainer.fit_loop.epoch_progress.current.processed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.epochs_done = state_dict["epochs_done"]

    @property
    def validation_split(self) -> str:
        """What training validates on: `val`, or `fold`, the part of train that is held out."""
        return self.folds.validation_split

    def samples(self, split: str) -> list[Sample]:
        """Samples of a split as this run sees it. UserError where there are none, or they have no labels."""
        samples = self.folds.samples(self.source, split)
        self.source.check_labelled(split)
        return samples

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        if "colour" not in batch:  # done by the workers, or no training
            return batch
        return {"image": recolour(batch["image"], batch["colour"]), "mask": batch["mask"]}

    def train_dataloader(self) -> DataLoader | BatchLoader:
        samples = self.samples("train")
        dataset = SegmentationDataset(self.source, samples, self.augmentation, self.seed)
        presence = training_statistics(self.source, samples).presence if self.class_uniform else None
        sampler = self._sampler(
            len(dataset),
            shuffle=True,
            equal_shares=True,
            weights=self.source.weights(samples),
            class_uniform=self.class_uniform,
            presence=presence,
        )
        sampler.set_epoch(self.epochs_done)
        if len(sampler) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size} is more than the {len(sampler)} training images of a device; "
                f"set data.batch_size={len(sampler)} or less"
            )
        if self.num_workers == 0:
            return self._loader(dataset, sampler, self.batch_size, drop_last=True)
        sample = dataset[0, 0]  # all augmented ones have its sizes
        return BatchLoader(dataset, sampler, self.batch_size, self.num_workers, sample, torch.cuda.is_available())

    def val_dataloader(self) -> DataLoader:
        return self.eval_dataloader(self.validation_split)

    def eval_dataloader(self, split: str) -> DataLoader:
        """Every image of a split once, whole, in order."""
        dataset = SegmentationDataset(self.source, self.samples(split), None, self.seed)
        sampler = self._sampler(len(dataset), shuffle=False, equal_shares=False)
        if len(sampler) == 0:
            raise UserError(f"split {split!r} has {len(dataset)} images, fewer than devices; set trainer.devices=1")
        return self._loader(dataset, sampler, self.eval_batch_size, drop_last=False)

    def _sampler(self, num_samples: int, *, shuffle: bool, equal_shares: bool, **drawing: Any) -> EpochSampler:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return EpochSampler(num_samples, self.seed, shuffle, equal_shares, rank, world_size, **drawing)

    def _loader(
        self, dataset: SegmentationDataset, sampler: EpochSampler, batch_size: int, *, drop_last: bool
    ) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            worker_init_fn=start_worker,
            # Its own generator: the loader would otherwise draw from the global one, and move every dropout mask.
            generator=torch.Generator().manual_seed(self.seed),
        )
