"""KITTI's road benchmark (Fritsch et al. 2013): 289 frames, the road or the car's own lane against the rest."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from src.data.listing import list_images
from src.data.reading import read_size
from src.data.source import FileSource, Sample, find_root
from src.data.sources.colours import read_colours
from src.data.terms import KITTI
from src.errors import DataError, UserError
from src.labels import IGNORE_INDEX

# The number of frames of each category that are train in R1's split; the last ten of each are val.
TRAIN = {"um": 85, "umm": 86, "uu": 88}
# The dev-kit's rule (getGroundTruth): a pixel is road if blue is not 0, valid if red is not 0. No other colours occur.
COLOURS = {(255, 0, 255): 0, (255, 0, 0): 1, (0, 0, 0): IGNORE_INDEX, (0, 0, 255): IGNORE_INDEX}
# Rectification cropped the frames of each recording day to a size of its own (height, width).
DAYS = {
    (375, 1242): "2011_09_26", (370, 1224): "2011_09_28", (374, 1238): "2011_09_29", (370, 1226): "2011_09_30",
    (376, 1241): "2011_10_03",
}  # fmt: skip


class KittiRoad(FileSource):
    """`root/training/image_2/{um,umm,uu}_NNNNNN.png`, truth in `root/training/gt_image_2/`, as in data_road.zip.

    Categories: um urban marked, umm urban with several marked lanes, uu urban unmarked. Frames are neighbours in a
    drive, and the split cuts through drives: val is optimistic, folds are not. No file has the drive of a frame, but
    its size gives the day, and no drive lasts longer: groups are category and day.

    Args:
        root: folder that holds `training`, and `testing` for prediction.
        task: `road`, or `lane`, which only um has.

    Raises:
        UserError: another task, or no `training/image_2` in root.
    """

    dataset = "kitti_road"
    terms = KITTI
    splits = ("train", "val", "test")
    unlabelled = ("test",)

    def __init__(self, root: str, task: str = "road") -> None:
        if task not in ("road", "lane"):
            raise UserError(f"task={task}: must be road or lane")
        self.task = task
        self.labels = f"kitti-{task}-2"
        self.classes = {task.capitalize(): (255, 0, 255), f"Not_{task.capitalize()}": (255, 0, 0)}
        self.detected = task.capitalize()
        self.table = {0: 0, 1: 1, 255: IGNORE_INDEX}
        remedy = "KITTI's data_road.zip was unpacked into, e.g. data.root=~/data/kitti_road"
        self.root = find_root(root, "training/image_2", remedy)

    def images(self, split: str) -> Iterator[Sample | DataError]:
        for path in list_images(self._folder(split) / "image_2"):
            category, _, digits = path.stem.partition("_")
            if category not in TRAIN or not digits.isdigit():
                text = "KITTI road's frames are called um_, umm_ or uu_NNNNNN.png; remove the file"
                yield DataError(path, "listing", text)
            elif self._is_in(category, int(digits), split):
                try:
                    yield Sample(path.stem, f"{category}_{day(path)}", path)
                except DataError as fault:
                    yield fault

    def _is_in(self, category: str, number: int, split: str) -> bool:
        if self.task == "lane" and category != "um":
            return False
        return split == "test" or (number < TRAIN[category]) == (split == "train")

    def mask_of(self, image: Path) -> Path:
        category, digits = image.stem.split("_")
        return self.root / "training" / "gt_image_2" / f"{category}_{self.task}_{digits}.png"

    def image_of(self, mask: Path) -> Path | None:
        category, _, rest = mask.name.partition(f"_{self.task}_")
        is_mask = mask.parent == self.root / "training" / "gt_image_2" and rest
        return self.root / "training" / "image_2" / f"{category}_{rest}" if is_mask else None

    def no_images(self, split: str) -> str:
        return (
            f"{self._folder(split) / 'image_2'}: no frame of split {split!r} for task={self.task} there (train: um up "
            "to 84, umm up to 85, uu up to 87; val: the ten that follow); unpack data_road.zip, or use folds of train: "
            "data.num_folds=5 data.fold=0"
        )

    def no_mask(self, split: str) -> str:
        return f"unpack data_road.zip, or set task={'lane' if self.task == 'road' else 'road'} if only that has masks"

    def _folder(self, split: str) -> Path:
        return self.root / ("testing" if split == "test" else "training")

    def read_labels(self, mask: Path) -> np.ndarray:
        return read_colours(mask, COLOURS)

    def read_road_plane(self, sample: Sample) -> np.ndarray:
        """From `calib/NAME.txt` beside `image_2`: P2, R0_rect and Tr_cam_to_road, as the dev-kit's BirdsEyeView.py."""
        assert sample.image is not None
        path = sample.image.parents[1] / "calib" / f"{sample.image.stem}.txt"
        if not path.is_file():
            raise DataError(path, "missing calibration", "no such file; unpack all of data_road.zip")
        try:
            lines = (line.partition(":") for line in path.read_text().splitlines())
            values = {key.strip(): [float(number) for number in numbers.split()] for key, _, numbers in lines}
            projection = np.reshape(values["P2"], (3, 4))
            rectify, to_road = np.eye(4), np.eye(4)
            rectify[:3, :3] = np.reshape(values["R0_rect"], (3, 3))
            to_road[:3] = np.reshape(values["Tr_cam_to_road"], (3, 4))
            # The road is at height 0: its column drops out.
            return (projection @ rectify @ np.linalg.inv(to_road))[:, [0, 2, 3]]
        except (KeyError, ValueError, np.linalg.LinAlgError) as error:
            text = f"no calibration with P2, R0_rect and Tr_cam_to_road ({error}); unpack data_road.zip again"
            raise DataError(path, "damaged calibration", text) from error


def day(path: Path) -> str:
    """The day a frame was recorded on, by its size; the size itself if it is none of KITTI's.

    Raises:
        DataError: the file has no header of an image.
    """
    size = read_size(path)
    return DAYS.get(size, f"{size[0]}x{size[1]}")
