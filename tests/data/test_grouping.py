"""Merged, renamed and dropped classes of every dataset: ids, packs, statistics, groups, fingerprints, checks."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.check import check_data
from src.config.complete import complete
from src.config.identity import derive_name
from src.config.open import resolve
from src.config.predict_plan import list_photos
from src.config.reopen import check_classes
from src.data.fingerprint import fingerprint
from src.data.grouping import regroup
from src.data.packed import attach
from src.data.source import FileSource, Source
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.folder import Folder
from src.data.sources.kitti_road import KittiRoad
from src.data.statistics import class_weights, training_statistics
from src.data.streets.source import Streets
from src.data.tools.pack import pack_split
from src.errors import UserError
from src.metrics.figures import category_ious
from src.runs.folder import RunFolder
from tests.support.compose import composed
from tests.support.paths import SMALL
from tests.support.trees import WRITERS, write_cityscapes, write_folder, write_kitti, write_kitti_road

VEHICLE = {"vehicle": ["truck", "car", "bus"]}


def built(name: str, root: Path) -> Source:
    with composed("check", f"data={name}", f"data.root={root}") as cfg:
        return instantiate(cfg.data.dataset, _convert_="all")


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_dataset_merges_renames_and_ignores(tmp_path: Path, name: str) -> None:
    root = WRITERS[name](tmp_path / name)
    plain, source = built(name, root), built(name, root)
    names = list(plain.classes)
    if len(names) == 2:
        merge: dict[str, Any] = {"ground": names[1]}  # only a new name
        ignore: list[str] | None = None
        expected = [names[0], "ground"]
    else:
        merge, ignore = {"both": [names[-1], names[0]]}, None if len(names) == 3 else [names[2]]
        expected = [each for each in names if each not in (names[0], names[-1], *(ignore or ()))] + ["both"]
    assert regroup(source, merge, ignore) is source
    assert list(source.classes) == expected
    assert source.classes[expected[-1]] == plain.classes[names[-1]], "the colour of the first class of the list"
    assert source.labels != plain.labels
    for sample in plain.samples("train"):
        stored, ids = plain.read(sample)[1], source.read(sample)[1]
        for old, text in enumerate(names):
            new = text if text in expected else expected[-1] if text not in (ignore or ()) else None
            found = set(np.unique(ids[stored == old]).tolist())
            assert found <= {255 if new is None else expected.index(new)}, text
        assert (ids[stored == 255] == 255).all()


def test_drawn_scenes_too() -> None:
    plain, source = Streets(num_train=1), regroup(Streets(num_train=1), {"flat": ["Road", "Pavement"]}, ["Sky"])
    sample = plain.samples("train")[0]
    for _ in range(2):  # as drawn, and as remembered
        before, after = plain.read(sample)[1], source.read(sample)[1]
        flat = np.isin(before, [list(plain.classes).index(name) for name in ("Road", "Pavement")])
        assert flat.any()
        assert ((after == list(source.classes).index("flat")) == flat).all()
        assert (after[before == 0] == 255).all()


@pytest.mark.parametrize(
    ("merge", "ignore", "fault"),
    [
        ({"a": ["raod"]}, None, "data.merge.a: 'raod' is no class of this dataset; the nearest are road"),
        (None, ["xyz"], "data.ignore: 'xyz' is no class of this dataset; allowed are road, traffic light, sky"),
        ({"a": ["road"], "b": ["road"]}, None, "data.merge.b: 'road' is in data.merge.a too; a class becomes one"),
        ({"a": ["road"]}, ["road"], "data.merge.a: 'road' is in data.ignore too"),
        ({"a": ["road", "road"]}, None, "data.merge.a: 'road' is in it twice"),
        ({"sky": ["road"]}, None, "data.merge.sky: the dataset has a class of this name, which is not in the list"),
        ({"ignore": ["road"]}, None, "data.merge.ignore: the name has a meaning of its own"),
        ({"a": []}, None, "data.merge.a=[]: must be a list of names of classes"),
        ({"a": {"b": 1}}, None, "must be a list of names of classes"),
        (["road"], None, "data.merge=['road']: must be lists of classes by new name"),
        ({"a": ["road", "sky"]}, ["traffic light"], "data.merge and data.ignore leave a; leave at least 2 classes"),
    ],
)
def test_what_cannot_be_grouped_is_refused(tmp_path: Path, merge: Any, ignore: Any, fault: str) -> None:
    with pytest.raises(UserError, match=re.escape(fault)):
        regroup(Folder(str(write_folder(tmp_path))), merge, ignore)


def test_a_name_may_go_from_one_class_to_another(tmp_path: Path) -> None:
    source = regroup(Folder(str(write_folder(tmp_path))), {"sky": "road", "ground": "sky"}, None)
    assert source.classes == {"sky": (128, 64, 128), "traffic light": (250, 170, 30), "ground": (70, 130, 180)}


def test_groups_of_classes_follow(tmp_path: Path) -> None:
    root = str(write_cityscapes(tmp_path))
    source = regroup(Cityscapes(root), VEHICLE | {"flat": ["road", "sidewalk"], "human": "person"}, ["sky"])
    assert source.categories["vehicle"] == ("vehicle", "train", "motorcycle", "bicycle")
    assert source.categories["flat"] == ("flat",)
    assert source.categories["human"] == ("human", "rider")
    assert "sky" not in source.categories
    assert sorted(name for group in source.categories.values() for name in group) == sorted(source.classes)
    assert category_ious(np.eye(source.num_classes), list(source.classes), source.categories) == pytest.approx(1)
    assert set(source.instance_sizes) == {"rider", "train", "motorcycle", "bicycle"}, "and `human`, a category"
    assert regroup(Cityscapes(root), {"thing": ["road", "car"]}, None).categories == {}, "of two categories"
    road = KittiRoad(str(write_kitti_road(tmp_path / "road")))
    assert regroup(road, {"drivable": "Road"}, None).detected == "drivable"


def test_weights_and_shares_are_those_of_the_new_classes(tmp_path: Path) -> None:
    root = str(write_folder(tmp_path))
    plain, source = Folder(root), regroup(Folder(root), {"up": ["sky", "traffic light"]}, None)
    before, after = (training_statistics(each, each.samples("train")) for each in (plain, source))
    assert after.counts.tolist() == np.stack([before.counts[:, 0], before.counts[:, 1:].sum(1)], 1).tolist()
    weights = class_weights("enet", after)
    shares = [before.shares[0], before.shares[1] + before.shares[2]]
    assert weights == pytest.approx([1 / np.log(1.02 + share) for share in shares], rel=1e-5)
    ignoring = regroup(Folder(root), None, ["road"])
    found = training_statistics(ignoring, ignoring.samples("train"))
    assert (found.ignored == before.ignored + before.counts[:, 0]).all()


def test_a_pack_serves_every_grouping(tmp_path: Path) -> None:
    root = str(write_folder(tmp_path / "data"))
    grouped = regroup(Folder(root), {"up": ["sky", "traffic light"]}, None)
    assert isinstance(grouped, FileSource)
    pack_split(grouped, "train", tmp_path / "pack", 1)
    plain = attach(Folder(root), str(tmp_path / "pack"))
    packed = attach(regroup(Folder(root), {"up": ["sky", "traffic light"]}, None), str(tmp_path / "pack"))
    for sample in plain.samples("train"):
        (image, stored), (same, ids) = plain.read(sample), packed.read(sample)
        assert (image == same).all()
        assert (ids == np.array([0, 1, 1])[stored]).all()
        window = packed.open(sample).mask(3, 5, 10, 20)
        assert (window == ids[3:13, 5:25]).all()
    assert stats(packed) == stats(grouped)


def stats(source: Source) -> list[list[int]]:
    return training_statistics(source, source.samples("train")).counts.tolist()


def test_fingerprints_tell_groupings_apart(tmp_path: Path) -> None:
    root = str(write_cityscapes(tmp_path))
    found = []
    for merge, ignore in (
        (None, None),
        (VEHICLE, None),
        ({"vehicle": ["truck", "car"]}, ["bus"]),  # the same names and colours as the one above
        (None, ["bus"]),
        ({"auto": "car"}, None),
    ):
        source = regroup(Cityscapes(root), merge, ignore)
        found.append(fingerprint(source, source.samples("train")))
    assert len(set(found)) == len(found)


def test_a_run_has_another_name_and_its_own_classes(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    words = ("data=folder", f"data.root={root}", *SMALL)
    names = []
    for more in ((), ("data.merge={up:[sky,traffic light]}",), ("data.merge={up:[traffic light,sky]}",)):
        with composed("train", *words, *more) as cfg:
            done = complete(cfg)
            names.append(derive_name(done.config))
    assert len(set(names)) == 3
    assert OmegaConf.to_container(done.config.data.classes) == {"road": [128, 64, 128], "up": [250, 170, 30]}
    with pytest.raises(UserError, match="other classes than this run learnt"):
        check_classes(RunFolder(tmp_path / "run"), list(done.source.classes), Folder(str(root)))


def test_check_sees_the_classes_that_training_sees(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    words = ("data=folder", f"data.root={root}", f"out={tmp_path / 'out'}", "num_processes=1", "propose=false")
    with composed("check", *words, "data.merge={up:[sky,traffic light]}", "data.ignore=[]") as cfg:
        report = check_data(cfg)
    plain, source = Folder(str(root)), report.source
    counts = training_statistics(plain, plain.samples("train")).pixels
    assert report.shares("train") == pytest.approx(
        {"road": counts[0] / counts.sum(), "up": counts[1:].sum() / counts.sum()}
    )
    assert source.classes == {"road": (128, 64, 128), "up": (70, 130, 180)}


def test_files_for_a_server_are_refused(tmp_path: Path) -> None:
    """A benchmark wants its own classes, between which a network of merged ones does not distinguish."""
    run = RunFolder(tmp_path / "run")
    words = ("data=kitti", f"data.root={write_kitti(tmp_path / 'kitti')}", *SMALL, "data.merge={vehicle:[car,bus]}")
    with composed("train", *words) as cfg:
        config = resolve(complete(cfg).config)
    fault = "the server wants the classes of cityscapes-19, and this run learnt others"
    words = (f"run={run.path}", "split=test", "format=labelids")
    with composed("predict", *words) as cfg, pytest.raises(UserError, match=fault):
        list_photos(cfg, run, config)
