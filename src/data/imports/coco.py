"""COCO's instance annotations (`instances_*.json`; Roboflow's `_annotations.coco.json`): polygons and run lengths."""

from pathlib import Path
from typing import Any

from src.data.imports.shapes import Export, ImageFolder, Shape, ring, runs
from src.errors import UserError


def read_coco(file: Path, content: Any, images: ImageFolder) -> Export:
    """Reads a COCO file; classes are its categories in the order of their ids.

    Polygons of an annotation are united; COCO has no holes but in run lengths.

    Raises:
        UserError: a missing key, category or image, or a wrong polygon.
    """
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda c: c["id"])}
        entries = {entry["id"]: entry for entry in content["images"]}
        shapes: dict[Any, list[Shape]] = {number: [] for number in entries}
        export = Export([], list(categories.values()))
        for annotation in content["annotations"]:
            where, number = f"annotation {annotation.get('id')}", annotation["image_id"]
            if number not in entries or annotation["category_id"] not in categories:
                raise UserError(f"{file}: {where} names an image or a category that the file does not list; mend it")
            shape = _shape(file, where, categories[annotation["category_id"]], annotation, entries[number])
            if shape is None:
                export.left_out["bounding box without segmentation"] += 1
            else:
                shapes[number].append(shape)
        for number, entry in entries.items():
            size = (int(entry["height"]), int(entry["width"]))
            export.images.append(images.labelled(images.find(str(entry["file_name"]), file), shapes[number], size))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is no COCO file of instances ({error!r}); export it again") from error
    return export


def _shape(file: Path, where: str, label: str, annotation: dict, entry: dict) -> Shape | None:
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        return Shape(label, tuple((ring(points, file),) for points in segmentation))
    size = (int(entry["height"]), int(entry["width"]))
    counts = segmentation["counts"]
    try:
        return Shape(label, bitmap=runs(uncompress(counts) if isinstance(counts, str) else counts, size, "F"))
    except ValueError as error:
        raise UserError(f"{file}: {where}: its run lengths do not fit {size[0]}x{size[1]}; export it again") from error


def uncompress(text: str) -> list[int]:
    """Decodes COCO's compressed run lengths: base 32 digits from 48 on, low ones first; differences from the third.

    Raises:
        ValueError: the text ends within a number.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for code in text.encode():
        digit = code - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:  # more digits follow
            continue
        if digit & 16:  # negative
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift or any(count < 0 for count in counts):
        raise ValueError(text[:20])
    return counts
