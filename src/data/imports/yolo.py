"""YOLO's segmentation labels: one text file per image, one line per area: class, then x y ... as shares of the size."""

import re
from pathlib import Path

import numpy as np
import yaml

from src.data.imports.shapes import Export, ImageFolder, Shape, ring
from src.data.reading import read_size, read_text
from src.errors import UserError

LONGEST = 1 << 20  # bytes of a line
LARGEST = 1.5  # of a coordinate; an area may end somewhat outside of its image
LISTS = ("data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names")


def is_yolo(file: Path) -> bool:
    """Returns whether a file is one of YOLO's labels by its first line; an image without an area has an empty one."""
    if file.suffix != ".txt":
        return False
    with file.open("rb") as text:
        return re.fullmatch(rb"(\d+(\s+[-+.\deE]+)+)?\s*", text.readline(LONGEST)) is not None


def read_yolo(folder: Path, images: ImageFolder, classes: list[str] | None) -> Export:
    """Reads the labels of a folder: `NAME.txt` of the image `NAME`. An image without a file has no area.

    Args:
        folder: the folder of the text files; the list of classes (`data.yaml`, `classes.txt`) is in it or above it.
        classes: names by number, in place of the list.

    Raises:
        UserError: no list of classes, a wrong line, or labels without an image.
    """
    names = classes or _names(folder)
    labels = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.txt"))}
    labels = {name: path for name, path in labels.items() if path.name not in LISTS}
    export = Export([], names)
    for relative, image in images.paths.items():
        size = read_size(image, upright=True)
        shapes = []
        file = labels.pop(Path(relative).with_suffix("").as_posix(), None)
        for row, line in enumerate(read_text(file).splitlines() if file else (), 1):
            if line.strip():
                if (shape := _shape(f"{file}, line {row}", line.split(), names, size)) is None:
                    export.left_out["box"] += 1
                else:
                    shapes.append(shape)
        export.images.append(images.labelled(image, shapes, size))
    if labels:
        raise UserError(f"{next(iter(labels.values()))}: labels without an image in {images.folder}; give images=DIR")
    return export


def _shape(where: str, words: list[str], names: list[str], size: tuple[int, int]) -> Shape | None:
    try:
        number, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise UserError(f"{where}: is not `CLASS x y x y ...`; mend it") from error
    if not 0 <= number < len(names):
        raise UserError(f"{where}: class {number} is not one of the {len(names)} listed ({', '.join(names)})")
    if len(values) == 4:
        return None
    if len(values) % 2:
        raise UserError(f"{where}: has {len(values)} coordinates, an odd number; mend it")
    if (largest := max(map(abs, values), default=0.0)) > LARGEST:
        height, width = size
        raise UserError(
            f"{where}: the coordinate {largest:g} is no share of the image's size (0 to 1); if they are pixels, divide "
            f"x by {width} and y by {height}"
        )
    points = ring(values, Path(where)) * np.array(size[::-1])
    return Shape(names[number], ((points,),))


def _names(folder: Path) -> list[str]:
    for place in (folder, *folder.absolute().parents[:3]):
        for name in LISTS:
            if not (file := place / name).is_file():
                continue
            text = read_text(file)
            if file.suffix not in (".yaml", ".yml"):
                return [line.strip() for line in text.splitlines() if line.strip()]
            try:
                names = yaml.safe_load(text)["names"]
                return [str(names[key]) for key in range(len(names))]
            except (yaml.YAMLError, TypeError, KeyError, IndexError) as error:
                raise UserError(f"{file}: has no list `names` of the classes by number; give classes=[...]") from error
    raise UserError(
        f"{folder}: no {', '.join(LISTS)} in it or above it; give classes=[...] in the order of the numbers"
    )
