"""Derives the figures of an evaluation beside those of its confusion matrix."""

from collections.abc import Sequence

import numpy as np

from src.data.source import Source
from src.evaluation.observer import Seen
from src.metrics.calibration import calibration_bins, expected_calibration_error
from src.metrics.figures import category_ious, dice, mean_of_known
from src.metrics.intervals import bootstrap
from src.metrics.road import road_figures
from src.runs.details import BoundaryFigures, Details, Interval


def describe_details(seen: Seen, source: Source) -> Details:
    """Computes all figures that the counts of a split's images allow."""
    classes = list(source.classes)
    matrices = np.stack([seen.matrices[place] for place in sorted(seen.matrices)])
    matrix, bounds = matrices.sum(0), bootstrap(matrices)
    scores, bins = dice(matrix), calibration_bins(seen.calibration)
    intervals = [Interval(float(low), float(high)) for low, high in bounds.iou.T]
    groups = category_ious(matrix, classes, source.categories)
    road = [road_figures(counts, view) for view, counts in seen.road.items()]
    return Details(
        dice=_named(classes, scores),
        mean_dice=float(mean_of_known(scores)),
        miou_interval=Interval(float(bounds.miou[0]), float(bounds.miou[1])),
        iou_intervals=dict(zip(classes, intervals, strict=True)),
        category_iou=_named(list(source.categories), groups),
        instance_iou=seen.instances.iou(matrix) if seen.instances and seen.num_instances == len(matrices) else {},
        boundary=tuple(
            BoundaryFigures(
                each.width,
                _named(classes, each.iou()),
                _named(classes, each.f()),
                float(mean_of_known(each.iou())),
                float(mean_of_known(each.f())),
            )
            for each in seen.boundary
        ),
        ece=expected_calibration_error(bins),
        calibration=bins,
        road=tuple(each for each in road if each is not None),
    )


def _named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(names, map(float, values), strict=True))
