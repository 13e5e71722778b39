"""Pictures of formats that are not read are named with the remedy, in training, src.check and src.predict."""

from pathlib import Path

import numpy as np
import pytest

from src.data.sources.folder import Folder
from src.data.tools.check import check
from src.errors import DataError, UserError
from src.evaluation.inputs import find_images
from tests.support.trees import write_folder, write_image

REMEDY = "is HEIC, which is not read; convert it, such as by ImageMagick: magick IMG_1.HEIC IMG_1.png, or remove it"


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
