"""KITTI's road benchmark (Fritsch et al. 2013): 289 frames, road or the car's own lane against the rest."""

from pathlib import Path

import numpy as np
from PIL import Image

from src.data.reading import list_images
from src.data.source import IGNORE_INDEX, FileSource, Sample
from src.data.sources.colours import read_colours
from src.errors import UserError

# How many frames of each category are train in R1's split; the last ten of each are val.
TRAIN = {"um": 85, "umm": 86, "uu": 88}
# The dev-kit's rule (getGroundTruth): road where blue is not 0, valid where red is not 0. No other colours occur.
COLOURS = {(255, 0, 255): 0, (255, 0, 0): 1, (0, 0, 0): IGNORE_INDEX, (0, 0, 255): IGNORE_INDEX}
# Rectification cropped the frames of each recording day to a size of its own (height, width).
DAYS = {
    (375, 1242): "2011_09_26", (370, 1224): "2011_09_28", (374, 1238): "2011_09_29", (370, 1226): "2011_09_30",
    (376, 1241): "2011_10_03",
}  # fmt: skip


class KittiRoad(FileSource):
    """`root/training/image_2/{um,umm,uu}_NNNNNN.png`, truth in `root/training/gt_image_2/`, as data_road.zip unpacks.

    Categories: um urban marked, umm urban with several marked lanes, uu urban unmarked. Frames are neighbours of a
    drive, and the split cuts through drives: val is optimistic, folds are not. No file tells the drive; the size tells
    the day, and no drive lasts longer: groups are category and day.

    Args:
        root: folder that holds `training`, and `testing` for prediction.
        task: `road`, or `lane`, which is there for um alone.

    Raises:
        UserError: root or a folder missing, a split without images, an image without its truth.
    """

    dataset = "kitti_road"
    splits = ("train", "val", "test")
    unlabelled = ("test",)

    def __init__(self, root: str, task: str = "road") -> None:
        self.root = Path(root).expanduser()
        if task not in ("road", "lane"):
            raise UserError(f"task={task}: must be road or lane")
        self.task = task
        self.labels = f"kitti-{task}-2"
        self.classes = {task.capitalize(): (255, 0, 255), f"Not_{task.capitalize()}": (255, 0, 0)}
        self.table = {0: 0, 1: 1, 255: IGNORE_INDEX}
        if not (self.root / "training" / "image_2").is_dir():
            raise UserError(
                f"data.root={root}: no folder training/image_2/ there; give the folder that KITTI's data_road.zip "
                "was unpacked into, e.g. data.root=~/data/kitti_road"
            )

    def samples(self, split: str) -> list[Sample]:
        self.check_split(split)
        folder = self.root / ("testing" if split == "test" else "training")
        images = {name: path for name, path in list_images(folder / "image_2").items() if self._is_in(name, split)}
        if not images:
            raise UserError(
                f"{folder / 'image_2'}: no frame of split {split!r} for task={self.task} there (train: um up to 84, "
                "umm up to 85, uu up to 87; val: the ten that follow); unpack data_road.zip, or use folds of train: "
                "data.num_folds=5 data.fold=0"
            )
        samples = []
        for name, path in images.items():
            category, digits = name.split("_")
            mask = None if split == "test" else folder / "gt_image_2" / f"{category}_{self.task}_{digits}.png"
            if mask is not None and not mask.is_file():
                raise UserError(f"{path}: image without truth; expected {mask}, or set task=... of what is there")
            samples.append(Sample(name, f"{category}_{day(path)}", path, mask))
        return samples

    def _is_in(self, name: str, split: str) -> bool:
        category, _, digits = name.partition("_")
        if category not in TRAIN or not digits.isdigit():
            raise UserError(f"{name}: KITTI road's frames are called um_, umm_ or uu_NNNNNN.png; remove the file")
        if self.task == "lane" and category != "um":
            return False
        return split == "test" or (int(digits) < TRAIN[category]) == (split == "train")

    def read_labels(self, sample: Sample) -> np.ndarray:
        return read_colours(sample.mask, COLOURS)


def day(path: Path) -> str:
    """The day a frame was recorded on, by its size; the size itself where it is none of KITTI's."""
    try:
        with Image.open(path) as image:  # reads the header alone
            width, height = image.size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); replace or remove the file") from error
    return DAYS.get((height, width), f"{height}x{width}")
