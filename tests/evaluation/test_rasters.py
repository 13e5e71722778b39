"""GeoTIFFs by tiles: the labels of the whole image, at the coordinates of the source."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from src.data.reading import read_image
from src.errors import UserError
from src.evaluation import raster_files, rasters
from src.evaluation.inputs import Photo, note_scale
from src.evaluation.optional import need
from src.evaluation.predictions import Outcome
from src.evaluation.raster_files import is_raster
from src.evaluation.segmenter import FULL
from src.evaluation.wanted import OUTPUTS, Wanted
from src.inference import Protocol
from tests.support.predict import PALETTE, plain_scores, run, write_weights
from tests.support.small import CLASSES

PLACE = Affine(0.2, 0, 500_000, 0, -0.2, 5_400_000)


def write_raster(path: Path, pixels: np.ndarray, **options) -> Path:
    """Writes bands `(3, H, W)` as a GeoTIFF in UTM zone 32, 20 cm per pixel."""
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": PLACE, "dtype": pixels.dtype, **options}
    with rasterio.open(path, "w", width=pixels.shape[2], height=pixels.shape[1], count=len(pixels), **profile) as file:
        file.write(pixels)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "best.ckpt")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 64 pixels with 32 around, which is beyond what the small network sees."""
    monkeypatch.setattr(rasters, "TILE", 64)
    monkeypatch.setattr(rasters, "HALO", 32)
    monkeypatch.setattr(rasters, "BLOCK", 16)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (3, 150, 203), dtype=np.uint8)


def predict(weights: Path, path: Path, folder: Path, wanted: Wanted) -> Outcome:
    return run(weights, [Photo(f"{path.stem}.png", path, partial(read_image, path))], folder, wanted)


def test_a_geotiff_by_tiles_is_the_whole_image_in_its_place(
    weights: Path,
    pixels: np.ndarray,
    small_tiles: None,
    tmp_path: Path,
) -> None:
    path = write_raster(tmp_path / "map.tif", pixels)
    outcome = predict(weights, path, tmp_path / "out", Wanted(OUTPUTS, PALETTE))
    assert outcome.unread == []
    photo = Photo("map", None, lambda: pixels.transpose(1, 2, 0))
    shares = plain_scores(weights, photo).double().softmax(0).numpy()
    found = {}
    for kind in OUTPUTS:
        with rasterio.open(tmp_path / "out" / kind / "map.tif") as file:
            assert (file.crs.to_epsg(), file.transform) == (32632, PLACE), kind
            found[kind] = file.read()
            if kind == "labels":
                assert file.colormap(1)[1][:3] == tuple(PALETTE[CLASSES[1]])
                assert file.nodata == 255
            if kind == "probabilities":
                assert list(file.descriptions) == CLASSES
    assert (found["labels"][0] != shares.argmax(0)).mean() <= 1e-4
    assert found["confidence"][0] / FULL == pytest.approx(shares.max(0), abs=1e-4)
    assert found["probabilities"] / FULL == pytest.approx(shares, abs=1e-4)
    assert np.array_equal(found["colours"].transpose(1, 2, 0), np.array(list(PALETTE.values()))[found["labels"][0]])
    assert predict(weights, path, tmp_path / "out", Wanted(OUTPUTS, PALETTE)).before == 1


def test_pixels_without_data_have_no_class(
    weights: Path,
    pixels: np.ndarray,
    small_tiles: None,
    tmp_path: Path,
) -> None:
    pixels[:, :, 100:] = 0
    path = write_raster(tmp_path / "map.tif", pixels, nodata=0)
    predict(weights, path, tmp_path / "out", Wanted(("labels", "confidence"), PALETTE))
    with rasterio.open(tmp_path / "out" / "labels" / "map.tif") as file:
        assert np.array_equal(file.read(1) == 255, np.arange(203)[None] + np.zeros((150, 1)) >= 100)


def test_what_a_raster_is_stands_in_its_header(pixels: np.ndarray, tmp_path: Path, monkeypatch) -> None:
    geo = write_raster(tmp_path / "geo.tif", pixels)
    big = write_raster(tmp_path / "bigtiff.tif", pixels, bigtiff="yes")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        plain = write_raster(tmp_path / "plain.tif", pixels, crs=None, transform=None)
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    (tmp_path / "photo.png").write_bytes(geo.read_bytes())
    names = ("geo.tif", "bigtiff.tif", "plain.tif", "broken.tif", "photo.png", "missing.tif")
    assert [is_raster(tmp_path / name) for name in names] == [True, True, False, False, False, False]
    monkeypatch.setattr(raster_files, "LARGEST", 1000)
    assert is_raster(plain)
    assert len(note_scale([geo, big], 999, None)) == 1, "tiles have no scale of their own"


def test_what_cannot_be_segmented_is_named_with_the_remedy(
    weights: Path,
    pixels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = Wanted(("labels",), PALETTE)
    deep = write_raster(tmp_path / "deep.tif", pixels.astype(np.uint16))
    (line,) = predict(weights, deep, tmp_path / "out", wanted).unread
    assert line == f"{deep}: uint16 pixels are no bytes; convert it, such as by gdal_translate -ot Byte -scale"
    assert not (tmp_path / "out" / "labels" / "deep.tif").exists()
    page, several = Image.fromarray(pixels.transpose(1, 2, 0)), tmp_path / "several.tif"
    page.save(several, save_all=True, append_images=[page])
    with monkeypatch.context() as small:
        small.setattr(raster_files, "LARGEST", 1000)
        (line,) = predict(weights, several, tmp_path / "out", wanted).unread
    assert line == f"{several}: holds 2 pictures; save the one that is meant as a file of its own"
    usual = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rasterio" else usual(name))
    with pytest.raises(
        UserError, match=r"map\.tif: a GeoTIFF needs the package rasterio, .* pip install rasterio into"
    ):
        need("rasterio", "geo", "map.tif", "a GeoTIFF")
    (line,) = predict(weights, write_raster(tmp_path / "map.tif", pixels), tmp_path / "out", wanted).unread
    assert "needs the package rasterio, which is not installed" in line


def test_a_protocol_that_would_resize_each_tile_is_refused(
    weights: Path,
    pixels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Protocol, "at_own_size", Protocol(short_side=32))
    path = write_raster(tmp_path / "map.tif", pixels)
    (line,) = predict(weights, path, tmp_path / "out", Wanted(("labels",), PALETTE)).unread
    assert "is segmented by tiles" in line
    assert "give inference.size=null inference.short_side=null" in line
