"""From a source to tensors, with randomness that is a function of (seed, epoch, index) alone."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from src.data.frame import Frame
from src.data.source import Sample, Source

Transform = Callable[[Frame, int], tuple[np.ndarray, np.ndarray]]


class SegmentationDataset(Dataset):
    """Samples of one split, transformed. Its keys are `(epoch, index)` pairs, as `EpochSampler` hands them out.

    Args:
        transform: `(frame, seed) -> (image, mask)`, or None for the whole frame as it is.
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
        frame = self.source.open(self.samples[index % len(self.samples)])
        image, mask = self.transform(frame, derive_seed(self.seed, epoch, index)) if self.transform else frame.whole()
        return {
            # A view with channels first: the pixels stay together (channels_last), as the network wants them.
            "image": torch.from_numpy(np.require(image, requirements="CW")).permute(2, 0, 1),
            "mask": torch.from_numpy(np.require(mask, requirements="CW")),
        }


class EpochSampler(Sampler):
    """`(epoch, index)` keys, shuffled by (seed, epoch), dealt to ranks in turn: no padding, so nothing counts twice.

    Lightning calls `set_epoch` before each epoch, on a resume too. When `equal_shares` is set, the few samples that do
    not fill every rank are left out (training under DDP needs equal numbers of steps; they differ every epoch).

    Args:
        weights: float `(N,)` with sum N, how often each sample comes in an epoch on average; None: each once. The
            repeats of sample i are i + N, i + 2N, ...: keys of their own, and so views of their own.
    """

    def __init__(
        self,
        num_samples: int,
        seed: int,
        shuffle: bool,
        equal_shares: bool,
        rank: int = 0,
        world_size: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle
        self.equal_shares = equal_shares
        self.rank = rank
        self.world_size = world_size
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        share, rest = divmod(self.num_samples, self.world_size)
        return share + (not self.equal_shares and self.rank < rest)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_samples)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = rng.permutation(order)
            if self.weights is not None:
                order = draw_weighted(order, self.weights, rng)
        mine = order[self.rank :: self.world_size][: len(self)]
        return iter([(self.epoch, int(index)) for index in mine])


def draw_weighted(order: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of shuffled indices `(N,)`, N keys in random order: i comes `weights[i]` times, rounded up or down by chance.

    Systematic sampling: one comb of N teeth over the weights laid end to end.
    """
    teeth = rng.random() + np.arange(len(order))
    places = np.searchsorted(np.cumsum(weights[order]), teeth, side="right").clip(max=len(order) - 1)
    repeats = np.arange(len(order)) - np.searchsorted(places, places)
    return rng.permutation(order[places] + len(order) * repeats)


def derive_seed(*keys: int) -> int:
    """A 32-bit seed that is a well-mixed function of its non-negative keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])
