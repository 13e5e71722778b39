"""ADE20K's scene parsing benchmark (Zhou et al. 2017): 150 classes, listed by a file of its archive."""

import re

from src.data.reading import read_text
from src.data.source import find_root
from src.data.sources.colours import voc_colour
from src.data.sources.paired import PairedFolders
from src.data.terms import ADE20K
from src.errors import UserError
from src.labels import IGNORE_INDEX


class Ade20k(PairedFolders):
    """`root/images/{training,validation}/*.jpg` and `root/annotations/{training,validation}/*.png`.

    This is the layout of ADEChallengeData2016.zip. Classes are read from its `objectInfo150.txt`: the first name of
    each line, in its order. Masks hold 1..150, and 0 for all else, which is ignored. The list has no colours: those
    of Pascal VOC's palette are shown.

    Raises:
        UserError: no `images/training` in root, no `objectInfo150.txt`, or another content of it.
    """

    dataset = "ade20k"
    terms = ADE20K
    splits = ("train", "val")

    def __init__(self, root: str) -> None:
        self.root = find_root(root, "images/training", "ADEChallengeData2016.zip was unpacked into")
        file = self.root / "objectInfo150.txt"
        rows = [line.split("\t") for line in read_text(file).splitlines()[1:] if line.strip()]
        numbers = [row[0].strip() for row in rows]
        if numbers != [str(number) for number in range(1, len(rows) + 1)] or not 2 <= len(rows) <= 254:
            raise UserError(f"{file}: is not the list of classes, numbered from 1; unpack the archive again")
        names = [re.split("[,;]", row[-1])[0].strip() for row in rows]
        if len(set(names)) < len(names):
            names = [row[-1].strip() for row in rows]
        self.classes = {name: voc_colour(number) for number, name in enumerate(names, 1)}
        self.table = {number: number - 1 for number in range(1, len(names) + 1)} | {0: IGNORE_INDEX, 255: IGNORE_INDEX}
        self.labels = f"ade20k-{len(names)}"
        folders = {"train": "training", "val": "validation"}
        self.folders = {split: (f"images/{name}", f"annotations/{name}") for split, name in folders.items()}
