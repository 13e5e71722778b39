"""The LightningDataModule of every dataset."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from src.data.augment.pipeline import Augmentation
from src.data.dataset import EpochSampler, SegmentationDataset
from src.data.folds import Folds
from src.data.loader import Loader, collate, start_worker
from src.data.packed import attach
from src.data.source import Sample, Source
from src.data.statistics import training_statistics
from src.errors import UserError
from src.machine import num_cores


class SegmentationDataModule(L.LightningDataModule):
    """Batches of `image` uint8 `(B, C, H, W)` and `mask` uint8 `(B, H, W)`, 0..K-1 or 255; C is 3, or 4 (`ImageForm`).

    Training samples are augmented and cropped; every other split comes whole and unaugmented, in a fixed order. A
    sample depends on (seed, epoch, index) only, not on workers, ranks or resumes.

    Args:
        augmentation: applied to training samples; gives all of them one size.
        batch_size: training images per device and step.
        eval_batch_size: images per step in evaluation; above 1 only if all images have one size.
        num_workers: data processes per device, or "auto" (the cores that this process may use, at most 8).
        worker_timeout: seconds that a batch of the data processes may take.
        class_uniform: share of an epoch for which a class is drawn first, then a crop about one of its pixels.
        pack: folder of a pack of the dataset (`python -m src.pack`); `auto` takes the one beside the data, if it
            exists; None reads the files.
        augment_on: `worker`, or `device` to apply the colour steps at the augmentation's end to the batch on the
            network's device.
        folds: the arguments of `Folds`; None, or neither folds nor a share: all of train, validated on val.

    Raises:
        UserError: a batch is larger than the training split, evaluation has fewer images than devices, a split has no
            labels, the device cannot do the augmentation's last steps, or a step takes only RGB and images are not.
    """

    def __init__(
        self,
        dataset: Source,
        augmentation: Augmentation | None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int | str,
        seed: int,
        folds: dict | None = None,
        pack: str | None = None,
        class_uniform: float = 0.0,
        worker_timeout: int = 180,
        augment_on: str = "worker",
    ) -> None:
        super().__init__()
        self.source = attach(dataset, pack)
        self.folds = Folds(**(folds or {}))
        if augment_on not in ("worker", "device"):
            raise UserError(f"augment_on={augment_on}: must be worker or device")
        if augmentation is not None:
            augmentation.check_channels(dataset.form.channels)
        self.augmentation = augmentation.defer() if augmentation and augment_on == "device" else augmentation
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = min(8, num_cores()) if num_workers == "auto" else int(num_workers)
        self.worker_timeout = worker_timeout
        self.seed = seed
        self.class_uniform = class_uniform
        self.epochs_done = self.batches_done = 0  # batches of the epoch after these

    # Lightning 2.6.6 starts the first iteration of a resumed run before it calls the sampler's set_epoch: without this
    # state, that epoch would draw the samples of the run's first epoch again.
    def state_dict(self) -> dict[str, int]:
        assert self.trainer is not None, "a checkpoint is saved by a trainer"
        loop = self.trainer.fit_loop
        epochs = loop.epoch_progress.current.state_dict()
        batches = loop.epoch_loop.batch_progress.current.state_dict()
        is_within = epochs["processed"] < epochs["started"]
        return {"epochs_done": epochs["processed"], "batches_done": batches["processed"] if is_within else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.epochs_done = state_dict["epochs_done"]
        self.batches_done = state_dict.get("batches_done", 0)  # earlier versions saved only at the end of an epoch

    @property
    def validation_split(self) -> str:
        """The split that training validates on: `val`, or `fold`, the part of train that is held out."""
        return self.folds.validation_split

    def samples(self, split: str) -> list[Sample]:
        """Returns the samples of a split as this run sees it.

        Raises:
            UserError: the split has no samples, or no labels.
        """
        samples = self.folds.samples(self.source, split)
        self.source.check_labelled(split)
        return samples

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        if "colour" not in batch:  # the workers have applied the steps, or this is no training batch
            return batch
        return {"image": recolour(batch["image"], batch["colour"]), "mask": batch["mask"]}

    def train_dataloader(self) -> Loader:
        samples = self.samples("train")
        dataset = SegmentationDataset(self.source, samples, self.augmentation, self.seed)
        presence = training_statistics(self.source, samples).presence if self.class_uniform else None
        weights = self.source.weights(samples)
        sampler = self._sampler(
            dataset, shuffle=True, weights=weights, class_uniform=self.class_uniform, presence=presence
        )
        sampler.begin(self.epochs_done, self.batches_done * self.batch_size)
        if len(sampler) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size} is more than the {len(sampler)} training images of a device; "
                f"set data.batch_size={len(sampler)} or less"
            )
        return self._loader(dataset, sampler, self.batch_size, drop_last=True)

    def val_dataloader(self) -> Loader:
        return self.eval_dataloader(self.validation_split)

    def eval_dataloader(self, split: str) -> Loader:
        """Returns every image of a split once, whole, in order."""
        dataset = SegmentationDataset(self.source, self.samples(split), None, self.seed)
        sampler = self._sampler(dataset, shuffle=False)
        if len(sampler) == 0:
            raise UserError(f"split {split!r} has {len(dataset)} images, fewer than devices; set trainer.devices=1")
        return self._loader(dataset, sampler, self.eval_batch_size, drop_last=False)

    def _sampler(self, dataset: SegmentationDataset, **options: Any) -> EpochSampler:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return EpochSampler(len(dataset), self.seed, rank=rank, world_size=world_size, **options)

    def _loader(
        self, dataset: SegmentationDataset, sampler: EpochSampler, batch_size: int, *, drop_last: bool
    ) -> Loader:
        return Loader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            patience=self.worker_timeout,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            worker_init_fn=start_worker,
            # Its own generator: the loader would otherwise draw from the global one, and move every dropout mask.
            generator=torch.Generator().manual_seed(self.seed),
        )


def recolour(image: Tensor, matrix: Tensor) -> Tensor:
    """Multiplies colours by one matrix per image, rounds and clips to 0..255, as `cv2.transform` does in a worker.

    Args:
        image: uint8 `(B, 3, H, W)`, channels last.
        matrix: float32 `(B, 3, 4)`, acts on `(R, G, B, 1)` in 0..255.
    """
    with torch.autocast(image.device.type, enabled=False):
        pixels = image.permute(0, 2, 3, 1).flatten(1, 2).float()  # (B, H W, 3)
        result = torch.baddbmm(matrix[:, :, 3].unsqueeze(1), pixels, matrix[:, :, :3].mT)
        rounded = result.round_().clamp_(0, 255).to(torch.uint8)
    return rounded.unflatten(1, image.shape[-2:]).permute(0, 3, 1, 2)
