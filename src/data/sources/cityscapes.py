"""Cityscapes (Cordts et al. 2016): 1024x2048 frames of 50 cities, 19 of 34 labels are learnt and evaluated."""

from pathlib import Path

import numpy as np

from src.data.reading import read_mask
from src.data.source import FileSource, Sample
from src.data.sources.cityscapes_labels import CLASSES, ID_TABLE, LABEL_SET, TRAIN_ID_TABLE
from src.errors import UserError

IMAGE, COARSE = "_leftImg8bit.png", "train_extra"


class Cityscapes(FileSource):
    """`root/leftImg8bit/<split>/<city>/*_leftImg8bit.png` and `root/gtFine/<split>/<city>/*_gtFine_labelIds.png`.

    As the archives leftImg8bit_trainvaltest and gtFine_trainvaltest unpack. Where a city has no labelIds,
    `*_gtFine_labelTrainIds.png` (cityscapesScripts' createTrainIdLabelImgs) are read. Groups are cities. The labels of
    test are kept back: its archive has dummies, which are not read.

    Args:
        root: folder that holds `leftImg8bit` and `gtFine`.
        extra: also train on the 19,998 coarsely labelled frames of `leftImg8bit/train_extra` and `gtCoarse/train_extra`
            (archives leftImg8bit_trainextra and gtCoarse); folds never hold these out.

    Raises:
        UserError: root or a folder missing, a split without images, an image without its mask.
    """

    dataset = "cityscapes"
    labels = LABEL_SET
    classes = CLASSES
    table = ID_TABLE
    unlabelled = ("test",)

    def __init__(self, root: str, extra: bool = False) -> None:
        self.root = Path(root).expanduser()
        self.splits = ("train", "val", "test", *((COARSE,) if extra else ()))
        self.extra_splits = (COARSE,) if extra else ()
        if not (self.root / "leftImg8bit").is_dir():
            raise UserError(
                f"data.root={root}: no folder leftImg8bit/ there; give the folder that holds leftImg8bit/ and gtFine/ "
                "as Cityscapes' archives unpack, e.g. data.root=~/data/cityscapes"
            )

    def samples(self, split: str) -> list[Sample]:
        self.check_split(split)
        folder = self.root / "leftImg8bit" / split
        cities = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        samples = [sample for city in cities for sample in self._city(city, split)]
        if not samples:
            archive = "leftImg8bit_trainextra" if split == COARSE else "leftImg8bit_trainvaltest"
            raise UserError(f"{folder}: no <city>/*{IMAGE} there; unpack {archive}.zip into {self.root}")
        return samples

    def _city(self, folder: Path, split: str) -> list[Sample]:
        kind = "gtCoarse" if split == COARSE else "gtFine"
        masks = self.root / kind / split / folder.name
        there = {path.name for path in masks.iterdir()} if masks.is_dir() and split not in self.unlabelled else set()
        endings = [f"_{kind}_labelIds.png", f"_{kind}_labelTrainIds.png"]
        ending = next((end for end in endings if any(name.endswith(end) for name in there)), endings[0])
        samples = []
        for image in sorted(folder.glob(f"*{IMAGE}")):
            name = image.name.removesuffix(IMAGE)
            if split in self.unlabelled:
                samples.append(Sample(name, folder.name, image))
                continue
            if name + ending not in there:
                raise UserError(
                    f"{image}: image without mask; expected {masks / (name + ending)}, unpack "
                    f"{'gtCoarse' if split == COARSE else 'gtFine_trainvaltest'}.zip into {self.root}"
                )
            samples.append(Sample(name, folder.name, image, masks / (name + ending)))
        return samples

    def read_labels(self, sample: Sample) -> np.ndarray:
        has_train_ids = sample.mask.name.endswith("labelTrainIds.png")
        return read_mask(sample.mask, TRAIN_ID_TABLE if has_train_ids else self.table)

    def official_path(self, sample: Sample) -> str:
        """Where the evaluation server and evalPixelLevelSemanticLabeling look for a prediction: CITY_SEQ_FRAME*.png."""
        return f"{sample.name}_labelIds.png"
