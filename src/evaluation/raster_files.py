"""Distinguishes rasters, which are segmented by tiles, from other TIFFs, by the header, without GDAL."""

from pathlib import Path

from PIL.TiffImagePlugin import ImageFileDirectory_v2

TIFF_SUFFIXES = (".tif", ".tiff")
WIDTH, HEIGHT = 256, 257  # tags of TIFF
PLACES = {33550, 33922, 34264, 34735}  # tags of GeoTIFF: scale of pixels, tie points, transformation, directory of keys
LARGEST = 80_000_000  # pixels of an image that is read whole; Pillow warns from 89 million on


def is_raster(path: Path) -> bool:
    """Returns whether a file is a GeoTIFF, or a TIFF too large to be read whole; from its header."""
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            header = file.read(8)
            tags = ImageFileDirectory_v2(header + (file.read(8) if header[2] == 43 else b""))  # 43: BigTIFF
            file.seek(tags.next)
            tags.load(file)
            return bool(PLACES & set(tags)) or tags[WIDTH] * tags[HEIGHT] > LARGEST
    except Exception:  # damaged, which is said when it is read
        return False
