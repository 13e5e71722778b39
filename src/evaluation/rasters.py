"""Segments GeoTIFFs and images too large for memory by tiles, and writes GeoTIFFs in the place of the source."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.data.file_faults import several_pictures
from src.errors import DataError
from src.evaluation.optional import need
from src.evaluation.segmenter import FULL, Segmented, Segmenter
from src.files import atomic_path

BLOCK = 512  # of the files that are written
TILE = 1536  # side of a tile that is written, a multiple of BLOCK and of every stride
HALO = 256  # around it: pixels that the network sees, too
PROFILES: dict[str, dict[str, Any]] = {
    "labels": {"count": 1, "dtype": "uint8", "nodata": 255},
    "colours": {"count": 3, "dtype": "uint8", "photometric": "rgb"},
    "overlays": {"count": 3, "dtype": "uint8", "photometric": "rgb"},
    "confidence": {"count": 1, "dtype": "uint16", "scale": 1 / FULL},
    "probabilities": {"dtype": "uint16", "scale": 1 / FULL},
}


@dataclass(frozen=True)
class Tile:
    """A tile: its place in the raster, the window that the network sees, and the pixels of both."""

    rows: slice  # of the raster
    columns: slice
    inner: tuple[slice, slice]  # the tile within the window
    image: np.ndarray  # uint8 (H, W, 3) of the window
    valid: np.ndarray  # bool (H, W), False without data


def segment_raster(source: Path, segmenter: Segmenter, targets: dict[str, Path], draw: Any) -> None:
    """Writes the outputs of a raster by tiles, in memory for a few of them; coordinates are those of the source.

    The network sees each tile with `HALO` pixels around it, which are cut off.

    Args:
        targets: path of each kind of output.
        draw: `(kind, image, ids)` gives the colours or the overlay of a tile.

    Raises:
        UserError: rasterio is not installed, the pixels are not bytes, or the protocol resizes images.
    """
    need("rasterio", "geo", source, "a GeoTIFF or an image of this size")
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.windows import Window

    if segmenter.protocol.size or segmenter.protocol.short_side:
        raise DataError(
            source, "protocol",
            "is segmented by tiles, and inference.size or inference.short_side would resize each of them; give "
            "inference.size=null inference.short_side=null, and inference.scales=[0.5] for another scale",
        )  # fmt: skip
    if getattr(segmenter.task.network, "mean", torch.zeros(3)).numel() != 3:
        raise DataError(source, "pixel format", "is read as red, green and blue, and this network takes other channels")
    classes = segmenter.wanted.classes
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a large image without a place is none worse
            raster = stack.enter_context(rasterio.open(source))
            bands, files = _bands(source, raster), {}
            for kind, path in targets.items():
                profile: dict[str, Any] = {"count": len(classes)} | PROFILES[kind]
                scale = profile.pop("scale", None)
                temporary = stack.enter_context(atomic_path(path))
                target = rasterio.open(
                    temporary, "w", driver="GTiff", width=raster.width, height=raster.height, crs=raster.crs,
                    transform=raster.transform, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate",
                    bigtiff="if_safer", **profile,
                )  # fmt: skip
                files[kind] = stack.enter_context(target)
                if raster.gcps[0]:
                    target.gcps = raster.gcps
                if scale is not None:
                    target.scales = [scale] * profile["count"]
                if kind == "labels":
                    target.write_colormap(1, dict(enumerate(map(tuple, classes.values()))))
                if kind == "probabilities":
                    target.descriptions = tuple(classes)

            def work(tile: Tile, all_cores: bool) -> tuple[Tile, Segmented]:
                return tile, _segment(segmenter, tile, all_cores=all_cores)

            for tile, found in segmenter.in_order(work, _tiles(raster, bands), lambda tile: tile.image.size // 3):
                window = Window.from_slices(tile.rows, tile.columns)
                image = tile.image[tile.inner]
                for kind, target in files.items():
                    array = _array(kind, image, found, draw)
                    target.write(array if array.ndim == 3 else array[None], window=window)
    except RasterioError as error:
        raise DataError(source, "unreadable", f"cannot be read ({error}); replace or remove the file") from error


def _bands(source: Path, raster: Any) -> list[int]:
    """Returns the numbers of the bands that are red, green and blue."""
    from rasterio.enums import ColorInterp

    if raster.subdatasets:
        raise DataError(source, "pixel format", several_pictures(len(raster.subdatasets)))
    if any(kind != "uint8" for kind in raster.dtypes):
        text = f"{raster.dtypes[0]} pixels are no bytes; convert it, such as by gdal_translate -ot Byte -scale"
        raise DataError(source, "pixel format", text)
    meaning = list(raster.colorinterp)
    if ColorInterp.palette in meaning:
        raise DataError(source, "pixel format", "has a palette; convert it by gdal_translate -expand rgb")
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if set(colours) <= set(meaning):
        return [meaning.index(colour) + 1 for colour in colours]
    return [1, 2, 3] if raster.count >= 3 else [1, 1, 1]


def _tiles(raster: Any, bands: list[int]) -> Iterator[Tile]:
    """Reads the tiles of a raster, row by row."""
    from rasterio.windows import Window

    for top in range(0, raster.height, TILE):
        for left in range(0, raster.width, TILE):
            starts, sides = (top, left), (raster.height, raster.width)
            kept = [slice(start, min(side, start + TILE)) for start, side in zip(starts, sides, strict=True)]
            seen = [
                slice(max(0, each.start - HALO), min(side, each.stop + HALO))
                for each, side in zip(kept, sides, strict=True)
            ]
            window = Window.from_slices(seen[0], seen[1])
            inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(kept, seen, strict=True))
            image = np.ascontiguousarray(raster.read(bands, window=window).transpose(1, 2, 0))
            valid = raster.dataset_mask(window=window) > 0
            yield Tile(kept[0], kept[1], (inner[0], inner[1]), image, valid)


def _segment(segmenter: Segmenter, tile: Tile, *, all_cores: bool) -> Segmented:
    """Segments a tile; pixels without data are 255, without confidence."""
    valid, wanted = tile.valid[tile.inner], segmenter.wanted.outputs
    if valid.any():
        found = segmenter([tile.image], all_cores=all_cores)[0]
        ids = np.where(valid, found.ids[tile.inner], np.uint8(255))
        others = (found.confidence, found.probabilities)
        return Segmented(ids, *(None if each is None else each[(..., *tile.inner)] * valid for each in others))
    nothing = np.zeros(valid.shape, dtype=np.uint16)
    every = np.zeros((len(segmenter.wanted.classes), *valid.shape), dtype=np.uint16)
    return Segmented(
        np.full(valid.shape, 255, dtype=np.uint8),
        nothing if "confidence" in wanted else None,
        every if "probabilities" in wanted else None,
    )


def _array(kind: str, image: np.ndarray, found: Segmented, draw: Any) -> np.ndarray:
    """Returns one output of a tile, `(H, W)` or `(bands, H, W)`."""
    if kind in ("colours", "overlays"):
        return draw(kind, image, found.ids).transpose(2, 0, 1)
    array = {"labels": found.ids, "confidence": found.confidence, "probabilities": found.probabilities}[kind]
    assert array is not None
    return array
