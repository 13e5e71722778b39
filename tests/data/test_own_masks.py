"""Tests of how the masks of a user's own dataset are read: labels or colours, by the file's evidence, or refused."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.reading import open_mask, read_image
from src.data.sources.folder import Folder
from src.data.sources.own_masks import OwnMasks
from src.errors import DataError
from tests.support.trees import write_folder

ROAD, SKY, CAR = (128, 64, 128), (70, 130, 180), (0, 0, 142)
IDS = np.array([[0, 0, 1, 2], [0, 1, 1, 1]], dtype=np.uint8)


def reader(kind: str, *colours: tuple[int, int, int], void_is_listed: bool = False) -> OwnMasks:
    """A reader of classes with these colours and the labels 0, 1, ..."""
    table = {**{label: label for label in range(len(colours))}, 255: 255}
    return OwnMasks(kind, {colour: index for index, colour in enumerate(colours)}, table, void_is_listed)


def save(path: Path, raw: np.ndarray, palette: list[tuple[int, int, int]] | None = None) -> Path:
    image = Image.fromarray(raw)
    if palette:
        image.putpalette([value for colour in palette for value in colour])
    image.save(path)
    return path


def refused(masks: OwnMasks, path: Path) -> str:
    with pytest.raises(DataError) as error:
        masks.read(path)
    assert error.value.path == path
    return error.value.text


def test_grey_masks_of_a_black_and_white_list(tmp_path: Path) -> None:
    """0 and 255 are labels (background, void) and colours (background, road): the user must say which."""
    path = save(tmp_path / "a.png", np.array([[0, 255]], dtype=np.uint8))
    black, white = (0, 0, 0), (255, 255, 255)
    assert "data.masks=colour" in refused(reader("auto", black, white), path)
    assert reader("colour", black, white).read(path).tolist() == [[0, 1]]
    assert reader("index", black, white).read(path).tolist() == [[0, 255]]
    zero_one = save(tmp_path / "b.png", np.array([[0, 1, 255]], dtype=np.uint8))
    assert reader("auto", black, white).read(zero_one).tolist() == [[0, 1, 255]], "1 is no colour of the list"
    greys = save(tmp_path / "c.png", np.array([[0, 128, 255]], dtype=np.uint8))
    assert reader("auto", black, (128, 128, 128), white).read(greys).tolist() == [[0, 1, 2]], "128 is no label"


def test_0_and_255_of_two_classes_are_refused_unless_void_is_listed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 255]], dtype=np.uint8))
    assert "add the line `ignore: 255 255 255 255`" in refused(reader("auto", ROAD, SKY), path)
    assert reader("auto", ROAD, SKY, void_is_listed=True).read(path).tolist() == [[0, 255]]
    assert reader("auto", ROAD, SKY, CAR).read(path).tolist() == [[0, 255]], "one of many images without most classes"


def test_one_bit_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[False, True]])).save(path)
    assert reader("auto", ROAD, SKY).read(path).tolist() == [[0, 1]]
    assert reader("auto", (0, 0, 0), (255, 255, 255)).read(path).tolist() == [[0, 1]]
    assert "data.masks=index" in refused(reader("auto", (255, 255, 255), (0, 0, 0)), path)


def test_palettes_in_another_order_are_read_by_their_colours(tmp_path: Path) -> None:
    order = [SKY, CAR, ROAD]
    raw = np.array([2, 0, 1], dtype=np.uint8)[IDS]
    path = save(tmp_path / "a.png", raw, order)
    masks = reader("auto", ROAD, SKY, CAR)
    assert np.array_equal(masks.read(path), IDS)
    assert np.array_equal(reader("index", ROAD, SKY, CAR).read(path), raw)
    assert np.array_equal(masks.read(save(tmp_path / "b.png", IDS, [ROAD, SKY, CAR])), IDS)


def test_palettes_that_contradict_the_list_or_each_other_are_refused(tmp_path: Path) -> None:
    masks = reader("auto", ROAD, SKY, CAR)
    strange = save(tmp_path / "a.png", IDS, [SKY, (1, 2, 3), (4, 5, 6)])
    text = refused(masks, strange)
    assert text.startswith("label 0 has the colour (70, 130, 180), which is another class's in the class list; set ")
    first = save(tmp_path / "b.png", IDS, [(9, 0, 0), (0, 9, 0), (0, 0, 9)])
    assert np.array_equal(masks.read(first), IDS)
    text = refused(masks, save(tmp_path / "c.png", IDS, [(0, 9, 0), (9, 0, 0), (0, 0, 9)]))
    assert "label 0 has the colour (0, 9, 0) in its palette, but (9, 0, 0) in another file's; set data.masks=" in text
    assert np.array_equal(reader("index", ROAD, SKY, CAR).read(strange), IDS)


def test_three_equal_channels(tmp_path: Path) -> None:
    """RGB files are colours, unless they hold other classes' labels; with `index`, equal channels are labels."""
    grey = save(tmp_path / "a.png", np.stack([IDS] * 3, axis=-1))
    assert "set data.masks=index" in refused(reader("auto", ROAD, SKY, CAR), grey)
    assert np.array_equal(reader("index", ROAD, SKY, CAR).read(grey), IDS)
    swapped = reader("auto", (2, 2, 2), (1, 1, 1), (0, 0, 0))
    assert "labels and colours of different classes" in refused(swapped, grey)
    binary = save(tmp_path / "b.png", np.stack([np.array([[0, 255]], dtype=np.uint8)] * 3, axis=-1))
    assert reader("auto", (0, 0, 0), (255, 255, 255)).read(binary).tolist() == [[0, 1]]
    picture = save(tmp_path / "c.png", np.array([[ROAD, SKY]], dtype=np.uint8))
    assert "set data.masks=colour" in refused(reader("index", ROAD, SKY), picture)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


