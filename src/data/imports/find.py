"""Finds out which tool an export is from, and reads it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.data.imports.coco import read_coco
from src.data.imports.cvat import read_cvat, read_label_map
from src.data.imports.label_studio import read_label_studio
from src.data.imports.labelme import read_labelme
from src.data.imports.shapes import Export, ImageFolder
from src.data.imports.supervisely import read_supervisely
from src.data.imports.yolo import is_yolo, read_yolo
from src.data.listing import walk
from src.data.reading import read_text
from src.errors import UserError

FORMATS = ("coco", "labelme", "yolo", "cvat", "cvat_masks", "label_studio", "supervisely")


def read_export(path: Path, kind: str, images: Path | None, classes: list[str] | None) -> Export:
    """Reads an export.

    Args:
        path: its file, or its folder.
        kind: one of FORMATS, or `auto`: as the files show.
        images: the folder of the images; None: where the format has it.
        classes: names in the order of the ids, for formats without a list.

    Raises:
        UserError: no such file, a format that is not known, or a fault of the export.
    """
    if not path.exists():
        raise UserError(f"input={path}: no such file or folder")
    if kind not in (*FORMATS, "auto"):
        raise UserError(f"format={kind}: must be auto or one of {', '.join(FORMATS)}")
    file = path if path.is_file() else _main_file(path)
    if kind == "auto":
        kind = _recognise(path, file)
    folder = path if path.is_dir() else path.parent

    def within(usual: Path) -> ImageFolder:
        return ImageFolder(images or (usual if usual.is_dir() else folder))

    if kind == "yolo":
        parts = list(path.absolute().parts)
        places = [place for place, part in enumerate(parts) if part == "labels"]
        usual = Path(*parts[: places[-1]], "images", *parts[places[-1] + 1 :]) if places else path
        return read_yolo(path, within(usual), classes)
    if kind in ("labelme", "supervisely"):
        # A file of labelme is read beside the others of its folder only if the folder was given.
        found = [path] if path.is_file() else [each for each in walk(path) if each.suffix == ".json"]
        if kind == "labelme":
            return read_labelme([(each, read_json_file(each)) for each in found], within(folder))
        root = folder.parent if path.is_file() else path
        meta = root / "meta.json"
        files = [(each, read_json_file(each)) for each in found if each.parent.name == "ann"]
        return read_supervisely(meta, read_json_file(meta), files, within(root))
    if file is None:
        raise UserError(f"input={path}: no file of the format {kind} in this folder; give the file itself")
    readers: dict[str, Callable[[], Export]] = {
        "coco": lambda: read_coco(file, read_json_file(file), within(folder)),
        "cvat": lambda: read_cvat(file, within(folder / "images")),
        "cvat_masks": lambda: read_label_map(file, within(folder / "JPEGImages")),
        "label_studio": lambda: read_label_studio(file, read_json_file(file), within(folder / "images")),
    }
    return readers[kind]()


def _main_file(folder: Path) -> Path | None:
    """The file of a folder that describes all of its images; None if there is none, or several."""
    for pattern in ("annotations.xml", "labelmap.txt", "_annotations.coco.json", "meta.json"):
        if (folder / pattern).is_file():
            return folder / pattern
    found = sorted(folder.glob("*.json"))
    return found[0] if len(found) == 1 else None


def _recognise(path: Path, file: Path | None) -> str:
    if file is not None and file.name == "labelmap.txt":
        return "cvat_masks"
    if file is not None and file.suffix == ".xml":
        return "cvat"
    if path.is_dir() and (path / "meta.json").is_file():
        return "supervisely"
    if path.is_dir() and any(path.glob("task-*-annotation-*.png")):
        raise UserError(
            f"input={path}: these are brush masks that Label Studio exported as PNG, which name a task and no image; "
            "export the project as JSON, which has the same masks"
        )
    first = file or next((each for each in walk(path) if each.suffix == ".json" or is_yolo(each)), None)
    if first is not None and first.suffix == ".txt":
        return "yolo"
    content = read_json_file(first) if first is not None and first.suffix == ".json" else None
    if isinstance(content, dict) and "annotations" in content and "categories" in content:
        return "coco"
    if isinstance(content, dict) and "shapes" in content:
        return "labelme"
    if isinstance(content, list) and content and isinstance(content[0], dict) and "annotations" in content[0]:
        return "label_studio"
    raise UserError(f"input={path}: no export that is known by its files; give format=, one of {', '.join(FORMATS)}")


def read_json_file(file: Path) -> Any:
    """Reads a JSON file. UserError if it is none."""
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: is no JSON ({error}); export it again") from error
