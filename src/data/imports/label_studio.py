"""Label Studio's JSON export: polygons and rectangles in percent of the image, brush masks in run lengths."""

from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

from src.data.imports.shapes import Export, ImageFolder, Shape, ring
from src.data.listing import is_image
from src.errors import UserError

KINDS = ("polygonlabels", "rectanglelabels", "brushlabels")


def read_label_studio(file: Path, content: Any, images: ImageFolder) -> Export:
    """Reads the first annotation of each task that was not cancelled. The export has no list of classes.

    Raises:
        UserError: another kind of JSON, a wrong polygon, several labels of an area, or no such image.
    """
    export = Export([])
    try:
        for task in content:
            done = [each for each in task["annotations"] if not each.get("was_cancelled")]
            if not done:
                export.left_out["task without annotation"] += 1
                continue
            shapes, size = [], None
            for result in done[0]["result"]:
                kind = str(result.get("type"))
                if kind not in KINDS:
                    export.left_out[kind] += 1
                    continue
                size = (int(result["original_height"]), int(result["original_width"]))
                if result.get("image_rotation"):
                    raise UserError(f"{file}: task {task.get('id')} is rotated in Label Studio; turn the image itself")
                shapes.append(_shape(file, task, kind, result["value"], size))
            if len(done) > 1:
                export.left_out["annotation beside the first of a task"] += len(done) - 1
            export.images.append(images.labelled(_image(file, task, images), shapes, size))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is no JSON export of Label Studio ({error!r}); export it as JSON") from error
    return export


def _image(file: Path, task: dict, images: ImageFolder) -> Path:
    """The image of a task, which its data name, if it can with a suffix; an upload has a prefix of eight characters."""
    values = [value for value in task["data"].values() if isinstance(value, str)]
    names = [unquote(urlparse(value).query.removeprefix("d=") or urlparse(value).path) for value in values]
    found = set()
    for name in [name for name in names if is_image(Path(name))] or names:
        last = name.rsplit("/", 1)[-1]
        for each in (name, last, last.partition("-")[2]):
            with suppress(UserError):
                if each:
                    found.add(images.find(each, file))
                    break
    if len(found) == 1:
        return found.pop()
    where = f"{file}: task {task.get('id')}"
    if found:
        known = " and ".join(sorted(path.name for path in found))
        raise UserError(f"{where}: its data name several images ({known}); leave one of them in {images.folder}")
    raise UserError(f"{where}: no image of {values} in {images.folder}; give images=DIR")


def _shape(file: Path, task: dict, kind: str, value: dict, size: tuple[int, int]) -> Shape:
    labels = value[kind]
    if len(labels) != 1:
        raise UserError(f"{file}: task {task.get('id')}: an area has the labels {labels}; a pixel has one class")
    label, scale = str(labels[0]), np.array(size[::-1]) / 100
    if kind == "polygonlabels":
        return Shape(label, ((ring(value["points"], file) * scale,),))
    if kind == "brushlabels":
        if value.get("format", "rle") != "rle":
            raise UserError(f"{file}: task {task.get('id')}: brush in format {value['format']!r}; export it as JSON")
        try:
            pixels = decode_brush(bytes(value["rle"]))
            return Shape(label, bitmap=pixels.reshape(*size, 4)[..., 3] > 0)
        except (ValueError, IndexError) as error:
            raise UserError(f"{file}: task {task.get('id')}: a brush mask is damaged; export it again") from error
    # Turned about its upper left corner.
    corners = np.array([(0, 0), (value["width"], 0), (value["width"], value["height"]), (0, value["height"])]) * scale
    angle = np.deg2rad(value.get("rotation", 0))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Shape(label, ((corners @ turn + np.array([value["x"], value["y"]]) * scale,),))


def decode_brush(data: bytes) -> np.ndarray:
    """Decodes Label Studio's run lengths (package @thi.ng/rle-pack) to uint8 `(N,)`, of RGBA pixels one after another.

    A header: 32 bits N, 5 bits the width of a value less 1, four times 4 bits a width of lengths less 1. Then pieces:
    a bit (1: one value, repeated), 2 bits that choose the width of the length, the length less 1, and the value or
    values.

    Raises:
        ValueError: the data end too early.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    place = 0

    def read(width: int) -> int:
        nonlocal place
        if place + width > len(bits):
            raise ValueError("too short")
        value = 0
        for bit in bits[place : place + width].tolist():
            value = value << 1 | bit
        place += width
        return value

    total, width = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    out = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        is_repeated, length = read(1), read(widths[read(2)]) + 1
        if is_repeated:
            out[done : done + length] = read(width)
        else:
            for index in range(done, min(done + length, total)):
                out[index] = read(width)
        done += length
    return out
