"""The figures that an evaluation has beside those of its confusion matrix, in `results.json`."""

from dataclasses import dataclass, field, replace

from src.metrics.calibration import CalibrationBin
from src.metrics.road import RoadFigures


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a figure by the bootstrap over images (`src.metrics.intervals`)."""

    low: float
    high: float


@dataclass(frozen=True)
class BoundaryFigures:
    """Boundary IoU and boundary F of each class, counted over the split, at one width (`src.metrics.boundary`)."""

    width: int  # pixels
    iou: dict[str, float]
    f: dict[str, float]
    miou: float
    mean_f: float


@dataclass(frozen=True)
class Details:
    """Figures of an evaluation beyond its confusion matrix; those that were not measured are empty or NaN."""

    dice: dict[str, float]
    mean_dice: float
    miou_interval: Interval
    iou_intervals: dict[str, Interval]
    category_iou: dict[str, float] = field(default_factory=dict)  # of Cityscapes' and KITTI's groups of classes
    # Cityscapes' iIoU, of classes with instances and of groups of such.
    instance_iou: dict[str, float] = field(default_factory=dict)
    boundary: tuple[BoundaryFigures, ...] = ()
    ece: float = float("nan")  # expected calibration error
    calibration: tuple[CalibrationBin, ...] = ()  # the bins behind it, from confidence 0 to 1
    road: tuple[RoadFigures, ...] = ()  # by view

    def keep(self, earlier: "Details") -> "Details":
        """Adds the boundaries and views of an earlier measurement of the same that this one left out."""
        boundary = {each.width: each for each in (*earlier.boundary, *self.boundary)}
        road = {each.view: each for each in (*earlier.road, *self.road)}
        return replace(self, boundary=tuple(boundary[width] for width in sorted(boundary)), road=tuple(road.values()))
