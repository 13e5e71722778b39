"""Tests of `Folder`: layouts, kinds of masks, the class list, and every mistake."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.folder import Folder
from src.data.tools.check import check
from src.errors import DataError, UserError
from tests.support.trees import names, raw, write_folder, write_image, write_mask

CLASSES = {"road": (128, 64, 128), "traffic light": (250, 170, 30), "sky": (70, 130, 180)}


def test_folder_of_index_masks(tmp_path: Path) -> None:
    source = Folder(str(write_folder(tmp_path)))
    assert source.classes == CLASSES
    assert source.labels == "own-3"
    assert source.splits == ("train", "val")
    train = source.samples("train")
    assert [(sample.name, sample.group) for sample in train] == [("a/0", "a"), ("a/1", "a"), ("b/0", "b")]
    assert np.array_equal(source.read(train[0])[1], raw(train[0]))


@pytest.mark.parametrize("kind", ["rgb", "palette", "palette read as colours"])
def test_folder_of_colour_masks(tmp_path: Path, kind: str) -> None:
    """Labels 0..2 become colours, and the ids that are read from these are the labels again."""
    source = Folder(str(write_folder(tmp_path)), masks="colour" if kind.endswith("colours") else "auto")
    sample = source.samples("train")[0]
    ids = raw(sample)
    picture = Image.fromarray(np.array(list(CLASSES.values()), dtype=np.uint8)[ids])
    if kind == "palette":
        picture = Image.fromarray(ids)
        picture.putpalette([value for colour in CLASSES.values() for value in colour])
    elif kind != "rgb":
        picture = picture.quantize(3)
        assert not np.array_equal(np.asarray(picture), ids), "the palette has another order"
    picture.save(sample.mask)
    assert np.array_equal(source.read(sample)[1], ids)


def test_folder_class_list(tmp_path: Path) -> None:
    """Raw labels, several colours and labels of one class, void, comments, brackets as in yaml."""
    root = write_folder(tmp_path)
    (root / "classes.txt").unlink()
    (root / "classes.yaml").write_text(
        "ground: [128, 64, 128, 7]  # road\nground: [244, 35, 232, 8]\n'sky': [70, 130, 180, 23]\n\n"
        "ignore: [0, 0, 0, 0]\n"
    )
    source = Folder(str(root))
    assert source.classes == {"ground": (128, 64, 128), "sky": (70, 130, 180)}
    assert source.table == {7: 0, 8: 0, 23: 1, 0: 255, 255: 255}
    sample = source.samples("train")[0]
    Image.fromarray(np.repeat(np.array([7, 8, 23, 0, 255], dtype=np.uint8), 768).reshape(48, 80)).save(sample.mask)
    assert Counter(source.read(sample)[1].ravel().tolist()) == {0: 1536, 1: 768, 255: 1536}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road: 1 2\nsky: 1 2 3", "line 1: 'road: 1 2' is not `name: RED GREEN BLUE"),
        ("road: 1 2 3\nsky: 1 2 300", "line 2: 'sky: 1 2 300' is not"),
        ("road: 1 2 3\nsky: 1 2 3", r"line 2: \(1, 2, 3\) of 'sky' is taken by an earlier line"),
        ("road: 1 2 3 1\nsky: 4 5 6", "line 2: 1 of 'sky' is taken by an earlier line"),
        ("road: 1 2 3\nignore: 0 0 0", "1 classes; list 2 to 254"),
    ],
)
def test_folder_class_list_mistakes(tmp_path: Path, text: str, message: str) -> None:
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        Folder(str(root))


def flat_folder(root: Path, names: list[str], suffix: str = "") -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        write_image(root / "images" / f"{name}.png", (24, 40), rng)
        write_mask(root / "masks" / f"{name}{suffix}.png", (24, 40), range(3), rng)
    (root / "classes.txt").write_text("a: 1 1 1\nb: 2 2 2\nc: 3 3 3\n")
    return root


def test_folder_layouts(tmp_path: Path) -> None:
    flat = flat_folder(tmp_path / "flat", ["x_1", "x_2", "y_1"], suffix="_mask")
    source = Folder(str(flat), suffix="_mask")
    assert source.splits == ("train",)
    assert {sample.group for sample in source.samples("train")} == {""}
    grouped = Folder(str(flat), suffix="_mask", group="^([^_]+)_")
    assert [sample.group for sample in grouped.samples("train")] == ["x", "x", "y"]
    (flat / "train.txt").write_text("y_1\nx_1.png\n\n")
    (flat / "val.txt").write_text("x_2\n")
    source = Folder(str(flat), suffix="_mask")
    assert names(source, "train") == ["x_1", "y_1"]
    assert names(source, "val") == ["x_2"]
    split_first = tmp_path / "split_first"
    flat_folder(split_first / "train", ["1", "2"])
    write_image(split_first / "test" / "images" / "3.png", (24, 40), np.random.default_rng(0))
    (split_first / "train" / "classes.txt").rename(split_first / "classes.txt")
    source = Folder(str(split_first))
    assert source.splits == ("train", "test")
    assert source.unlabelled == ("test",)
    assert names(source, "test") == ["3"]


def test_folder_mistakes(tmp_path: Path) -> None:
    root = flat_folder(tmp_path / "mine", ["1", "2"])
    (root / "val.txt").write_text("2\n3\n")
    (root / "train.txt").write_text("1\n1\n")
    source = Folder(str(root))
    with pytest.raises(ValueError, match=r"train.txt: '1' is listed twice"):
        source.samples("val")
    (root / "train.txt").write_text("1\n")
    with pytest.raises(ValueError, match=r"val.txt: no image '3' in .*images; correct the list"):
        source.samples("val")
    (root / "val.txt").write_text("2\n1\n")
    with pytest.raises(ValueError, match=r"train.txt: '1' is in val.txt too; no image is in two splits"):
        source.samples("train")
    (root / "masks" / "2.png").unlink()
    (root / "val.txt").write_text("2\n")
    with pytest.raises(
        ValueError, match=r"images/2.png: image without mask; expected .*masks/2.png, add it, set data.suf"
    ):
        source.samples("val")
    (root / "val.txt").write_text("")
    with pytest.raises(ValueError, match=r"val.txt: lists no image; add names to it"):
        Folder(str(root)).samples("val")
    (root / "train.txt").unlink()
    (root / "val.txt").write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"mine: the lists of the other splits leave no image for train"):
        Folder(str(root)).samples("train")
    (root / "empty" / "images").mkdir(parents=True)
    shutil.copy(root / "classes.txt", root / "empty")
    with pytest.raises(ValueError, match=r"images: no image in it \(\.png, "):
        Folder(str(root / "empty")).samples("train")
    (root / "val.txt").write_text("")
    with pytest.raises(ValueError, match="group=x: must be a regular expression with a group"):
        Folder(str(root), group="x")
    with pytest.raises(ValueError, match=r"group=\(x: must be a regular expression with a group"):
        Folder(str(root), group="(x")
    (root / "train.txt").write_text("1\n")
    with pytest.raises(ValueError, match=r"nothing found in the name '1'; correct the expression"):
        Folder(str(root), group="(x)").samples("train")
    with pytest.raises(ValueError, match="masks=rgb: must be auto, index or colour"):
        Folder(str(root), masks="rgb")
    (root / "classes.txt").unlink()
    with pytest.raises(
        ValueError, match=r"mine: no classes.txt; write one, with one line `name: RED GREEN BLUE` per class"
    ):
        Folder(str(root))
    with pytest.raises(ValueError, match=r"data.root=.*nowhere: no such folder"):
        Folder(str(tmp_path / "nowhere"))


def test_images_outside_of_the_splits_are_refused(tmp_path: Path) -> None:
    """They were left out, or, under `Train/`, all were train, without a word."""
    root = write_folder(tmp_path / "mine")
    (root / "images" / "notes").mkdir()
    assert Folder(str(root)).splits == ("train", "val"), "a folder without images is no matter"
    for inner, fault in (("images/x.png", "in none of the splits train, val"), ("images/night/x.png", "in none of")):
        write_image(root / inner, (4, 4), np.random.default_rng(0))
        with pytest.raises(UserError, match=rf"{'/'.join(inner.split('/')[:2])}: is {fault}"):
            Folder(str(root))
        (root / inner).unlink()
    for before, after in (("images/val", "images/Val"), ("images/Val", "images/validation")):
        (root / before).rename(root / after)
        with pytest.raises(UserError, match=f"{after}: the folders of splits are called .*; rename it to val"):
            Folder(str(root))
    other = flat_folder(tmp_path / "other" / "Training", ["1"]).rename(tmp_path / "other" / "training").parent
    (other / "training" / "classes.txt").rename(other / "classes.txt")
    with pytest.raises(UserError, match=r"training: the folders of splits .* rename it to train"):
        Folder(str(other))


def test_a_list_beside_subfolders_names_their_images_or_is_refused(tmp_path: Path) -> None:
    """It would have been ignored: `train.txt` with a part of train, or `val.txt` without `images/val`."""
    root = write_folder(tmp_path)
    every = names(Folder(str(root)), "train")
    (root / "train.txt").write_text("".join(f"./images/train/{name}.png\n" for name in every))
    assert names(Folder(str(root)), "train") == every
    (root / "train.txt").write_text("a/0\n")
    with pytest.raises(UserError, match=r"train.txt: lists other images than the subfolders.* which are train, val"):
        Folder(str(root)).samples("train")
    (root / "train.txt").rename(root / "test.txt")
    with pytest.raises(UserError, match=r"test.txt: lists other images"):
        Folder(str(root)).samples("train")


def test_a_name_of_other_bytes_is_refused(tmp_path: Path) -> None:
    """Archives of other systems have Latin-1 names, which no list, table or digest of this program could hold."""
    root = flat_folder(tmp_path, ["1", "2"])
    for kind in ("images", "masks"):
        os.rename(root / kind / "1.png", os.fsencode(root / kind) + b"/stra\xdfe.png")
    with pytest.raises(DataError, match=r"images/stra\\xdfe.png: the name stra\\xdfe is not UTF-8.*rename the file"):
        Folder(str(root)).samples("train")
    assert "the name stra\\xdfe is not UTF-8" in str(check(Folder(str(root))).errors[0].text)


def test_without_a_list_of_train_it_is_every_image_that_no_list_names(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    for kind in ("images", "masks"):
        (root / kind / "train").rename(root / kind / "drives")
        shutil.rmtree(root / kind / "val")
    (root / "val.txt").write_text("drives/a/1.png\n")
    source = Folder(str(root))
    assert source.splits == ("train", "val")
    assert [sample.name for sample in source.samples("val")] == ["drives/a/1"]
    assert [sample.name for sample in source.samples("train")] == ["drives/a/0", "drives/b/0"]
    assert not check(source).errors
