"""Cityscapes (Cordts et al. 2016): 1024x2048 frames of 50 cities, 19 of 34 labels are learnt and evaluated."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from src.data.listing import list_folders, list_images
from src.data.reading import read_mask, read_numbers
from src.data.source import FileSource, Sample, find_root
from src.data.sources.cityscapes_labels import (
    CATEGORIES,
    CLASSES,
    ID_TABLE,
    INSTANCE_SIZES,
    LABEL_SET,
    TRAIN_ID_TABLE,
)
from src.data.terms import CITYSCAPES

IMAGE, COARSE = "_leftImg8bit.png", "train_extra"


class Cityscapes(FileSource):
    """`root/leftImg8bit/<split>/<city>/*_leftImg8bit.png` and `root/gtFine/<split>/<city>/*_gtFine_labelIds.png`.

    This is the layout of the archives leftImg8bit_trainvaltest and gtFine_trainvaltest. A frame without labelIds is
    read from its `*_gtFine_labelTrainIds.png` (cityscapesScripts' createTrainIdLabelImgs). Groups are cities. The
    labels of test are kept back: its archive has dummies, which are not read.

    Args:
        extra: also trains on the 19,998 coarsely labelled frames of `leftImg8bit/train_extra` and
            `gtCoarse/train_extra` (archives leftImg8bit_trainextra and gtCoarse); folds never hold these out.

    Raises:
        UserError: no `leftImg8bit` in root.
    """

    dataset = "cityscapes"
    terms = CITYSCAPES
    labels = LABEL_SET
    classes = CLASSES
    table = ID_TABLE
    categories = CATEGORIES
    instance_sizes = INSTANCE_SIZES
    unlabelled = ("test",)

    def __init__(self, root: str, extra: bool = False) -> None:
        remedy = "holds leftImg8bit/ and gtFine/ as Cityscapes' archives unpack, e.g. data.root=~/data/cityscapes"
        self.root = find_root(root, "leftImg8bit", remedy)
        self.extra_splits = (COARSE,) if extra else ()
        self.splits = ("train", "val", "test", *self.extra_splits)

    def images(self, split: str) -> Iterator[Sample]:
        folder = self.root / "leftImg8bit" / split
        for city in list_folders(folder) if folder.is_dir() else ():
            for path in list_images(city):
                if path.name.endswith(IMAGE):
                    yield Sample(path.name.removesuffix(IMAGE), city.name, path)

    def mask_of(self, image: Path) -> Path:
        split, city, name = image.parents[1].name, image.parent.name, image.name.removesuffix(IMAGE)
        start = f"{name}_{kind_of(split)}"
        folder = self.root / kind_of(split) / split / city
        ids, train_ids = folder / f"{start}_labelIds.png", folder / f"{start}_labelTrainIds.png"
        return train_ids if not self.find(ids) and self.find(train_ids) else ids

    def image_of(self, mask: Path) -> Path | None:
        split, city = mask.parent.parent.name, mask.parent.name
        ending = f"_{kind_of(split)}_labelIds.png"
        is_labelled = split in self.splits and split not in self.unlabelled
        if not is_labelled or mask.parents[1] != self.root / kind_of(split) / split or not mask.name.endswith(ending):
            return None
        return self.root / "leftImg8bit" / split / city / mask.name.replace(ending, IMAGE)

    def no_images(self, split: str) -> str:
        archive = "leftImg8bit_trainextra" if split == COARSE else "leftImg8bit_trainvaltest"
        folder = self.root / "leftImg8bit" / split
        return f"{folder}: no <city>/*{IMAGE} there; unpack {archive}.zip into {self.root}"

    def no_mask(self, split: str) -> str:
        return f"unpack {'gtCoarse' if split == COARSE else 'gtFine_trainvaltest'}.zip into {self.root}"

    def read_labels(self, mask: Path) -> np.ndarray:
        has_train_ids = mask.name.endswith("labelTrainIds.png")
        return read_mask(mask, TRAIN_ID_TABLE if has_train_ids else self.table)

    def read_instances(self, sample: Sample) -> np.ndarray | None:
        """Numbers above 1000 in `*_instanceIds.png`, beside the mask; lower ones are areas without instances."""
        name = sample.files[1].name
        path = sample.files[1].with_name(f"{name[: name.rindex('_')]}_instanceIds.png")
        if not path.is_file():
            return None
        numbers = read_numbers(path)
        return np.where(numbers > 1000, numbers, 0)

    def official_path(self, sample: Sample) -> str:
        """The name by which the evaluation server and evalPixelLevelSemanticLabeling find it: CITY_SEQ_FRAME*.png."""
        return f"{sample.name}_labelIds.png"


def kind_of(split: str) -> str:
    """The folder of the labels of a split, which is also a part of their names."""
    return "gtCoarse" if split == COARSE else "gtFine"
