"""The parts of an evaluation beside its confusion matrices. Without torch, as all that refuses wrong values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extras:
    """The parts of an evaluation beside the figures of its confusion matrices.

    Args:
        predictions: whether the predicted ids of each image are kept.
        worst: number of images of lowest mIoU that are kept and drawn.
        boundary: widths in pixels, of boundary IoU and boundary F.
        suspects: number of suspected label errors to list; 0 for none.
        birdseye: whether KITTI road's figures are computed in bird's-eye view too.
    """

    predictions: bool = True
    worst: int = 10
    boundary: tuple[int, ...] = ()
    suspects: int = 0
    birdseye: bool = False


NO_FILES = Extras(predictions=False, worst=0)
