"""Pictures of formats that are not read are named with the remedy, in training, src.check and src.predict."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from src.data.frame import ImageForm
from src.data.reading import open_mask, read_image
from src.data.sources.folder import Folder
from src.data.tools.check import check
from src.errors import DataError, UserError
from src.evaluation.inputs import find_images
from tests.support.trees import write_folder, write_image

REMEDY = "is HEIC, which is not read; convert it, such as by ImageMagick: magick IMG_1.HEIC IMG_1.png, or remove it"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".HEIC", ".avif", ".jxl", ".CR2", ".gif"])
def test_training_stops_at_a_picture_that_it_cannot_read(tmp_path: Path, suffix: str) -> None:
    root = write_folder(tmp_path)
    file = next((root / "images").rglob("*.png")).with_name(f"IMG_1{suffix}")
    file.write_bytes(b"x")
    split = file.relative_to(root / "images").parts[0]
    with pytest.raises(DataError, match=rf"IMG_1{suffix}: is .*, which is not read; convert it"):
        Folder(str(root)).samples(split)
    assert [fault.kind for fault in check(Folder(str(root))).errors] == ["unreadable"]


def test_a_raw_file_beside_its_jpeg_is_no_fault(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    image = next((root / "images").rglob("*.png"))
    image.with_suffix(".dng").write_bytes(b"x")
    source = Folder(str(root))
    assert all(sample.image.suffix != ".dng" for split in source.splits for sample in source.samples(split))
    assert not check(Folder(str(root))).errors


def test_prediction_names_the_remedy(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (16, 16), np.random.default_rng(0))
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    (line,) = find_images(tmp_path).left_out
    assert line.endswith(f"IMG_1.HEIC; IMG_1.HEIC {REMEDY}")
    with pytest.raises(UserError, match=r"IMG_1\.HEIC: is HEIC, which is not read; convert it"):
        find_images(tmp_path / "IMG_1.HEIC")
    (tmp_path / "list.txt").write_text("a")
    with pytest.raises(UserError, match=r"list\.txt: no image by its suffix; give one of \.png, "):
        find_images(tmp_path / "list.txt")


def encoded(form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


OTHER = {"save_all": True, "append_images": [Image.fromarray(255 - np.asarray(PICTURE))]}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.webp", encoded("WEBP", lossless=True, **OTHER)),
        ("a.png", encoded("PNG", **OTHER)),
        ("a.tif", encoded("TIFF", **OTHER)),
        ("gif.png", encoded("GIF", **OTHER)),
    ],
)
def test_a_file_of_several_pictures_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    for read in (read_image, open_mask):
        with pytest.raises(DataError, match=f"{name}: holds 2 pictures; save the one that is meant as a file of its"):
            read(tmp_path / name)


def test_a_file_of_several_pictures_of_16_bits_is_refused(tmp_path: Path) -> None:
    cv2.imwritemulti(str(tmp_path / "a.tif"), [np.full((8, 8, 3), value, np.uint16) for value in (9, 99)])
    with pytest.raises(DataError, match="holds 2 pictures"):
        read_image(tmp_path / "a.tif", ImageForm(3, (0, 100)))


def test_previews_beside_a_photo_are_no_pictures(tmp_path: Path) -> None:
    """Cameras add them to a JPEG (MPO), and GDAL adds smaller copies and a mask to a TIFF."""
    (tmp_path / "a.jpg").write_bytes(encoded("MPO", **OTHER))
    with Image.open(tmp_path / "a.jpg") as file:
        assert (file.format, file.n_frames) == ("MPO", 2)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), np.asarray(Image.open(io.BytesIO(encoded("JPEG")))))
    size = {"width": 16, "height": 16, "count": 3, "dtype": "uint8", "transform": rasterio.Affine.scale(2)}
    pixels = np.asarray(PICTURE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "w", **size) as file:
        file.write(pixels.transpose(2, 0, 1))
        file.write_mask(np.full((16, 16), 255, np.uint8))
        file.build_overviews([2])
    assert np.array_equal(read_image(tmp_path / "a.tif"), pixels)
