"""Several datasets of one label set as one, such as Cityscapes and KITTI, with sampling weights."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from src.data.source import FileSource, Sample
from src.errors import DataError, UserError


class Concat(FileSource):
    """The union of datasets, split by split, and the splits of each dataset, as `NAME_SPLIT` (`kitti_val`).

    Names and groups of samples begin with the dataset's name: `kitti/000058_10`.

    Args:
        root: folder that holds a folder (or a link to one) for each dataset, with the dataset's name.
        weights: relative share of each dataset in the samples of an epoch, by name: with `{cityscapes: 1, kitti: 1}`
            every second sample is KITTI's, however large each is. None: every image once.
        datasets: by name, `root -> FileSource`.

    Raises:
        UserError: different label sets, weights that do not fit the datasets, or an error of one of them.
    """

    def __init__(
        self, root: str, weights: dict[str, float] | None = None, **datasets: Callable[..., FileSource]
    ) -> None:
        self.root = Path(root).expanduser()
        self.datasets = {name: dataset(root=str(self.root / name)) for name, dataset in datasets.items()}
        (first_name, first), *others = self.datasets.items()
        for name, dataset in others:
            if (dataset.labels, dataset.classes) != (first.labels, first.classes):
                raise UserError(
                    f"{first_name} has labels {first.labels}, {name} has {dataset.labels}: not one label set"
                )
        self.terms = " ".join(dict.fromkeys(dataset.terms for dataset in self.datasets.values()))
        self.shares = dict(weights) if weights else None
        if self.shares and (self.shares.keys() != self.datasets.keys() or min(self.shares.values()) <= 0):
            raise UserError(f"weights={self.shares}: give a number above 0 for each of {', '.join(self.datasets)}")
        self.labels, self.classes, self.table = first.labels, first.classes, first.table
        self.categories, self.instance_sizes = first.categories, first.instance_sizes
        # Splits without labels go to servers of their own.
        apart = {split for dataset in self.datasets.values() for split in (*dataset.unlabelled, *dataset.extra_splits)}
        shared = set.intersection(*(set(dataset.splits) for dataset in self.datasets.values())) - apart
        common = [split for split in first.splits if split in shared]
        # Common splits, then each dataset's own: the names and splits of the datasets that each consists of.
        own = {f"{name}_{split}": (name, split) for name, dataset in self.datasets.items() for split in dataset.splits}
        self.members = {split: [(name, split) for name in self.datasets] for split in common}
        self.members |= {key: [member] for key, member in own.items()}
        self.splits = tuple(self.members)
        members = [(key, self.datasets[name], split) for key, (name, split) in own.items()]
        self.unlabelled = tuple(key for key, dataset, split in members if split in dataset.unlabelled)
        self.extra_splits = tuple(key for key, dataset, split in members if split in dataset.extra_splits)

    def images(self, split: str) -> Iterator[Sample | DataError]:
        for name, own in self.members[split]:
            yield from self.datasets[name].images(own)

    def mask_of(self, image: Path) -> Path:
        dataset = self._owner(image)
        assert dataset is not None
        return dataset.mask_of(image)

    def _pair(self, split: str) -> Iterator[Sample | DataError]:
        for name, own in self.members[split]:
            for found in self.datasets[name].pairs(own):
                if isinstance(found, Sample):
                    found = replace(found, name=f"{name}/{found.name}", group=f"{name}/{found.group}")
                yield found

    def read_instances(self, sample: Sample) -> np.ndarray | None:
        dataset = self._owner(sample.files[0])
        return dataset.read_instances(sample) if dataset else None

    def image_of(self, mask: Path) -> Path | None:
        dataset = self._owner(mask)
        return dataset.image_of(mask) if dataset else None

    def weights(self, samples: list[Sample]) -> np.ndarray | None:
        """Spreads the share of each dataset over its samples: float `(N,)` with sum N. None: once each."""
        if self.shares is None:
            return None
        names = np.array([sample.name.partition("/")[0] for sample in samples])
        weights = np.zeros(len(samples))
        for name, share in self.shares.items():
            weights[names == name] = share / max(1, (names == name).sum())
        return weights * (len(samples) / weights.sum())

    def read_labels(self, mask: Path) -> np.ndarray:
        dataset = self._owner(mask)
        assert dataset is not None
        return dataset.read_labels(mask)

    def image_id(self, sample: Sample) -> str:
        dataset, own = self._member(sample)
        return dataset.image_id(own)

    def official_path(self, sample: Sample) -> str:
        dataset, own = self._member(sample)
        return dataset.official_path(own)

    def _owner(self, file: Path) -> FileSource | None:
        return next((dataset for dataset in self.datasets.values() if file.is_relative_to(dataset.root)), None)

    def _member(self, sample: Sample) -> tuple[FileSource, Sample]:
        """The dataset that a sample comes from, and its sample there."""
        name, _, own = sample.name.partition("/")
        return self.datasets[name], replace(sample, name=own)
