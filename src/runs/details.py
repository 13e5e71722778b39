"""The figures that an evaluation has beside those of its confusion matrix, in `results.json`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a figure by the percentile bootstrap over images (`src.metrics.intervals`)."""

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
class CalibrationBin:
    """The labelled pixels whose confidence lies in one of equal parts of 0..1."""

    pixels: int
    confidence: float  # mean, NaN if there is no pixel
    accuracy: float


@dataclass(frozen=True)
class RoadFigures:
    """The figures of KITTI's road benchmark, in perspective view (`src.metrics.road`)."""

    view: str  # `perspective`, or `bird's-eye` by the frames' calibration
    max_f: float
    average_precision: float
    precision: float  # this and the rest at the threshold of MaxF
    recall: float
    false_positive_rate: float
    false_negative_rate: float
    threshold: float


@dataclass(frozen=True)
class Details:
    """What an evaluation has beside the figures of its matrix; a part that was not asked for is empty or None."""

    dice: dict[str, float]
    mean_dice: float
    miou_interval: Interval
    iou_intervals: dict[str, Interval]
    category_iou: dict[str, float] = field(default_factory=dict)  # of Cityscapes' and KITTI's groups of classes
    instance_iou: dict[str, float] = field(default_factory=dict)  # iIoU, of Cityscapes' classes with instances
    boundary: tuple[BoundaryFigures, ...] = ()
    ece: float = float("nan")  # expected calibration error
    calibration: tuple[CalibrationBin, ...] = ()  # the bins behind it, from confidence 0 to 1
    road: tuple[RoadFigures, ...] = ()  # by view
