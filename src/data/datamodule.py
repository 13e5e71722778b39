"""One LightningDataModule for every dataset."""

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from src.data.dataset import EpochSampler, SegmentationDataset, Transform
from src.data.source import Source
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

    Raises:
        ValueError: a batch larger than the training split, fewer evaluation images than devices.
    """

    def __init__(
        self,
        dataset: Source,
        augmentation: Transform | None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int | str,
        seed: int,
    ) -> None:
        super().__init__()
        self.source = dataset
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = min(8, num_cores()) if num_workers == "auto" else int(num_workers)
        self.seed = seed
        self.epochs_done = 0

    # Lightning 2.6.6 starts a resumed run's first iteration before it tells the sampler the epoch: left to it, that
    # epoch would draw the samples of the run's first again.
    def state_dict(self) -> dict[str, int]:
        return {"epochs_done": self.trainer.fit_loop.epoch_progress.current.processed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.epochs_done = state_dict["epochs_done"]

    def train_dataloader(self) -> DataLoader:
        dataset = SegmentationDataset(self.source, self.source.samples("train"), self.augmentation, self.seed)
        sampler = self._sampler(len(dataset), shuffle=True, equal_shares=True)
        sampler.set_epoch(self.epochs_done)
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"data.batch_size={self.batch_size} is more than the {len(sampler)} training images of a device; "
                f"set data.batch_size={len(sampler)} or less"
            )
        return self._loader(dataset, sampler, self.batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return self.eval_dataloader("val")

    def eval_dataloader(self, split: str) -> DataLoader:
        """Every image of a split once, whole, in order."""
        dataset = SegmentationDataset(self.source, self.source.samples(split), None, self.seed)
        sampler = self._sampler(len(dataset), shuffle=False, equal_shares=False)
        if len(sampler) == 0:
            raise ValueError(f"split {split!r} has {len(dataset)} images, fewer than devices; set trainer.devices=1")
        return self._loader(dataset, sampler, self.eval_batch_size, drop_last=False)

    def _sampler(self, num_samples: int, *, shuffle: bool, equal_shares: bool) -> EpochSampler:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return EpochSampler(num_samples, self.seed, shuffle, equal_shares, rank, world_size)

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


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stacks samples. ValueError when their sizes differ."""
    sizes = {tuple(sample["mask"].shape) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(f"images of sizes {sorted(sizes)} cannot share a batch; set data.eval_batch_size=1")
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}


def start_worker(worker_id: int) -> None:
    """One thread a worker: OpenCV's own threads would fight over the cores that the workers already fill."""
    import cv2

    cv2.setNumThreads(0)