GREY, RGB = Image.fromarray(IDS), Image.fromarray(np.array([ROAD, SKY, CAR], dtype=np.uint8)[IDS])
DEEP = np.full((2, 4, 3), 256, dtype=np.uint16)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jpg", encoded(GREY, "JPEG", quality=100), r"lossy compression \(JPEG\) blends labels"),
        ("a.png", encoded(GREY, "JPEG"), r"lossy compression \(JPEG\)"),
        ("a.webp", encoded(RGB, "WEBP"), r"lossy compression \(WEBP\)"),
        ("a.tif", encoded(RGB.resize((16, 16)), "TIFF", compression="jpeg"), r"lossy compression \(TIFF\)"),
        ("a.png", encoded(GREY, "PNG", bits=4), "greys of 4 bits"),
        ("a.tif", encoded(GREY, "TIFF", save_all=True, append_images=[GREY]), "holds 2 pictures"),
        ("a.png", cv2.imencode(".png", DEEP)[1].tobytes(), "RGB pixels have more than 8 bits"),
        ("a.png", cv2.imencode(".png", DEEP[..., 0])[1].tobytes(), "I;16 pixels have more than 8 bits"),
        ("a.tif", cv2.imencode(".tif", DEEP)[1].tobytes(), "RGB pixels have more than 8 bits"),
        ("a.png", encoded(Image.new("RGBA", (4, 2), (128, 64, 128, 7)), "PNG"), "8 pixels are transparent"),
        ("a.png", encoded(Image.new("LA", (4, 2), (1, 0)), "PNG"), "8 pixels are transparent"),
        ("a.tif", encoded(Image.new("CMYK", (4, 2)), "TIFF"), "this one is CMYK"),
    ],
)
def test_formats_that_change_or_hide_labels_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_mask(tmp_path / name)


def test_formats_that_keep_labels_are_read(tmp_path: Path) -> None:
    masks = reader("auto", ROAD, SKY, CAR)
    pictures = {
        "a.webp": encoded(RGB, "WEBP", lossless=True), "a.bmp": encoded(GREY, "BMP"),
        "a.tif": encoded(RGB, "TIFF", compression="tiff_lzw"), "rgba.png": encoded(RGB.convert("RGBA"), "PNG"),
        "la.png": encoded(GREY.convert("LA"), "PNG"),
    }  # fmt: skip
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(masks.read(tmp_path / name), IDS), name


def test_photos_lose_no_bits_and_no_channel(tmp_path: Path) -> None:
    """16 bits per channel and transparent pixels are refused; an alpha channel that hides nothing is not."""
    rgba = np.dstack([np.asarray(RGB), np.full((2, 4), 255, dtype=np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "whole.png")
    assert np.array_equal(read_image(tmp_path / "whole.png"), np.asarray(RGB))
    rgba[0, 0, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "hole.png")
    with pytest.raises(DataError, match=r"hole.png: 1 pixels are transparent; flatten"):
        read_image(tmp_path / "hole.png")
    for name in ("deep.png", "deep.tif"):
        cv2.imwrite(str(tmp_path / name), DEEP)
        with pytest.raises(DataError, match=rf"{name}: RGB pixels have more than 8 bits"):
            read_image(tmp_path / name)


# The class list and the lists of splits


@pytest.mark.parametrize("name", ["classes.txt", "train.txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_texts_of_users_in_any_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    """A byte-order mark changes nothing; anything but UTF-8 is refused in a line."""
    root = write_folder(tmp_path)
    texts = {"classes.txt": "ignore: 0 0 0\r\nstraße: 1 1 1\r\nsky: 2 2 2\r\n", "train.txt": "ü\r\n"}
    for folder in ("images", "masks"):
        (root / folder / "train" / "a" / "0.png").rename(root / folder / "ü.png")
        for split in ("train", "val"):
            (root / folder / split).rename(root / f"{folder}-{split}")
    for other, text in texts.items():
        (root / other).write_bytes(text.encode(encoding if other == name else "utf-8"))
    if encoding.startswith("utf-8"):
        source = Folder(str(root))
        assert list(source.classes) == ["straße", "sky"]
        assert [sample.name for sample in source.samples("train")] == ["ü"]
    else:
        with pytest.raises(ValueError, match=rf"{name}: is not UTF-8 text; save it in the encoding UTF-8"):
            Folder(str(root)).samples("train")
