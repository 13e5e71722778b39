"""From a source to tensors, with randomness that is a function of (seed, epoch, index) alone."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from src.data.source import Sample, Source

Transform = Callable[..., tuple[np.ndarray, ...]]
Key = tuple[int, int] | tuple[int, int, int]
NAMES = ("image", "mask", "colour")  # the last where a transform defers its colour steps


class SegmentationDataset(Dataset):
    """Samples of one split, transformed. Its keys are `(epoch, index)`, or `(epoch, index, label)` for a crop about a
    pixel of a class, as `EpochSampler` hands them out.

    Args:
        transform: `(frame, seed[, label]) -> (image, mask)`, or None for the whole frame as it is.
        seed: the run's seed.
    """

    def __init__(self, source: Source, samples: list[Sample], transform: Transform | None, seed: int) -> None:
        self.source = source
        self.samples = samples
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """`image` uint8 `(3, H, W)`, `mask` uint8 `(H, W)`; with deferred steps `colour` float32 `(3, 4)`."""
        return as_tensors(*self.read(key))

    def read(self, key: Key, **options: Any) -> tuple[np.ndarray, ...]:
        """Image `(H, W, 3)`, mask `(H, W)`, and what else the transform gives; `options` are its own."""
        epoch, index, *label = key
        frame = self.source.open(self.samples[index % len(self.samples)])
        seed = derive_seed(self.seed, epoch, index)
        return self.transform(frame, seed, *label, **options) if self.transform else frame.whole()


def as_tensors(*arrays: np.ndarray) -> dict[str, Tensor]:
    """By name; `image` `(3, H, W)` is a view: the pixels stay together (channels_last), as the network wants them."""
    tensors = [torch.from_numpy(np.require(array, requirements="CW")) for array in arrays]
    sample = dict(zip(NAMES, tensors, strict=False))
    return sample | {"image": sample["image"].permute(2, 0, 1)}


class EpochSampler(Sampler):
    """Keys `(epoch, index)`, shuffled by (seed, epoch), dealt to ranks in turn: no padding, so nothing counts twice.

    Lightning calls `set_epoch` before each epoch, on a resume too. When `equal_shares` is set, the few samples that do
    not fill every rank are left out (training under DDP needs equal numbers of steps; they differ every epoch).

    Args:
        weights: float `(N,)` with sum N, how often each sample comes in an epoch on average; None: each once. The
            repeats of sample i are i + N, i + 2N, ...: keys of their own, and so views of their own.
        class_uniform: share of an epoch in which a class is drawn, all being equally likely, then an image that has it;
            its key is `(epoch, index, label)`, for a crop about one of the pixels (Zhu et al. 2019, who take .5).
        presence: bool `(N, K)`, which classes each sample has; needed by `class_uniform` alone.
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
        class_uniform: float = 0.0,
        presence: np.ndarray | None = None,
    ) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle
        self.equal_shares = equal_shares
        self.rank = rank
        self.world_size = world_size
        self.weights = weights
        self.class_uniform = class_uniform
        self.presence = presence
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        share, rest = divmod(self.num_samples, self.world_size)
        return share + (not self.equal_shares and self.rank < rest)

    def __iter__(self) -> Iterator[Key]:
        order, labels = np.arange(self.num_samples), None
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = rng.permutation(order)
            if self.weights is not None:
                order = draw_weighted(order, self.weights, rng)
            if self.class_uniform:
                order, labels = draw_class_uniform(order, self.presence, self.class_uniform, self.weights, rng)
        mine = slice(self.rank, len(self) * self.world_size, self.world_size)
        keys = [(self.epoch, int(index)) for index in order[mine]]
        if labels is None:
            return iter(keys)
        pairs = zip(keys, labels[mine].tolist(), strict=True)
        return iter([key if label < 0 else (*key, label) for key, label in pairs])


def draw_weighted(order: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of shuffled indices `(N,)`, N keys in random order: i comes `weights[i]` times, rounded up or down by chance.

    Systematic sampling: one comb of N teeth over the weights laid end to end.
    """
    teeth = rng.random() + np.arange(len(order))
    places = np.searchsorted(np.cumsum(weights[order]), teeth, side="right").clip(max=len(order) - 1)
    repeats = np.arange(len(order)) - np.searchsorted(places, places)
    return rng.permutation(order[places] + len(order) * repeats)


def draw_class_uniform(
    order: np.ndarray, presence: np.ndarray, share: float, weights: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Of N keys in random order, a share exchanged for draws of a class, then of an image that has it.

    Returns:
        Keys `(N,)` in random order, each once, and the class `(N,)` that each was drawn for; -1: for none.
    """
    total = len(order)
    labels = np.full(total, -1)
    number = round(share * total)
    classes = np.flatnonzero(presence.any(axis=0))
    labels[:number] = np.resize(rng.permutation(classes), number)  # each as often as any other, up to one
    images = order % total
    for label in classes:
        having = np.flatnonzero(presence[:, label])
        chances = None if weights is None else weights[having] / weights[having].sum()
        images[labels == label] = rng.choice(having, (labels == label).sum(), p=chances)
    mixed = rng.permutation(total)
    images, labels = images[mixed], labels[mixed]
    same = np.argsort(images, kind="stable")
    ordered = images[same]
    repeats = np.empty(total, dtype=np.int64)
    repeats[same] = np.arange(total) - np.searchsorted(ordered, ordered)
    return images + total * repeats, labels


def derive_seed(*keys: int) -> int:
    """A 32-bit seed that is a well-mixed function of its non-negative keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])
