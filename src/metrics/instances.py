"""Cityscapes' instance-level IoU (iIoU, Cordts et al. 2016): pixels of small instances weigh more. Without torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from src.metrics.figures import ratio


class InstanceCounts:
    """Weighted counts of a split, as in cityscapesScripts' evalPixelLevelSemanticLabeling; images add up.

    Args:
        classes: the K names in the order of the ids.
        sizes: mean pixels of an instance, by the name of each class that has instances.
        categories: names of classes by the name of their group; a group counts if all its classes have instances.
    """

    def __init__(
        self, classes: Sequence[str], sizes: Mapping[str, float], categories: Mapping[str, Sequence[str]]
    ) -> None:
        self.classes = list(classes)
        self.sizes = dict(sizes)
        self.categories = {name: group for name, group in categories.items() if all(each in sizes for each in group)}
        self.hits = dict.fromkeys([*self.sizes, *self.categories], 0.0)
        self.misses = dict(self.hits)

    def add(self, instances: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image.

        Args:
            instances: int `(H, W)`, one number above 0 per instance, 0 elsewhere.
            truth: ids uint8 `(H, W)`; an instance has one class.
            prediction: ids uint8 `(H, W)`.
        """
        places = np.flatnonzero(instances)
        numbers, first, index = np.unique(instances.ravel()[places], return_index=True, return_inverse=True)
        labels, predicted = truth.ravel()[places[first]], prediction.ravel()[places]
        pixels = np.bincount(index, minlength=len(numbers))
        own = np.bincount(index, predicted == labels[index], minlength=len(numbers))
        for number, label in enumerate(labels):
            name = self.classes[label] if label < len(self.classes) else None
            if name not in self.sizes:
                continue
            self._count(name, own[number], pixels[number], name)
            for category, group in self.categories.items():
                if name in group:
                    members = [self.classes.index(each) for each in group]
                    right = np.isin(predicted[index == number], members).sum()
                    self._count(category, right, pixels[number], name)

    def _count(self, key: str, right: float, pixels: int, name: str) -> None:
        weight = self.sizes[name] / pixels
        self.hits[key] += weight * right
        self.misses[key] += weight * (pixels - right)

    def merge(self, other: "InstanceCounts") -> None:
        """Adds the counts of other images."""
        for own, counts in ((self.hits, other.hits), (self.misses, other.misses)):
            for key, count in counts.items():
                own[key] += count

    def iou(self, matrix: np.ndarray) -> dict[str, float]:
        """Returns the iIoU of each class with instances, and of each group of such, NaN if it is nowhere.

        Args:
            matrix: the confusion matrix int `(K, K)` of the split, rows truth, for the false positives.
        """
        result = {}
        for key in self.hits:
            group = self.categories.get(key, (key,))
            members = [self.classes.index(each) for each in group]
            others = [index for index in range(len(self.classes)) if index not in members]
            false = np.asarray(matrix)[np.ix_(others, members)].sum()
            hits, misses = self.hits[key], self.misses[key]
            result[key] = float(ratio(np.asarray(hits), np.asarray(hits + misses + false)))
        return result
