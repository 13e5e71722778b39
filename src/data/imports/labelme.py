"""labelme's files: one JSON per image, with polygons, rectangles, circles and masks."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from src.data.imports.shapes import Export, ImageFolder, Shape, ring
from src.errors import UserError

CORNERS = 64  # of the polygon that stands for a circle


def read_labelme(files: list[tuple[Path, Any]], images: ImageFolder) -> Export:
    """Reads labelme's files. It has no list of classes.

    Raises:
        UserError: a file that is none of labelme's, a wrong polygon, or no such image.
    """
    export = Export([])
    for file, content in files:
        try:
            shapes = []
            for entry in content["shapes"]:
                if (shape := _shape(file, entry)) is None:
                    export.left_out[str(entry.get("shape_type"))] += 1
                else:
                    shapes.append(shape)
            size = (content.get("imageHeight"), content.get("imageWidth"))
            image = images.find_beside(str(content.get("imagePath") or file.stem), file)
            export.images.append(images.labelled(image, shapes, None if None in size else (int(size[0]), int(size[1]))))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: is no file of labelme ({error!r}); save it again") from error
    return export


def _shape(file: Path, entry: dict) -> Shape | None:
    label, kind, points = str(entry["label"]), entry.get("shape_type", "polygon"), entry["points"]
    if kind == "polygon":
        return Shape(label, ((ring(points, file),),))
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return Shape(label, ((ring([(left, top), (right, top), (right, bottom), (left, bottom)], file),),))
    if kind == "circle":
        centre, rim = np.array(points, dtype=np.float64)
        angles = np.arange(CORNERS) * 2 * np.pi / CORNERS
        circle = centre + np.hypot(*(rim - centre)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return Shape(label, ((circle,),))
    if kind == "mask":
        bitmap = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["mask"])))) > 0
        left, top = (int(value) for value in points[0])
        return Shape(label, bitmap=bitmap, corner=(top, left))
    return None
