"""Mapillary Vistas, BDD100K and ADE20K in their true layouts: splits, labels by their own lists, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.data.source import Source
from src.data.sources.ade20k import Ade20k
from src.data.sources.bdd100k import Bdd100k
from src.data.sources.cityscapes_labels import CLASSES
from src.data.sources.mapillary import Mapillary
from src.data.tools.check import check
from src.errors import UserError
from tests.support.trees import names, raw, write_ade20k, write_bdd100k, write_mapillary


def compare(source: Source, ids: dict[int, int]) -> None:
    """Compares the masks of train and val with the labels of their files."""
    for split in ("train", "val"):
        for sample in source.samples(split):
            expected = np.vectorize(ids.__getitem__)(raw(sample))
            assert (source.read(sample)[1] == expected).all()


@pytest.mark.parametrize(("is_first", "labels"), [(False, "v1.2"), (False, "v2.0"), (True, "v1.2")])
def test_mapillary(tmp_path: Path, is_first: bool, labels: str) -> None:
    source = Mapillary(str(write_mapillary(tmp_path, is_first=is_first)), labels)
    assert source.classes == {"Bird": (0, 42, 42), "Road": (18, 42, 42)}
    assert source.labels == f"mapillary-{labels}-2"
    assert names(source, "train") == names(source, "val") == ["0a-b", "_QVBkGdRL", "zxb3"]
    assert source.samples("test")[0].mask is None
    folder = "labels" if is_first else f"{labels}/labels"
    assert source.samples("val")[0].mask == tmp_path / "validation" / folder / "0a-b.png"
    compare(source, {0: 0, 1: 255, 2: 1, 3: 255})
    assert not check(source).errors
    assert source.image_id(source.samples("train")[0]) == "mapillary/0a-b"


def test_mapillary_without_its_list(tmp_path: Path) -> None:
    root = write_mapillary(tmp_path)
    with pytest.raises(UserError, match=r"labels=v3: must be v1\.2 or v2\.0"):
        Mapillary(str(root), "v3")
    (root / "config_v2.0.json").write_text(json.dumps({"labels": [{"name": "a"}]}))
    with pytest.raises(UserError, match=r"config_v2\.0\.json: is no list of Mapillary's labels"):
        Mapillary(str(root), "v2.0")
    (root / "config_v2.0.json").unlink()
    with pytest.raises(UserError, match=r"no config_v2\.0\.json, which lists the labels"):
        Mapillary(str(root), "v2.0")


def test_names_that_are_not_readable_apart_are_the_full_ones(tmp_path: Path) -> None:
    root = write_mapillary(tmp_path)
    content = json.loads((root / "config_v1.2.json").read_text())
    content["labels"][2]["readable"] = "Bird"
    (root / "config_v1.2.json").write_text(json.dumps(content))
    assert list(Mapillary(str(root)).classes) == ["animal--bird", "construction--flat--road"]


@pytest.mark.parametrize("is_old", [False, True])
def test_bdd100k(tmp_path: Path, is_old: bool) -> None:
    source = Bdd100k(str(write_bdd100k(tmp_path, is_old=is_old)))
    assert source.classes == CLASSES
    assert names(source, "train") == ["0004a4c0-d4dff0ad", "7d128593-0ccfea4c"]
    assert names(source, "test") == ["cabc30fc-e7726578"]
    compare(source, {**{label: label for label in range(19)}, 255: 255})
    assert not check(source).errors
    mask = source.samples("val")[0].mask
    assert mask is not None
    assert source.image_of(mask) == source.samples("val")[0].image
    mask.unlink()
    other = Bdd100k(str(tmp_path))
    with pytest.raises(
        UserError, match=r"image without mask; .*unpack the archive of the semantic segmentation labels"
    ):
        other.samples("val")
    with pytest.raises(UserError, match="no folder images/10k/ there"):
        Bdd100k(str(tmp_path / ("seg" if is_old else "images")))


def test_ade20k(tmp_path: Path) -> None:
    source = Ade20k(str(write_ade20k(tmp_path)))
    assert list(source.classes) == ["wall", "building", "sky", "floor"]
    assert source.labels == "ade20k-4", "the number of lines of the list, 150 in the archive"
    assert names(source, "val") == ["ADE_val_00000001", "ADE_val_00000002"]
    compare(source, {0: 255, 1: 0, 2: 1, 3: 2, 4: 3})
    assert not check(source).errors
    (tmp_path / "objectInfo150.txt").write_text("Idx\tName\n2\twall\n")
    with pytest.raises(UserError, match=r"objectInfo150\.txt: is not the list of classes, numbered from 1"):
        Ade20k(str(tmp_path))
