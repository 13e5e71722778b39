"""The scores of each image: by hand, from file and back, and the images behind a cell of the confusion matrix."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.runs.per_image import ImageFacts, describe_images, find_images, read_images, write_images

FACTS = [ImageFacts(f'a/{n},"{n}"', "drive", 3, 4, f"predictions/{n}.png") for n in range(3)]
MATRICES = np.array([[[3, 1], [0, 4]], [[0, 0], [5, 0]], [[0, 0], [0, 0]]])
CLASSES = ("road", "a, b")


def test_scores_by_hand() -> None:
    images = describe_images(FACTS, MATRICES, CLASSES)
    first, second, third = images.rows
    assert first.iou == {"road": 0.75, "a, b": 0.8}
    assert (first.miou, first.pixel_accuracy, first.labelled) == (pytest.approx(0.775), 7 / 8, 8)
    assert (second.miou, second.iou["road"], second.pixel_accuracy) == (0, 0, 0)
    assert math.isnan(third.miou)
    assert images.worst(5) == [1, 0], "an image without labels has no score"
    assert [(row.image, pixels) for row, pixels in images.images_of(1, 0)] == [(FACTS[1].image, 5)]
    assert [pixels for _, pixels in images.images_of(0, 0)] == [3]


def test_images_come_back_from_their_files(tmp_path: Path) -> None:
    images = describe_images(FACTS, MATRICES, CLASSES)
    assert read_images(tmp_path) is None
    write_images(tmp_path, images)
    back = read_images(tmp_path)
    assert back is not None
    assert back.rows[:2] == images.rows[:2]
    assert math.isnan(back.rows[2].miou)
    assert np.array_equal(back.matrices, MATRICES)
    with (tmp_path / "images.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table[0]["iou/a, b"] == "0.800000"
    assert (table[2]["miou"], table[2]["labelled"]) == ("", "0")


def test_damaged_or_missing_images_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations" / "val-1"
    with pytest.raises(UserError, match=r"val-1: this evaluation has no scores by image.*src\.eval run="):
        find_images(tmp_path, "val-1")
    write_images(folder, describe_images(FACTS, MATRICES, CLASSES))
    counts = (folder / "matrices.npz").read_bytes()
    (folder / "matrices.npz").write_bytes(counts[:50])
    with pytest.raises(UserError, match=r"matrices.npz: is damaged"):
        find_images(tmp_path, "val-1")
    write_images(folder, describe_images(FACTS[:2], MATRICES[:2], CLASSES))
    two = (folder / "matrices.npz").read_bytes()
    write_images(folder, describe_images(FACTS, MATRICES, CLASSES))
    (folder / "matrices.npz").write_bytes(two)
    with pytest.raises(UserError, match=r"its shape \(2, 2, 2\) is not that of images.csv"):
        find_images(tmp_path, "val-1")
    (folder / "images.csv").write_text("image,miou\nx,1\n")
    with pytest.raises(UserError, match=r"images.csv: is damaged"):
        find_images(tmp_path, "val-1")
