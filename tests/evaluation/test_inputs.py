"""The images of src.predict: which files are taken, which are left out with a word, and at what scale they are seen."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.errors import UserError
from src.evaluation import inputs
from src.evaluation.inputs import LOOKED_AT, find_images, find_inputs, note_scale, trained_short_side
from src.evaluation.ledger import RECORD
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
    assert ": c.HEIC, camera.png; c.HEIC is HEIC, which is not read; convert it" in others
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


def test_pictures_of_earlier_predictions_within_the_input_are_no_photos(photos: Path, tmp_path: Path) -> None:
    """By whatever path the folder is reached: the outputs of any call, also of another network, are recorded."""
    (photos / "camera.png").unlink()
    for output in ("segmented", "drive1/other"):
        (photos / output / "overlays").mkdir(parents=True)
        (photos / output / RECORD).touch()
        Image.new("RGB", (4, 4)).save(photos / output / "overlays" / "a.png")
    link = tmp_path / "link"
    link.symlink_to(photos)
    for folder in (photos, link):
        for found in (find_images(folder, recursive=True), find_inputs(f"{folder}/**/*.*")):
            assert list(found.files) == ["a.png", "drive1/b.png", "drive2/b.png"]
            assert "left out 2 pictures of earlier predictions (drive1/other, segmented)" in found.left_out[-1]
    assert list(find_images(photos / "segmented" / "overlays").files) == ["a.png"], "asked for by name"
    assert list(find_inputs([str(photos / "segmented" / "overlays" / "a.png")]).files) == ["a.png"]


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


def test_a_pattern_gives_what_fits_it_named_below_its_folder(photos: Path) -> None:
    found = find_inputs(f"{photos}/drive?/*.[jJ][pP][gG]")
    assert found.files == {
        "drive1/b.png": photos / "drive1" / "b.JPG",
        "drive2/b.png": photos / "drive2" / "b.jpg",
    }
    assert found.title == "photos"
    deep = find_inputs(f"{photos}/**/*")
    assert set(deep.files) == {"a.png", "camera.png", "drive1/b.png", "drive2/b.png"}
    (line,) = deep.left_out
    assert ": c.HEIC, drive1/notes.txt; c.HEIC is HEIC" in line
    with pytest.raises(UserError, match=r"input=.*/x\*\.png: no file fits this pattern"):
        find_inputs(f"{photos}/x*.png")
    odd = photos / "a[1].png"
    odd.write_bytes((photos / "a.png").read_bytes())
    assert find_inputs(str(odd)).files == {"a[1].png": odd}, "a file of this name is no pattern"


def test_a_list_is_relative_to_its_folder_and_names_what_it_leaves_out(photos: Path) -> None:
    text = photos / "list.txt"
    text.write_text(f"\ufeffa.png\r\n\r\ndrive1/b.JPG\r\n{photos}/a.png\r\ndrive1/notes.txt\r\nmissing.png", "utf-8")
    found = find_inputs(str(text))
    assert found.files == {
        "a.png": photos / "a.png",
        "drive1/b.png": photos / "drive1" / "b.JPG",
        "missing.png": photos / "missing.png",  # is named when it is read
    }
    (line,) = found.left_out
    assert line.startswith(f"input={text}: left out 1 files")
    assert line.endswith(": drive1/notes.txt")
    text.write_text("\n")
    with pytest.raises(UserError, match=r"list\.txt: names no file"):
        find_inputs(str(text))
    text.write_text("photos/a.png\nphotos/b.png")
    with pytest.raises(UserError, match=r"no file is there, the first at .*photos/a\.png; paths in a list start from"):
        find_inputs(str(text))


def test_several_paths_are_named_below_the_folder_that_all_are_in(photos: Path) -> None:
    found = find_inputs([f"{photos}/drive2/b.jpg", f"{photos}/drive1/b.JPG"])
    assert found.files == {"drive2/b.png": photos / "drive2" / "b.jpg", "drive1/b.png": photos / "drive1" / "b.JPG"}
    assert find_inputs([f"{photos}/drive1/b.JPG"]).files == {"b.png": photos / "drive1" / "b.JPG"}
    with pytest.raises(UserError, match=r"input: no image \(\.png, .*left out 1 files"):
        find_inputs([f"{photos}/drive1/notes.txt"])
    twin = photos / "drive1" / "b.webp"
    Image.new("RGB", (4, 4)).save(twin)
    with pytest.raises(UserError, match="input: several images are called b; their outputs would be one file"):
        find_inputs([f"{photos}/drive1/b.JPG", str(twin)])


def test_a_large_folder_is_listed_by_one_call_and_few_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations of the system do not grow with the number of images, but for the one listing itself."""
    counts: dict[str, int] = {}

    def counted(module, name: str) -> None:
        usual = getattr(module, name)

        def call(*args, **options):
            counts[name] = counts.get(name, 0) + 1
            return usual(*args, **options)

        monkeypatch.setattr(module, name, call)

    found = {}
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    for number in (300, 3000):
        folder = tmp_path / str(number)
        folder.mkdir()
        for index in range(number):
            os.link(tmp_path / "one.png", folder / f"{index}.png")
    for module, name in ((os, "scandir"), (os, "stat"), (os, "lstat"), (inputs, "read_size")):
        counted(module, name)
    for number in (300, 3000):
        counts.clear()
        files = find_images(tmp_path / str(number)).files
        listing = dict(counts)
        note_scale(list(files.values()), 9, None)
        assert len(files) == number
        assert counts["read_size"] <= LOOKED_AT
        found[number] = listing
    assert found[300] == found[3000]
    assert found[300]["scandir"] == 1


@pytest.mark.parametrize("given", ["", ["", "a.png"]])
def test_an_empty_path_is_not_the_working_directory(
    given: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^input=: has an empty path; give a file"):
        find_inputs(given)
    assert list(find_inputs(".").files) == ["a.png"]
