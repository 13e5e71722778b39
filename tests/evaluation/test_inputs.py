"""The images of src.predict: which files are taken, which are left out with a word, and at what scale they are seen."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.errors import UserError
from src.evaluation.inputs import find_images, note_scale, trained_short_side
from src.inference import Protocol


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder as a Mac leaves it on a stick: photos, drives in sub-folders, hidden files, a HEIC, notes, a FIFO."""
    folder = tmp_path / "photos"
    for name, size in {"a.png": (48, 64), "drive1/b.JPG": (300, 400), "drive2/b.jpg": (30, 40)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(folder / name)
    for name in ("._a.png", "drive1/._b.JPG", ".DS_Store", "c.HEIC", "drive1/notes.txt"):
        (folder / name).write_bytes(bytes(4096))
    (folder / ".trash").mkdir()
    (folder / ".trash" / "d.png").touch()
    os.mkfifo(folder / "camera.png")
    return folder


def test_a_folder_gives_its_images_and_names_what_is_left_out(photos: Path) -> None:
    found = find_images(photos)
    assert found.files == {"a.png": photos / "a.png"}
    others, folders = found.left_out
    assert others.startswith(f"input={photos}: left out 2 files that are none of .png, .jpg")
    assert ": camera.png, c.HEIC; c.HEIC is HEIC, which is not read; convert it" in others
    assert folders == (f"input={photos}: left out 2 sub-folders (drive1, drive2); recursive=true reads them too")


def test_recursive_keeps_the_folders_of_the_images(photos: Path) -> None:
    (photos / "drive1" / "round").symlink_to(photos)
    found = find_images(photos, recursive=True)
    assert found.files == {
        "a.png": photos / "a.png",
        "drive1/b.png": photos / "drive1" / "b.JPG",
        "drive2/b.png": photos / "drive2" / "b.jpg",
    }
    (line,) = found.left_out
    assert ": c.HEIC, camera.png, drive1/notes.txt; c.HEIC is HEIC" in line


def test_a_folder_without_images_says_what_it_has(photos: Path) -> None:
    (photos / "a.png").unlink()
    with pytest.raises(UserError, match=r"no image in this folder .*c\.HEIC.*2 sub-folders.*recursive=true"):
        find_images(photos)


def test_images_whose_outputs_would_be_one_file_are_refused(photos: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "drive1" / "b.webp")
    with pytest.raises(UserError, match="several images are called drive1/b; their outputs would be one file"):
        find_images(photos, recursive=True)


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((360, 480), None, 360),
        ((1024, 2048), [512, 1024], 512),
        ((720, 960), {"short": 240}, 240),
        ((360, 480), {"long": 400}, 300),
    ],
)
def test_the_scale_of_the_training(size: tuple[int, int], resize: list[int] | dict[str, int], expected: int) -> None:
    assert trained_short_side(size, resize) == expected


def test_images_of_another_scale_are_named_with_the_remedy(photos: Path) -> None:
    files = [photos / "a.png", photos / "drive1" / "b.JPG", photos / "c.HEIC"]
    trained, other = note_scale(files, 48, None)
    assert trained == "the network was trained on images with a short side of 48 pixels"
    assert other == (
        "1 of 3 images reach it at another scale (first: b.JPG, short side 300), so that their classes may be wrong: "
        "inference.short_side=48 resizes them"
    )
    assert len(note_scale(files, 48, 48)) == 1, "resized already"


def test_short_side_keeps_the_shape() -> None:
    protocol = Protocol(short_side=360)
    assert protocol.seen_size((3000, 4000)) == (360, 480)
    assert protocol.seen_size((4000, 3000)) == (480, 360)
    assert str(protocol) == "whole at short side 360"
    assert Protocol(size=(8, 9)).seen_size((3000, 4000)) == (8, 9)
    assert Protocol().seen_size((30, 40)) == (30, 40)
