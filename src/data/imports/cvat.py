"""CVAT's exports: `CVAT for images 1.1` (annotations.xml), and the label table of `Segmentation mask 1.1`."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from src.data.frame import Colour
from src.data.imports.shapes import Export, ImageFolder, Shape, hex_colour, ring, runs
from src.data.listing import walk
from src.data.reading import open_mask, read_text
from src.errors import UserError

AREAS = ("polygon", "mask")


def read_cvat(file: Path, images: ImageFolder) -> Export:
    """Reads polygons and masks of annotations.xml; `z_order` decides which covers which, then the order in the file.

    Raises:
        UserError: another kind of XML, a wrong polygon, or no such image.
    """
    try:
        root = ElementTree.fromstring(read_text(file))
        if root.find("image") is None:
            raise UserError(f"{file}: has no <image>; export the task as `CVAT for images 1.1` (not for video)")
        labels = root.iterfind("meta//labels/label")
        listed = {entry.findtext("name", ""): entry.findtext("color") or "" for entry in labels}
        export = Export([], list(listed) or None, {name: hex_colour(text) for name, text in listed.items() if text})
        for entry in root.iterfind("image"):
            size = (int(entry.attrib["height"]), int(entry.attrib["width"]))
            areas = [child for child in entry if child.tag in AREAS]
            export.left_out.update(child.tag for child in entry if child.tag not in (*AREAS, "tag"))
            areas.sort(key=lambda child: int(child.get("z_order", 0)))
            shapes = [_shape(file, child) for child in areas]
            export.images.append(images.labelled(images.find(entry.attrib["name"], file), shapes, size))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: is no annotations.xml of CVAT ({error}); export it again") from error
    return export


def _shape(file: Path, child: ElementTree.Element) -> Shape:
    label = child.attrib["label"]
    if child.tag == "polygon":
        points = [tuple(map(float, pair.split(","))) for pair in child.attrib["points"].split(";")]
        return Shape(label, ((ring(points, file),),))
    top, left, height, width = (int(float(child.attrib[key])) for key in ("top", "left", "height", "width"))
    bitmap = runs(map(int, child.attrib["rle"].split(",")), (height, width))
    return Shape(label, bitmap=bitmap, corner=(top, left))


def read_label_map(file: Path, images: ImageFolder) -> Export:
    """Reads `labelmap.txt` and the colour masks in `SegmentationClass` beside it (the layout of Pascal VOC).

    The label `background` is that of unlabelled pixels.

    Raises:
        UserError: a wrong line, a colour of a mask that is not listed, a mask without image.
    """
    colours: dict[str, Colour] = {}
    for row, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"(.+?):(\d+),(\d+),(\d+):.*:.*", line.strip())
        if found is None or max(map(int, found.groups()[1:])) > 255:
            raise UserError(f"{file}, line {row}: {line!r} is not `NAME:RED,GREEN,BLUE:PARTS:ACTIONS`; export it again")
        red, green, blue = map(int, found.groups()[1:])
        colours[found.group(1)] = (red, green, blue)
    if len(set(colours.values())) < len(colours):
        raise UserError(f"{file}: two labels have one colour; give each a colour of its own in CVAT")
    folder = file.parent / "SegmentationClass"
    masks = [path for path in walk(folder) if path.suffix == ".png"] if folder.is_dir() else []
    if not masks:
        raise UserError(f"{folder}: no PNG there; export the task as `Segmentation mask 1.1`")
    unlabelled = colours.pop("background", (0, 0, 0))
    export = Export([], list(colours), colours)
    for path in masks:
        pixels = np.asarray(open_mask(path).convert("RGB"))
        shapes, known = [], (pixels == unlabelled).all(axis=2)
        for name, colour in colours.items():
            bitmap = (pixels == colour).all(axis=2)
            known |= bitmap
            if bitmap.any():
                shapes.append(Shape(name, bitmap=bitmap))
        if not known.all():
            colour = tuple(pixels[~known][0].tolist())
            raise UserError(f"{path}: {(~known).sum()} pixels have colours that {file.name} does not list, as {colour}")
        image = images.find(path.relative_to(folder).with_suffix("").as_posix(), path)
        export.images.append(images.labelled(image, shapes, pixels.shape[:2]))
    return export
