"""From a source to tensors, with randomness that is a function of (seed, epoch, index) alone."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from src.data.source import Sample, Source

Transform = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class SegmentationDataset(Dataset):
    """Samples of one split, transformed. Its keys are `(epoch, index)` pairs, as `EpochSampler` hands them out.

    Args:
        transform: `(image, mask, seed) -> (image, mask)`, or None to leave both as they are.
        seed: the run's seed.
    """

    def __init__(self, source: Source, samples: list[Sample], transform: Transform | None, seed: int) -> None:
        self.source = source
        self.samples = samples
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """`image` uint8 `(3, H, W)`, `mask` uint8 `(H, W)`."""
        epoch, index = key
        image, mask = self.source.read(self.samples[index])
        if self.transform is not None:
            image, mask = self.transform(image, mask, derive_seed(self.seed, epoch, index))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
        }


class EpochSampler(Sampler):
    """`(epoch, index)` keys, shuffled by (seed, epoch), dealt to ranks in turn: no padding, so nothing counts twice.

    Lightning calls `set_epoch` before each epoch, on a resume too. When `equal_shares` is set, the few samples that do
    not fill every rank are left out (training under DDP needs equal numbers of steps; they differ every epoch).
    """

    def __init__(
        self, num_samples: int, seed: int, shuffle: bool, equal_shares: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle
        self.equal_shares = equal_shares
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        share, rest = divmod(self.num_samples, self.world_size)
        return share + (not self.equal_shares and self.rank < rest)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        mine = order[self.rank :: self.world_size][: len(self)]
        return iter([(self.epoch, int(index)) for index in mine])


def derive_seed(*keys: int) -> int:
    """A 32-bit seed that is a well-mixed function of its non-negative keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])
