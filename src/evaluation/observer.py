"""Reduces the scores of images, row by row, to counts and ids, so that no scores of a whole image exist."""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.data.source import Sample, Source
from src.evaluation.extras import Extras
from src.evaluation.suspects import Suspect, find_suspects, keep_largest
from src.inference import Rows, most_likely
from src.metrics.boundary import BoundaryCounts
from src.metrics.confidence import BINS, THRESHOLDS, calibration_counts, threshold_counts
from src.metrics.confusion import count_images
from src.metrics.instances import InstanceCounts
from src.metrics.road import BIRDS_EYE, PERSPECTIVE, birds_eye_pixels
from src.reports.pictures import save_png
from src.runs.per_image import PREDICTIONS


@dataclass(eq=False)
class Seen:
    """The counts of the images that one process has evaluated; those of several processes add up."""

    matrices: dict[int, np.ndarray] = field(default_factory=dict)  # int64 (K, K), by the image's place in the split
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)  # height and width at which it was counted
    calibration: np.ndarray = field(default_factory=lambda: np.zeros((3, BINS)))
    road: dict[str, np.ndarray] = field(default_factory=dict)  # counts int64 (2, THRESHOLDS + 1), by view
    boundary: list[BoundaryCounts] = field(default_factory=list)
    instances: InstanceCounts | None = None
    num_instances: int = 0  # images that have them
    suspects: list[Suspect] = field(default_factory=list)

    def add(self, other: "Seen", most_suspects: int) -> None:
        """Adds the counts of another process, of other images."""
        self.matrices |= other.matrices
        self.sizes |= other.sizes
        self.calibration = self.calibration + other.calibration
        self.road = {view: counts + other.road[view] for view, counts in self.road.items()}
        for own, counts in zip(self.boundary, other.boundary, strict=True):
            own.counts += counts.counts
        if self.instances and other.instances:
            self.instances.merge(other.instances)
        self.num_instances += other.num_instances
        self.suspects = keep_largest([*self.suspects, *other.suspects], most_suspects)


def count_rows(rows: Rows, mask: Tensor, num_classes: int) -> Tensor:
    """Counts a batch as `ImageObserver` does, and nothing but its confusion matrices, int64 `(B, K, K)`."""
    matrices = torch.zeros(len(mask), num_classes, num_classes, dtype=torch.int64, device=mask.device)
    for start, scores in rows:
        matrices += count_images(most_likely(scores), mask[:, start : start + scores.shape[2]], num_classes)
    return matrices


