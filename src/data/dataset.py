"""Turns samples of a source into tensors, with randomness that is a function of (seed, epoch, index) only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from src.data.source import Sample, Source
from src.errors import UserError

Transform = Callable[..., tuple[np.ndarray, ...]]
Key = tuple[int, int] | tuple[int, int, int]
NAMES = ("image", "mask", "colour")  # the last one if a transform defers its colour steps


class Reading:
    """The names of the samples that each worker is at, in memory that the main process shares: it names one that hangs.

    A name is cut to its last `LENGTH` bytes.
    """

    LENGTH = 255

    def __init__(self, num_workers: int) -> None:
        self._text = RawArray("c", (self.LENGTH + 1) * num_workers) if num_workers else None

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Shows the name as that of this worker for the duration of a block; does nothing in the main process."""
        worker = get_worker_info()
        if self._text is None or worker is None:
            yield
            return
        begin = worker.id * (self.LENGTH + 1)
        text = name.encode(errors="replace")[-self.LENGTH :] + b"\0"
        self._text[begin : begin + len(text)] = text
        try:
            yield
        finally:
            self._text[begin] = b"\0"

    def names(self) -> list[str]:
        """Returns the name of each worker's sample; empty for one that waits for work."""
        if self._text is None:
            return []
        content, size = bytes(self._text), self.LENGTH + 1
        parts = (content[begin : begin + size] for begin in range(0, len(content), size))
        return [part.partition(b"\0")[0].decode(errors="replace") for part in parts]


@dataclass(eq=False)
class SegmentationDataset(Dataset):
    """Transformed samples of one split.

    Its keys are `(epoch, index)`, or `(epoch, index, label)` for a crop about a pixel of a class, as `EpochSampler`
    gives them.

    Args:
        transform: `(frame, seed[, label]) -> (image, mask)`; None returns the whole frame unchanged.
    """

    source: Source
    samples: list[Sample]
    transform: Transform | None
    seed: int
    reading: Reading = field(default_factory=lambda: Reading(0), init=False)  # set by `Loader`

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """Returns `image` uint8 `(3, H, W)` and `mask` uint8 `(H, W)`; with deferred steps `colour` float32 `(3, 4)`.

        The image is a view of `(H, W, 3)`: the pixels stay together (channels_last), as the network wants them.
        """
        epoch, index, *label = key
        sample = self.samples[index % len(self.samples)]
        seed = derive_seed(self.seed, epoch, index)
        with self.reading.of(str(sample.image or sample.name)):
            frame = self.source.open(sample)
            arrays = self.transform(frame, seed, *label) if self.transform else frame.whole()
        tensors = [torch.from_numpy(np.require(array, requirements=["C", "W"])) for array in arrays]
        found = dict(zip(NAMES, tensors, strict=False))
        return found | {"image": found["image"].permute(2, 0, 1)}

    def __getitems__(self, keys: list[Key]) -> list[dict[str, Tensor]] | UserError:
        """Returns the samples of a batch, or the UserError of one, as a value: torch turns a raised one into text."""
        try:
            return [self[key] for key in keys]
        except UserError as error:
            return error


@dataclass(eq=False)
class EpochSampler(Sampler):
    """Keys `(epoch, index)`, dealt to ranks in turn without padding.

    No sample counts twice. Lightning calls `set_epoch` before each epoch, also when a run is resumed.

    Args:
        shuffle: draws the order from (seed, epoch), and leaves out the few samples that do not fill every rank, since
            training under DDP needs equal numbers of steps; they are other ones in every epoch.
        weights: float `(N,)` with sum N, how often each sample comes in an epoch on average; None means once each. The
            repeats of sample i are i + N, i + 2N, ...: other keys, and so other views.
        class_uniform: share of an epoch for which a class is drawn, all with equal chances, then an image that has it;
            its key is `(epoch, index, label)`, for a crop about one of the pixels (Zhu et al. 2019 take .5).
        presence: bool `(N, K)`, which classes each sample has; needed only by `class_uniform`.
    """

    num_samples: int
    seed: int
    shuffle: bool
    rank: int = 0
    world_size: int = 1
    weights: np.ndarray | None = None
    class_uniform: float = 0.0
    presence: np.ndarray | None = None
    epoch: int = field(default=0, init=False)
    start: int = field(default=0, init=False)

    def begin(self, epoch: int, start: int = 0) -> None:
        """Goes to an epoch, of which this rank has seen the first `start` samples: it yields the others."""
        self.epoch, self.start = epoch, start

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:  # Lightning calls this too for the epoch that a resumed run is in the middle of
            self.begin(epoch)

    def __len__(self) -> int:
        share, rest = divmod(self.num_samples, self.world_size)
        return share + (not self.shuffle and self.rank < rest)

    def __iter__(self) -> Iterator[Key]:
        order, labels = np.arange(self.num_samples), np.full(self.num_samples, -1)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = rng.permutation(order)
            if self.weights is not None:
                order = draw_weighted(order, self.weights, rng)
            if self.class_uniform:
                assert self.presence is not None, "class_uniform needs to know which classes each sample has"
                order, labels = draw_class_uniform(order, self.presence, self.class_uniform, self.weights, rng)
        mine = slice(self.rank, len(self) * self.world_size, self.world_size)
        pairs = zip(order[mine].tolist(), labels[mine].tolist(), strict=True)
        keys = [(self.epoch, index) if label < 0 else (self.epoch, index, label) for index, label in pairs]
        return iter(keys[self.start :])


def draw_weighted(order: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws N keys from shuffled indices `(N,)`: i comes `weights[i]` times, rounded up or down by chance.

    Systematic sampling: a comb of N teeth is laid over the weights, which lie end to end. The order is random.
    """
    teeth = rng.random() + np.arange(len(order))
    places = np.searchsorted(np.cumsum(weights[order]), teeth, side="right").clip(max=len(order) - 1)
    repeats = np.arange(len(order)) - np.searchsorted(places, places)
    return rng.permutation(order[places] + len(order) * repeats)


def draw_class_uniform(
    order: np.ndarray, presence: np.ndarray, share: float, weights: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces a share of N shuffled keys: a class is drawn for each, then an image that has the class.

    Returns:
        Keys `(N,)` in random order, each once, and the class `(N,)` that each was drawn for, -1 if for none.
    """
    total = len(order)
    labels = np.full(total, -1)
    number = round(share * total)
    classes = np.flatnonzero(presence.any(axis=0))
    labels[:number] = np.resize(rng.permutation(classes), number)  # counts of the classes differ by at most one
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
    """Returns a 32-bit seed that is a well-mixed function of its non-negative keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])
