"""Frames of files: windows equal the whole image, whatever the file, and damage anywhere in a file is told."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from src.data import reading as source_module
from src.data.png import first_rows, plain_size
from src.data.reading import FileFrame, Picture, read_image
from src.data.source import Sample
from src.data.sources.camvid import CamVid
from src.data.streets.source import Streets

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
    """As ImageMagick stores it."""
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


def test_interlaced_and_deep_pngs_are_not_cut() -> None:
    header = bytearray(png(PIXELS)[:29])
    assert plain_size(png(PIXELS)) == (60, 45)
    for place, value in ((24, 16), (25, 6), (28, 1)):  # bit depth, colour type, interlace
        other = bytearray(header)
        other[place] = value
        assert plain_size(bytes(other)) is None


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_only_the_rows_above_the_windows_bottom_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(PIXELS))
    sizes, decode = [], source_module._upright

    def spy(file: Path, data: bytes | None) -> Image.Image:
        image = decode(file, data)
        sizes.append(image.size)
        return image

    monkeypatch.setattr(source_module, "_upright", spy)
    picture = Picture(path)
    assert np.array_equal(picture.read(20)[:20], PIXELS[:20])
    assert np.array_equal(picture.read(10)[:10], PIXELS[:10])
    assert np.array_equal(picture.read(60), PIXELS)
    assert sizes == [(45, 20), (45, 60)]
    decoded = cv2.imdecode(np.frombuffer(first_rows(png(PIXELS), 60), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decoded, PIXELS), "all rows: the file as it was"


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_damage_below_the_window_is_told(place: float, tmp_path: Path) -> None:
    data = bytearray(png(PIXELS))
    data[int(place * len(data))] ^= 1
    path = tmp_path / "damaged.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged.png: cannot be read \(damaged: wrong checksum at byte \d+\)"):
        Picture(path)


@pytest.mark.parametrize("missing", [1, 12, 500, 5000])
def test_truncation_is_told(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(PIXELS)[:-missing])
    with pytest.raises(ValueError, match=r"cut.png: cannot be read \(truncated\)"):
        Picture(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone.png: cannot be read .*No such file"):
        Picture(tmp_path / "gone.png")


def test_a_mask_of_another_size_is_told(camvid: Path) -> None:
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


def test_checksum_of_a_cut_header_is_right() -> None:
    cut = first_rows(png(PIXELS), 7)
    assert zlib.crc32(cut[12:29]) == int.from_bytes(cut[29:33], "big")
    assert plain_size(cut) == (7, 45)
