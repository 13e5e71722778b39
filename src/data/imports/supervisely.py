"""Supervisely's projects: `meta.json`, and `DATASET/ann/IMAGE.json` beside `DATASET/img/IMAGE`."""

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from src.data.imports.shapes import Export, ImageFolder, Shape, hex_colour, ring
from src.errors import UserError


def read_supervisely(meta_file: Path, meta: Any, files: list[tuple[Path, Any]], images: ImageFolder) -> Export:
    """Reads polygons and bitmaps; objects are drawn in the order of the file.

    Corners of polygons are pixels there, and belong to the area: they are drawn by OpenCV, as Supervisely's SDK does.

    Raises:
        UserError: a file of another tool, a wrong polygon or bitmap, or no such image.
    """
    export = Export([])
    file = meta_file
    try:
        export.classes = [str(entry["title"]) for entry in meta["classes"]]
        for entry in meta["classes"]:
            if colour := entry.get("color"):
                export.colours[str(entry["title"])] = hex_colour(colour)
        for file, content in files:
            size = (int(content["size"]["height"]), int(content["size"]["width"]))
            shapes = []
            for entry in content["objects"]:
                if (shape := _shape(file, entry)) is None:
                    export.left_out[str(entry["geometryType"])] += 1
                else:
                    shapes.append(shape)
            within = f"{file.parents[1].name}/img/{file.stem}"  # IMAGE.jpg.json
            image = images.paths.get(within) or images.find(file.stem, file)
            export.images.append(images.labelled(image, shapes, size))
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: is no file of Supervisely's format ({error!r}); export the project again") from error
    return export


def _shape(file: Path, entry: dict) -> Shape | None:
    label, kind = str(entry["classTitle"]), entry["geometryType"]
    if kind == "polygon":
        outline = np.rint(ring(entry["points"]["exterior"], file)).astype(np.int32)
        holes = [np.rint(ring(hole, file)).astype(np.int32) for hole in entry["points"].get("interior", ())]
        low, high = outline.min(0), outline.max(0)
        bitmap = np.zeros(tuple((high - low + 1)[::-1].tolist()), dtype=np.uint8)
        cv2.fillPoly(bitmap, [outline - low], 1)
        for hole in holes:
            cv2.fillPoly(bitmap, [hole - low], 0)
        return Shape(label, bitmap=bitmap > 0, corner=(int(low[1]), int(low[0])))
    if kind == "bitmap":
        left, top = (int(value) for value in entry["bitmap"]["origin"])
        picture = Image.open(io.BytesIO(zlib.decompress(base64.b64decode(entry["bitmap"]["data"]))))
        # A palette of two colours of which one is transparent, a grey picture, or RGBA.
        is_clear = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        channel = picture.convert("RGBA").getchannel("A") if is_clear else picture.convert("L")
        return Shape(label, bitmap=np.asarray(channel) > 0, corner=(top, left))
    return None