class ImageObserver:
    """Takes the scores of a split's images, batch by batch in order, as `SegmentationTask.observer`.

    Args:
        samples: all of the split, of which this process sees every `world_size`th, from `rank` on.
        folder: of the evaluation, for predicted ids; None to keep none.
    """

    def __init__(
        self, source: Source, samples: list[Sample], folder: Path | None, extras: Extras, rank: int, world_size: int
    ) -> None:
        self.source, self.samples, self.folder, self.extras = source, samples, folder, extras
        self.places = iter(range(rank, len(samples), world_size))
        self.num_classes = source.num_classes
        self.detected = list(source.classes).index(source.detected) if source.detected else None
        self.seen = Seen(boundary=[BoundaryCounts(width, self.num_classes) for width in extras.boundary])
        views = (PERSPECTIVE, BIRDS_EYE)[: 1 + extras.birdseye] if source.detected else ()
        self.seen.road = {view: np.zeros((2, THRESHOLDS + 1), dtype=np.int64) for view in views}
        if source.instance_sizes:
            self.seen.instances = InstanceCounts(list(source.classes), source.instance_sizes, source.categories)

    def __call__(self, rows: Rows, mask: Tensor) -> Tensor:
        """Counts a batch: its scores in bands of rows, and its mask `(B, H, W)`; returns int64 `(B, K, K)`."""
        truth = mask.to(torch.uint8).cpu().numpy()
        ids, confidence = np.empty_like(truth), np.empty_like(truth) if self.extras.suspects else None
        matrices = torch.zeros(len(mask), self.num_classes, self.num_classes, dtype=torch.int64, device=mask.device)
        places = list(islice(self.places, len(mask)))
        cells = self._find_cells(places, mask) if BIRDS_EYE in self.seen.road else None
        for start, scores in rows:
            band = slice(start, start + scores.shape[2])
            labels = mask[:, band]
            probabilities = scores.softmax(dim=1)
            predicted, probability = most_likely(scores), probabilities.amax(dim=1)
            matrices += count_images(predicted, labels, self.num_classes)
            counts = calibration_counts(probability, predicted == labels, labels < self.num_classes)
            self.seen.calibration += counts.numpy()
            if self.detected is not None:
                self._count_road(probabilities[:, self.detected], labels, start, cells)
            ids[:, band] = predicted.to(torch.uint8).cpu().numpy()
            if confidence is not None:
                confidence[:, band] = (probability * 255).round().to(torch.uint8).cpu().numpy()
        for index, (place, matrix) in enumerate(zip(places, matrices.cpu().numpy(), strict=True)):
            self._finish(place, truth[index], ids[index], None if confidence is None else confidence[index], matrix)
        return matrices

    def _find_cells(self, places: list[int], mask: Tensor) -> Tensor:
        """Finds the pixels of the cells of a batch's bird's-eye views: int64 `(3, N)`, image, row, column."""
        parts = []
        for index, place in enumerate(places):
            plane = self.source.read_road_plane(self.samples[place])
            assert plane is not None, "src.config.eval_plan refuses datasets without calibration"
            pixels = birds_eye_pixels(plane, (mask.shape[1], mask.shape[2]))
            parts.append(np.insert(pixels, 0, index, axis=0))
        return torch.from_numpy(np.concatenate(parts, axis=1)).to(mask.device)

    def _count_road(self, probability: Tensor, labels: Tensor, start: int, cells: Tensor | None) -> None:
        """Counts a band of rows, from `start` on, by the probability of the detected class; both `(B, h, W)`."""
        pixels = {PERSPECTIVE: (labels < self.num_classes).nonzero(as_tuple=True)}
        if cells is not None:
            image, row, column = cells[:, (cells[1] >= start) & (cells[1] < start + labels.shape[1])]
            valid = labels[image, row - start, column] < self.num_classes
            pixels[BIRDS_EYE] = (image[valid], row[valid] - start, column[valid])
        for view, chosen in pixels.items():
            self.seen.road[view] += threshold_counts(probability[chosen], labels[chosen] == self.detected).numpy()

    def _finish(
        self, place: int, truth: np.ndarray, ids: np.ndarray, confidence: np.ndarray | None, matrix: np.ndarray
    ) -> None:
        """Counts all that needs a whole image: ids uint8 `(H, W)`, confidence in 255ths."""
        seen = self.seen
        sample = self.samples[place]
        seen.matrices[place], seen.sizes[place] = matrix, (truth.shape[0], truth.shape[1])
        for counts in seen.boundary:
            counts.add(truth, ids)
        if seen.instances is not None:
            instances = self.source.read_instances(sample)
            if instances is not None and instances.shape == truth.shape:
                seen.instances.add(instances, truth, ids)
                seen.num_instances += 1
        if confidence is not None:
            found = find_suspects(place, truth, ids, confidence)
            seen.suspects = keep_largest([*seen.suspects, *found], self.extras.suspects)
        if self.folder is not None:
            save_png(self.folder / prediction_name(self.source, sample), ids)


def prediction_name(source: Source, sample: Sample) -> str:
    """Returns the path of an image's predicted ids in the folder of an evaluation."""
    return f"{PREDICTIONS}/{source.image_id(sample)}.png"


def gather(seen: Seen, most_suspects: int) -> Seen:
    """Returns the counts of all processes together, in each of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return seen
    parts: list[Seen] = [seen] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, seen)
    for other in parts[1:]:
        parts[0].add(other, most_suspects)
    return parts[0]
