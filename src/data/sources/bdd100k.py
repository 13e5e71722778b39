"""BDD100K's semantic segmentation (Yu et al. 2020): 10,000 frames of 720x1280 with Cityscapes' 19 classes."""

from src.data.source import find_root
from src.data.sources.cityscapes_labels import CATEGORIES, CLASSES, LABEL_SET, TRAIN_ID_TABLE
from src.data.sources.paired import PairedFolders
from src.data.terms import BDD100K


class Bdd100k(PairedFolders):
    """`root/images/10k/{train,val,test}/*.jpg` and `root/labels/sem_seg/masks/{train,val}/*.png`.

    Masks hold 0..18 and 255. The older archive, with `root/seg/images` and `root/seg/labels/*/*_train_id.png`, is read
    too. The labels of test are kept back.

    Raises:
        UserError: neither layout in root.
    """

    dataset = "bdd100k"
    terms = BDD100K
    labels = LABEL_SET
    classes = CLASSES
    table = TRAIN_ID_TABLE
    categories = CATEGORIES
    splits = ("train", "val", "test")
    unlabelled = ("test",)

    def __init__(self, root: str) -> None:
        remedy = "holds images/10k/ and labels/sem_seg/masks/, as BDD100K's archives of the 10k images unpack"
        is_old = (find_root(root, "", remedy) / "seg/images").is_dir()
        self.root = find_root(root, "seg/images" if is_old else "images/10k", remedy)
        images, masks = ("seg/images", "seg/labels") if is_old else ("images/10k", "labels/sem_seg/masks")
        self.ending = "_train_id" if is_old else ""
        self.folders = {split: (f"{images}/{split}", f"{masks}/{split}") for split in ("train", "val")}
        self.folders["test"] = (f"{images}/test", None)

    def no_mask(self, split: str) -> str:
        return "unpack the archive of the semantic segmentation labels of BDD100K"
