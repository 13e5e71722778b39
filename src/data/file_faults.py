"""Finds in an opened image file what would be read wrongly without an error. Does not import torch."""

import io
import re

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

SUBFILE_TYPE = 254  # tag of a TIFF's page
COPY_OR_MASK = 0b101  # its bits of a smaller copy and of a mask of transparency


def mask_fault(image: Image.Image, data: bytes, packing: str) -> str | None:
    """Returns why the format of an opened file may change or hide labels; None if it does not."""
    is_lossy_webp = image.format == "WEBP" and b"VP8 " in data[:64]
    if image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg" or is_lossy_webp:
        return f"lossy compression ({image.format}) blends labels; export the mask again as PNG"
    if found := re.search(r"\bL;([24])\b", packing):
        return f"greys of {found.group(1)} bits are no plain labels; save the mask with 8 bits per pixel"
    return None


def pictures_fault(image: Image.Image, data: bytes) -> str | None:
    """Returns why an opened file has no single picture, of which decoders read the first; None if it has.

    Previews that a camera adds to a JPEG (MPO) do not count, nor do smaller copies and masks of the first in a TIFF.
    """
    if image.format == "TIFF":
        count = _count_pages(data)
    else:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    return several_pictures(count) if count > 1 else None


def several_pictures(count: int) -> str:
    """Describes the fault of a file that holds several pictures."""
    return f"holds {count} pictures; save the one that is meant as a file of its own"


def _count_pages(data: bytes) -> int:
    """Counts the pages of a TIFF that are neither smaller copies nor masks, and the first.

    Pillow's `n_frames` fails for masks by GDAL.
    """
    file, tags = io.BytesIO(data), ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])  # 43: BigTIFF
    seen: set[int] = set()
    count = 0
    while tags.next and tags.next not in seen:
        seen.add(file.seek(tags.next))
        tags.load(file)
        count += len(seen) == 1 or not tags.get(SUBFILE_TYPE, 0) & COPY_OR_MASK
    return count
