"""The name of a run follows the content of its data, wherever these are; so do those of stages and averages."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf, open_dict
from PIL import Image

from src.config.complete import complete
from src.config.identity import NEUTRAL, derive_name, identity
from src.config.reopen import check_classes
from src.config.stage_plan import plan_stages
from src.data.sources.camvid import CamVid
from src.errors import UserError
from src.runs.folder import RunFolder
from tests.support.compose import composed
from tests.support.paths import SMALL
from tests.support.trees import write_camvid


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A dataset, a copy, and a copy with one other mask of val."""
    first = write_camvid(tmp_path / "a", {"train": 4, "val": 2})
    for name in ("b", "c"):
        shutil.copytree(first, tmp_path / name)
    relabel(tmp_path / "c" / "valannot")
    return first, tmp_path / "b", tmp_path / "c"


def relabel(folder: Path) -> None:
    path = min(folder.iterdir())
    Image.fromarray(np.asarray(Image.open(path)).T[::-1].T.copy()).save(path)


def named(root: Path, *words: str) -> str:
    with composed("train", "data=camvid", f"data.root={root}", *SMALL, *words) as cfg:
        return derive_name(complete(cfg).config)


def test_other_data_under_the_same_names_are_another_run(roots: tuple[Path, Path, Path]) -> None:
    first, copy, other = map(named, roots)
    assert first == copy
    assert first != other
    relabel(roots[0] / "trainannot")
    assert named(roots[0]) != first, "masks that were changed in place"


def test_the_difference_names_the_split(roots: tuple[Path, Path, Path]) -> None:
    found = []
    for root in (roots[0], roots[2]):
        with composed("train", "data=camvid", f"data.root={root}", *SMALL) as cfg:
            found.append(identity(complete(cfg).config))
    assert [key for key in found[0] if found[0][key] != found[1][key]] == ["data.fingerprint.val"]


def test_stages_follow_the_content_of_train(roots: tuple[Path, Path, Path], tmp_path: Path) -> None:
    few = [word for word in SMALL if "max_epochs" not in word]

    def folder(root: Path) -> str:
        words = ("data=camvid", f"data.root={root}", *few, "stages=two", "data.num_folds=2", f"runs={tmp_path}/runs")
        with composed("stages", *words) as cfg:
            return plan_stages(cfg).folder.name

    relabel(roots[2] / "trainannot")
    assert folder(roots[0]) == folder(roots[1]) != folder(roots[2])


def test_values_are_refused_before_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.batch_size=0"):
        named(tmp_path / "nowhere", "data.batch_size=0")


def test_no_labelled_pixel_to_validate_on(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "a", {"train": 4, "val": 2})
    for path in (root / "valannot").iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(path)), 11)).save(path)  # void
    with pytest.raises(UserError, match="no pixel of the 2 images of split 'val' is labelled; look at their masks"):
        named(root)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda names: [names[1], names[0], *names[2:]], "class 0 is 'Building' and was 'Sky'"),
        (lambda names: [*names, "Dog"], "'Dog' is new"),
        (lambda names: names[1:], "'Sky' is missing"),
    ],
)
def test_data_of_other_classes_than_a_run_learnt(tmp_path: Path, change, fault: str) -> None:
    source = CamVid(str(write_camvid(tmp_path / "a", {"train": 2, "val": 1})))
    learnt, run = list(source.classes), RunFolder(tmp_path / "run")
    check_classes(run, learnt, source)
    source.classes = {name: (0, 0, 0) for name in change(learnt)}
    with pytest.raises(UserError, match=f"other classes than this run learnt, or another order \\({fault}"):
        check_classes(run, learnt, source)


def test_keys_that_earlier_runs_do_not_have_are_no_part_of_the_identity_at_their_defaults() -> None:
    """So that a run of an earlier version is found, and continues, by the command that began it."""
    with composed("train") as cfg:
        present = identity(cfg)
        for key, value in NEUTRAL.items():
            assert OmegaConf.select(cfg, key) == value, key
            assert key not in present
        cfg.early_stopping.patience = 3
        assert identity(cfg)["early_stopping.patience"] == 3
        with open_dict(cfg):
            del cfg.early_stopping, cfg.inference.weights, cfg.inference.labels, cfg.inference.crop
            del cfg.data.merge, cfg.data.ignore, cfg.data.channels, cfg.data.range
        assert identity(cfg) == present
