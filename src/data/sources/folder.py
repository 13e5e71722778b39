"""A dataset of your own: a folder of images, one of masks, and a list of classes."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from src.data.grouping import IGNORE, RESERVED
from src.data.listing import foreign_fault, is_image, walk
from src.data.reading import IMAGE_SUFFIXES, read_beginning, read_text
from src.data.source import Colour, FileSource, Sample, find_root
from src.data.sources.own_masks import KINDS, OwnMasks
from src.errors import DataError, UserError
from src.labels import IGNORE_INDEX

SPLITS = ("train", "val", "test")
SPELLINGS = {"training": "train", "validation": "val", "valid": "val", "testing": "test", **{s: s for s in SPLITS}}
CLASS_FILES = ("classes.txt", "classes.yaml")
ID_BYTES = 2**16  # bytes of an image's file that its id is made from, with the file's size


class Folder(FileSource):
    """`root/images` and `root/masks`, with files of the same names, and `root/classes.txt`.

    `classes.txt` (or `.yaml`) has one line per class, `name: RED GREEN BLUE`, in the order of the ids; a fourth number
    is the label of the class in index masks, if that is not its position in the list. Another line of the same name
    adds a colour (and a label) to the class. Pixels of the name `ignore` are neither learnt nor counted.

    Splits are subfolders (`images/train`, `masks/train`, or `train/images`, `train/masks`), or lists with one name per
    line: `train.txt`, `val.txt`; without `train.txt`, train is every image that no list names. A `test` folder may lack
    masks. Without either, all images are train: hold out a share (data.val_share=0.25). Further subfolders are groups,
    such as drives; else `group` finds the group in a name; else all images are one group, which folds cut into blocks
    of neighbours.

    Args:
        masks: `auto`: each file shows whether it holds labels or colours, or is refused (see `OwnMasks`); `index`; or
            `colour`: grey and palette PNGs too are read by their colours.
        suffix: the end of a mask's name that its image's does not have (`_mask`).
        group: regular expression whose first group, found in a name, is the group of the image: `^([^_]+)_`.
        labels: a name for the label set, which is part of every figure's protocol.

    Raises:
        UserError: an argument out of range, no such root, no list of classes, a wrong line in it, no folder of images,
            one that looks like a split by another name, images beside those of the splits.
    """

    dataset = "folder"

    def __init__(
        self, root: str, masks: str = "auto", suffix: str = "", group: str | None = None, labels: str = "own"
    ) -> None:
        self.root = find_root(root, "", "holds images/ and masks/")
        if masks not in KINDS:
            raise UserError(f"masks={masks}: must be auto, index or colour")
        self.mask_kind, self.suffix, self.group = masks, suffix, group
        try:
            has_group = group is None or re.compile(group).groups > 0
        except re.error:
            has_group = False
        if not has_group:
            raise UserError(f"group={group}: must be a regular expression with a group, such as '^([^_]+)_'")
        file = next((self.root / name for name in CLASS_FILES if (self.root / name).is_file()), None)
        if file is None:
            raise UserError(f"{self.root}: no classes.txt; write one, with one line `name: RED GREEN BLUE` per class")
        self.classes, self.colours, self.table = read_classes(file)
        void_is_listed = IGNORE_INDEX in self.table
        self.table.setdefault(IGNORE_INDEX, IGNORE_INDEX)
        self.reader = OwnMasks(masks, self.colours, self.table, void_is_listed)
        self.labels = f"{labels}-{len(self.classes)}"
        self.folders = self._find_splits()
        self.splits = tuple(self.folders)
        if "test" in self.folders and not self.folders["test"][1].is_dir():
            self.unlabelled = ("test",)

    def _find_splits(self) -> dict[str, tuple[Path, Path]]:
        """Finds the folders of images and of masks of each split. With lists, or without splits, all have the same."""
        images, masks = self.root / "images", self.root / "masks"
        for each in [*_inner(images), *(path for path in _inner(self.root) if (path / "images").is_dir())]:
            split = SPELLINGS.get(each.name.lower())
            if split and each.name not in SPLITS and each.is_dir():
                raise UserError(f"{each}: the folders of splits are called {', '.join(SPLITS)}; rename it to {split}")
        for layout in (
            {split: (images / split, masks / split) for split in SPLITS},
            {split: (self.root / split / "images", self.root / split / "masks") for split in SPLITS},
            {split: (images, masks) for split in SPLITS if split == "train" or (self.root / f"{split}.txt").is_file()},
        ):
            if found := {split: folders for split, folders in layout.items() if folders[0].is_dir()}:
                for each in _inner(images) if images not in next(iter(found.values())) else ():
                    if each.name not in found and any(map(is_image, walk(each) if each.is_dir() else [each])):
                        raise UserError(f"{each}: is in none of the splits {', '.join(found)}; move it into one")
                return found
        raise UserError(f"{self.root}: no folder images/ (nor train/images/) there; put the images into it")

    def images(self, split: str) -> Iterator[Sample | DataError]:
        folder, _ = self.folders[split]
        files = list(walk(folder))
        paths = [path for path in files if is_image(path)]
        names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
        listed = self._listed(split, set(names))
        for name, path in sorted(zip(names, paths, strict=True)):
            if listed is None or name in listed:
                yield Sample(name, self._group_of(name), path)
        read = {path.with_suffix("") for path in paths}  # cameras write a JPEG beside a RAW file
        for path in files if listed is None else ():
            if path.with_suffix("") not in read and (fault := foreign_fault(path)):
                yield fault

    def mask_of(self, image: Path) -> Path:
        images, masks = next(pair for pair in self.folders.values() if image.is_relative_to(pair[0]))
        return masks / image.relative_to(images).with_name(f"{image.stem}{self.suffix}.png")

    def image_of(self, mask: Path) -> Path | None:
        for images, masks in self.folders.values():
            if mask.is_relative_to(masks) and mask.stem.endswith(self.suffix):
                name = f"{mask.stem.removesuffix(self.suffix)}.png"
                return images / mask.relative_to(masks).with_name(name)
        return None

    def no_images(self, split: str) -> str:
        folder = self.folders[split][0]
        if any(map(is_image, walk(folder))):
            file = self.root / f"{split}.txt"
            if file.is_file():
                return f"{file}: lists no image; add names to it"
            return f"{self.root}: the lists of the other splits leave no image for {split}; take names out of them"
        return f"{folder}: no image in it ({', '.join(IMAGE_SUFFIXES)})"

    def no_mask(self, split: str) -> str:
        return "add it, set data.suffix if masks have one more ending, or remove the image"

    def _listed(self, split: str, images: Collection[str]) -> set[str] | None:
        """Returns the names of a split by its list, without suffixes; None if the dataset has no lists, or subfolders.

        Lists beside subfolders are refused, unless they name the same images.
        """
        files = {other: self.root / f"{other}.txt" for other in SPLITS}
        lists = {other: read_list(file) for other, file in files.items() if file.is_file()}
        if self.folders[split][0] != self.root / "images":
            for other, names in lists.items():
                if other not in self.splits or (other == split and {*map(_last, names)} != {*map(_last, images)}):
                    raise UserError(
                        f"{files[other]}: lists other images than the subfolders of the splits hold, which are "
                        f"{', '.join(self.splits)}; rename or remove the list, or put all images into images/"
                    )
            return None
        if not lists:
            return None
        if split not in lists:
            lists[split] = sorted(set(images).difference(*lists.values()))
        if absent := [name for name in lists[split] if name not in images]:
            raise UserError(f"{files[split]}: no image {absent[0]!r} in {self.root / 'images'}; correct the list")
        for other, names in lists.items():
            if other != split and (both := sorted(set(names) & set(lists[split]))):
                raise UserError(f"{files[split]}: {both[0]!r} is in {other}.txt too; no image is in two splits")
        return set(lists[split])

    def _group_of(self, name: str) -> str:
        if self.group is None:
            return name.rpartition("/")[0]
        found = re.search(self.group, name)
        if found is None or found.group(1) is None:
            raise UserError(f"group={self.group}: nothing found in the name {name!r}; correct the expression")
        return found.group(1)

    def image_id(self, sample: Sample) -> str:
        """Identifies an image by its name and content: only these distinguish `train/0001` of two users."""
        assert sample.image is not None
        beginning = read_beginning(sample.image, ID_BYTES)
        content = hashlib.sha256(beginning + str(sample.image.stat().st_size).encode()).hexdigest()[:16]
        return f"{self.dataset}/{sample.image.stem}-{content}"

    def read_labels(self, mask: Path) -> np.ndarray:
        return self.reader.read(mask)


def read_classes(file: Path) -> tuple[dict[str, Colour], dict[Colour, int], dict[int, int]]:
    """Reads classes (name to colour), colour table and label table of a list. UserError names a wrong line."""
    classes: dict[str, Colour] = {}
    colours: dict[Colour, int] = {}
    table: dict[int, int] = {}
    for row, line in enumerate(read_text(file).splitlines(), 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        found = re.fullmatch(r"([^:]+):[\s\[]*(\d+)[\s,]+(\d+)[\s,]+(\d+)(?:[\s,]+(\d+))?[\s\]]*", text)
        numbers = [int(value) for value in found.groups()[1:] if value is not None] if found else []
        if found is None or max(numbers) > 255:
            raise UserError(f"{file}, line {row}: {text!r} is not `name: RED GREEN BLUE [LABEL]`, each 0 to 255")
        name, (red, green, blue, *label) = found.group(1).strip().strip("'\""), numbers
        colour = (red, green, blue)
        if name in RESERVED:
            raise UserError(f"{file}, line {row}: the name {name!r} has a meaning in configurations; give another")
        is_new = name != IGNORE and name not in classes
        if is_new:
            classes[name] = colour
        index = IGNORE_INDEX if name == IGNORE else list(classes).index(name)
        if not label and is_new:
            label = [index]
        additions: list[tuple[Any, dict[Any, int]]] = [(colour, colours), *((value, table) for value in label)]
        for key, entries in additions:
            if key in entries:
                raise UserError(f"{file}, line {row}: {key} of {name!r} is taken by an earlier line; give another")
            entries[key] = index
    if not 2 <= len(classes) <= 254:
        raise UserError(f"{file}: {len(classes)} classes; list 2 to 254, one line `name: RED GREEN BLUE` each")
    return classes, colours, table


def _inner(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.name[0] != ".") if folder.is_dir() else []


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def read_list(file: Path) -> list[str]:
    """Reads names, one per line, without the suffixes of images. UserError if one is listed twice."""
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    names = [line[: -len(Path(line).suffix)] if line.lower().endswith(IMAGE_SUFFIXES) else line for line in lines]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{file}: {twice[0]!r} is listed twice; correct the list")
    return names
