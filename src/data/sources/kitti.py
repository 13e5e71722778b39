"""KITTI's semantic benchmark (Alhaija et al. 2018): 200 frames of the 2015 scene flow set, labelled as Cityscapes."""

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from src.data.listing import list_images
from src.data.source import FileSource, Sample, find_root
from src.data.sources.cityscapes_labels import CATEGORIES, CLASSES, ID_TABLE, LABEL_SET
from src.data.terms import KITTI
from src.errors import DataError, UserError

# MSeg's val (mseg-api, dataset_lists/kitti-19/list/val.txt), drawn frame by frame; the other 150 are its train.
MSEG_VAL = (
    1, 3, 7, 8, 20, 22, 24, 25, 26, 30, 37, 43, 49, 50, 52, 57, 60, 61, 63, 68, 71, 72, 76, 79, 86,
    96, 101, 115, 121, 128, 129, 131, 133, 134, 137, 139, 140, 141, 142, 144, 146, 149,
    156, 157, 169, 175, 178, 190, 192, 196,
)  # fmt: skip
# The number of each drive's first frame, from the scene flow dev-kit's mapping to the raw data, which has 142 frames of
# the 200. Frames are numbered drive by drive; those between two mapped drives come from drives that were not published,
# and are one group, named after its first frame.
DRIVES = {
    0: "unmapped_000", 2: "2011_09_26_0005", 4: "unmapped_004", 7: "2011_09_26_0009", 13: "2011_09_26_0011",
    18: "2011_09_26_0013", 22: "2011_09_26_0014", 34: "2011_09_26_0015", 43: "2011_09_26_0017", 47: "2011_09_26_0018",
    54: "2011_09_26_0019", 57: "2011_09_26_0022", 60: "2011_09_26_0027", 62: "2011_09_26_0028", 70: "2011_09_26_0029",
    72: "2011_09_26_0032", 82: "unmapped_082", 83: "2011_09_26_0036", 85: "2011_09_26_0046", 87: "unmapped_087",
    88: "2011_09_26_0051", 99: "unmapped_099", 105: "2011_09_26_0056", 112: "2011_09_26_0057", 118: "2011_09_26_0059",
    128: "2011_09_26_0070", 130: "2011_09_26_0084", 133: "unmapped_133", 141: "2011_09_26_0096", 144: "2011_09_26_0101",
    149: "2011_09_26_0104", 151: "unmapped_151", 155: "2011_09_28_0002", 156: "unmapped_156", 157: "2011_09_29_0004",
    165: "unmapped_165", 168: "2011_09_29_0071", 170: "unmapped_170", 199: "2011_10_03_0047",
}  # fmt: skip


class Kitti(FileSource):
    """`root/training/image_2/NNNNNN_10.png` and `root/training/semantic/NNNNNN_10.png`, as in data_semantics.zip.

    Sizes vary: 370 to 376 x 1224 to 1242. The benchmark asks students to stay within the training set: train and val
    are MSeg's 150 and 50 of it. As these were drawn frame by frame, val has frames of train's drives; folds do not.
    Groups are drives.

    Args:
        root: folder that holds `training`, and `testing` for the server.
        split: `mseg`, or `all`: train is all 200 frames, for folds, and no split is val.

    Raises:
        UserError: another split, or no `training/image_2` in root.
    """

    dataset = "kitti"
    terms = KITTI
    labels = LABEL_SET
    classes = CLASSES
    table = ID_TABLE
    categories = CATEGORIES
    unlabelled = ("test",)

    def __init__(self, root: str, split: str = "mseg") -> None:
        if split not in ("mseg", "all"):
            raise UserError(f"split={split}: must be mseg (150 train, 50 val) or all (200 train, for folds)")
        self.split = split
        self.splits = ("train", "val", "test") if split == "mseg" else ("train", "test")
        remedy = "KITTI's data_semantics.zip was unpacked into, e.g. data.root=~/data/kitti"
        self.root = find_root(root, "training/image_2", remedy)

    def images(self, split: str) -> Iterator[Sample | DataError]:
        for path in list_images(self._folder(split) / "image_2"):
            number = path.stem.removesuffix("_10")
            # The scene flow archive unpacks into the same folders, and adds the frames that follow: NNNNNN_11.
            if number == path.stem:
                continue
            if not number.isdigit():
                yield DataError(path, "listing", "KITTI's frames are called NNNNNN_10.png; remove the file")
            elif split == "test":
                yield Sample(path.stem, f"test_{path.stem}", path)
            elif self.split == "all" or (int(number) in MSEG_VAL) == (split == "val"):
                yield Sample(path.stem, drive(path.stem), path)

    def mask_of(self, image: Path) -> Path:
        return self.root / "training" / "semantic" / image.name

    def image_of(self, mask: Path) -> Path | None:
        is_mask = mask.parent == self.root / "training" / "semantic"
        return self.root / "training" / "image_2" / mask.name if is_mask else None

    def no_images(self, split: str) -> str:
        folder = self._folder(split) / "image_2"
        return f"{folder}: no frame NNNNNN_10.png of split {split!r} there; unpack data_semantics.zip again"

    def no_mask(self, split: str) -> str:
        return "unpack data_semantics.zip"

    def _folder(self, split: str) -> Path:
        return self.root / ("testing" if split == "test" else "training")

    def official_path(self, sample: Sample) -> str:
        """The name that the server expects, in the folder that the dev-kit mirrors."""
        return f"semantic/{sample.name}.png"


def drive(name: str) -> str:
    """The drive that a frame such as `000058_10` is from."""
    starts = list(DRIVES)
    return DRIVES[starts[bisect_right(starts, int(name.removesuffix("_10"))) - 1]]
