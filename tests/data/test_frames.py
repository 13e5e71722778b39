"""Frames of files: windows equal the whole image in every format, and damage anywhere in a file is reported."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from src.data.reading import FileFrame, read_image, read_mask
from src.data.source import Sample
from src.data.sources.camvid import CamVid
from src.data.streets.source import Streets
from src.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 45, 3), dtype=np.uint8)
ROTATED = 6  # EXIF: the camera was turned


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    return exif.tobytes()


def text_exif() -> PngImagePlugin.PngInfo:
    """Returns an orientation as ImageMagick stores it."""
    raw = with_exif()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    return info


FILES = {
    "rgb.png": {},
    "adaptive.png": {"optimize": True},
    "grey.png": {"mode": "L"},
    "palette.png": {"mode": "P"},
    "alpha.png": {"mode": "RGBA"},
    "exif.png": {"exif": with_exif()},
    "text.png": {"pnginfo": text_exif()},
    "exif.jpg": {"exif": with_exif(), "quality": 95},
    "cmyk.jpg": {"mode": "CMYK"},
    "rgb.bmp": {},
    "rgb.webp": {"lossless": True},
    "rgb.tif": {},
}


@pytest.mark.parametrize("name", FILES)
def test_windows_are_those_of_the_whole_image(name: str, tmp_path: Path) -> None:
    options = dict(FILES[name])
    image = Image.fromarray(PIXELS).convert(options.pop("mode", "RGB"))
    path = save(tmp_path / name, image, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert np.array_equal(read_image(path), expected)
    assert (expected.shape[:2] == (45, 60)) == ("exif" in name or name == "text.png")
    labels = (np.arange(expected[..., 0].size).reshape(expected.shape[:2]) % 11).astype(np.uint8)
    mask = save(tmp_path / "mask.png", Image.fromarray(labels))
    source = CamVid(str(tmp_path))
    frame = FileFrame(Sample("a", "a", path, mask), source.read_labels)
    assert frame.size == expected.shape[:2]
    for top, left, height, width in ((3, 5, 7, 9), (30, 0, 1, 45), (0, 0, *frame.size), (2, 2, 2, 2)):
        window = (slice(top, top + height), slice(left, left + width))
        assert np.array_equal(frame.image(top, left, height, width), expected[window])
        assert np.array_equal(frame.mask(top, left, height, width), labels[window])


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_damage_anywhere_in_the_pixels_is_reported(kind: str, tmp_path: Path) -> None:
    """Decoding ignores checksums: in flat areas a changed bit may leave a valid stream with wrong pixels."""
    pixels = PIXELS if kind == "noise" else PIXELS[::5, ::5].repeat(5, 0).repeat(5, 1)
    data, path = png(pixels), tmp_path / "damaged.png"
    for index in range(33, len(data) - 12, len(data) // 60):  # between header and end
        damaged = bytearray(data)
        damaged[index] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged.png: cannot be read \(.*; replace or remove the file"):
            read_image(path)


@pytest.mark.parametrize("missing", [12, 500, 5000])
def test_truncation_is_reported(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(PIXELS)[:-missing])
    with pytest.raises(UserError, match=r"cut.png: cannot be read \(.*[Tt]runcated"):
        read_image(path)


def test_a_damaged_mask_is_reported(tmp_path: Path) -> None:
    data = bytearray(png(np.repeat(np.arange(60, dtype=np.uint8)[:, None] % 11, 45, axis=1)))
    data[-20] ^= 1
    (tmp_path / "mask.png").write_bytes(data)
    with pytest.raises(UserError, match=r"mask.png: cannot be read \(broken PNG file"):
        read_mask(tmp_path / "mask.png", CamVid.table)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.png: cannot be read .*No such file"):
        read_image(tmp_path / "gone.png")


def test_a_mask_of_another_size_is_reported(camvid: Path) -> None:
    source = CamVid(str(camvid))
    sample = source.samples("train")[0]
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(sample.mask)
    frame = source.open(sample)
    assert frame.image(0, 0, 5, 5).shape == (5, 5, 3)
    with pytest.raises(ValueError, match=r"mask is 10x20 \(HxW\) but its image .* is 72x96; make them the same size"):
        frame.mask(0, 0, 5, 5)
    with pytest.raises(ValueError, match="mask is 10x20"):
        source.read(sample)


def test_sources_without_files_have_frames_too() -> None:
    source = Streets(size=(64, 96), num_train=2, num_val=1, num_test=1)
    sample = source.samples("train")[1]
    image, mask = source.read(sample)
    frame = source.open(sample)
    assert frame.size == (64, 96)
    assert np.array_equal(frame.image(10, 20, 30, 40), image[10:40, 20:60])
    assert np.array_equal(frame.whole()[1], mask)


def test_a_mask_of_the_pixels_as_stored_is_refused_with_a_word_of_exif(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(PIXELS), exif=with_exif())
    mask = save(tmp_path / "mask.png", Image.fromarray(np.zeros((60, 45), dtype=np.uint8)))
    frame = FileFrame(Sample("a", "a", path, mask), lambda path: read_mask(path, {0: 0}))
    message = r"mask is 60x45 \(HxW\) but its image .*a.jpg is 45x60 when its EXIF tag has turned it \(60x45 as stored"
    with pytest.raises(UserError, match=message):
        frame.mask(0, 0, 1, 1)
