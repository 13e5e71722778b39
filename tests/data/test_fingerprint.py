"""Fingerprints follow the content of data, and nothing else."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.fingerprint import BLOCK, file_content, fingerprint, training_fingerprints
from src.data.folds import Folds
from src.data.packed import attach
from src.data.sources.folder import Folder
from src.data.streets.source import Streets
from src.data.tools.pack import pack_split
from src.errors import DataError
from tests.support.trees import write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder dataset with splits train and val."""
    return write_folder(tmp_path / "data")


def of_train(root: Path) -> str:
    source = Folder(str(root))
    return fingerprint(source, source.samples("train"))


def a_file(root: Path, kind: str) -> Path:
    image, mask = Folder(str(root)).samples("train")[0].files
    return {"images": image, "masks": mask}[kind]


def test_copies_and_packs_have_the_fingerprint_of_their_data(root: Path, tmp_path: Path) -> None:
    expected = of_train(root)
    assert len(expected) == 12
    shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert of_train(tmp_path / "elsewhere") == expected
    source = Folder(str(root))
    pack_split(source, "train", tmp_path / "pack", 1)
    packed = attach(Folder(str(root)), str(tmp_path / "pack"))
    assert packed.pack is not None
    assert fingerprint(packed, packed.samples("train")) == expected


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_file_changed_in_place_changes_it(root: Path, kind: str) -> None:
    before, path = of_train(root), a_file(root, kind)
    pixels = np.asarray(Image.open(path)).copy()
    pixels[-1, -1] = pixels[0, 0] if (pixels[-1, -1] != pixels[0, 0]).any() else pixels.max() - pixels[0, 0]
    Image.fromarray(pixels).save(path)
    assert of_train(root) != before


def test_a_renamed_file_changes_it(root: Path) -> None:
    before = of_train(root)
    for path in (a_file(root, "images"), a_file(root, "masks")):
        path.rename(path.with_stem("zzz"))
    assert of_train(root) != before


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_one_pixel_in_the_middle_of_a_large_mask(tmp_path: Path, suffix: str) -> None:
    """A changed pixel shows, though the file's size stays: a PNG ends with checksums, the others are read whole."""
    path, pixels = tmp_path / f"mask.{suffix}", np.random.default_rng(0).integers(0, 19, (400, 400), np.uint8)
    found = set()
    for value in range(4):
        pixels[131, 57] = value
        Image.fromarray(pixels).save(path, **({"compress_level": 0} if suffix == "png" else {}))
        found.add(file_content(path))
        assert path.stat().st_size > 10 * BLOCK
    assert len(found) == 4


def test_the_order_of_the_classes_counts(root: Path) -> None:
    before, file = of_train(root), root / "classes.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[::-1], ""]))
    assert of_train(root) != before


def test_drawn_data_are_known_by_their_settings() -> None:
    def drawn(**settings: object) -> str:
        source = Streets(**{"num_train": 3, **settings})
        return fingerprint(source, source.samples("train"))

    assert drawn() == drawn(num_val=7)
    assert len({drawn(), drawn(seed=1), drawn(size=(64, 96)), drawn(num_train=4)}) == 4


def test_all_folds_share_the_fingerprint_of_train(root: Path) -> None:
    source = Folder(str(root))
    first, second = (training_fingerprints(source, Folds(2, fold, gap=0)) for fold in range(2))
    assert first == second == {"train": of_train(root)}
    assert training_fingerprints(source, Folds()).keys() == {"train", "val"}


def test_a_pipe_in_place_of_a_file_is_refused(root: Path) -> None:
    path = a_file(root, "images")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is no regular file; replace or remove it"):
        file_content(path)
