"""Tests of class weights: published figures, hand-computed values, and the numbers that a run keeps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.config.complete import complete
from src.data import statistics
from src.data.folds import Folds
from src.data.sources.camvid import CamVid
from src.data.statistics import (
    WEIGHTINGS,
    Statistics,
    class_weights,
    effective_number,
    training_statistics,
)
from src.data.streets.source import Streets
from tests.data.test_statistics import brute_force
from tests.support.paths import ROOT, TINY

# Report R3 (CSE 253 PA3), train.py: pixels of the 19 classes and the weights that it prints.
R3_PIXELS = (
    742593219, 86277776, 348211930, 10532667, 14233504, 22534680, 3647030, 9750011, 274652891, 18558778, 62168130,
    25954782, 3507436, 125749610, 5053833, 4915128, 4801188, 1896224, 8614510,
)  # fmt: skip
R3_WEIGHTS = (
    0.253, 0.741, 0.369, 2.122, 1.825, 1.450, 3.605, 2.205, 0.415, 1.598, 0.873, 1.351, 3.676, 0.614, 3.063, 3.106,
    3.142, 5.000, 2.346,
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREETSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def of(*images: tuple[int, ...], ignored: int = 0) -> Statistics:
    """Statistics of images with these pixels of each class, and `ignored` pixels of 255 each."""
    return Statistics(np.array(images), np.full(len(images), ignored))


def test_inverse_sqrt_gives_r3s_published_weights() -> None:
    weights = class_weights("inverse_sqrt", of(R3_PIXELS, ignored=10**9))
    assert [round(weight, 3) for weight in weights] == list(R3_WEIGHTS)


def test_inverse_sqrt_gives_the_weights_of_the_camvid_recipes(real_camvid: Path) -> None:
    recipe = yaml.safe_load((ROOT / "conf" / "experiment" / "camvid" / "_unet.yaml").read_text())
    source = CamVid(str(real_camvid))
    weights = class_weights("inverse_sqrt", training_statistics(source, source.samples("train")))
    # It was typed from shares of two digits.
    assert weights == pytest.approx(recipe["loss"]["terms"]["ce"]["loss"]["class_weights"], abs=0.016)


def test_enet_by_hand() -> None:
    # Shares 0.98, 0.02 and none: 1 / ln 2, 1 / ln 1.04.
    assert class_weights("enet", of((60, 0, 0), (38, 2, 0), ignored=7)) == [1.4427, 25.4967, 0.0]


def test_median_frequency_by_hand() -> None:
    # Two images of 100 pixels, 255 included: 90 / 200, 50 / 200, and 20 / 100 of the one that has it.
    table = Statistics(np.array([[40, 30, 20], [50, 20, 0]]), np.array([10, 30]))
    assert class_weights("median_frequency", table) == [0.555556, 1.0, 1.25]


def test_effective_number_by_hand() -> None:
    # n = 1, 2, 2 images: 1, .1 / .19 and .1 / .19; their sum is 39 / 19, so times 3 * 19 / 39.
    table = of((1, 9, 9), (0, 1, 1), (0, 0, 0))
    assert effective_number(table, beta=0.9) == pytest.approx([57 / 39, 30 / 39, 30 / 39])
    one, two = 1.0, 0.001 / (1 - 0.999**2)
    expected = np.array([one, two, two]) * 3 / (one + 2 * two)
    assert class_weights("effective_number", table) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_a_class_without_pixels_has_no_weight_and_changes_no_other(name: str) -> None:
    without, with_it = of((60, 5), (38, 2), ignored=3), of((60, 0, 5), (38, 0, 2), ignored=3)
    a, b = class_weights(name, without)
    assert class_weights(name, with_it) == [a, 0.0, b]
    assert a < b or name == "effective_number"


def test_unknown_weighting() -> None:
    with pytest.raises(
        ValueError, match="class_weights=sqrt: must be one of inverse_sqrt, enet, median_frequency, eff"
    ):
        class_weights("sqrt", of((1, 2)))


# Configuration


@pytest.mark.e2e
def test_a_run_keeps_the_numbers(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weighting = "loss.terms.ce.loss.class_weights=inverse_sqrt"
    cli("train", *TINY, "loss=ce", weighting, "data.class_uniform=0.5", f"runs={tmp_path / 'runs'}")
    (run,) = (tmp_path / "runs").iterdir()
    source = Streets(size=(64, 96), num_train=4, num_val=3)
    expected = class_weights("inverse_sqrt", brute_force(source, source.samples("train")))
    config, identity = OmegaConf.load(run / "config.yaml"), json.loads((run / "identity.json").read_text())
    assert config.task.loss.terms.ce.loss.class_weights == expected
    assert identity["loss.terms.ce.loss.class_weights"] == expected
    monkeypatch.setattr(statistics, "split_statistics", lambda *_: pytest.fail("counted"))
    cli("eval", f"run={run}", "accelerator=cpu")


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch, camvid: Path):
    """Returns the class weights of the loss that a command would train CamVid with."""

    def call(*overrides: str) -> list[float] | None:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            HydraConfig.instance().set_config(compose("train", [], return_hydra_config=True))
            cfg = compose("train", ["data=camvid", f"data.root={camvid}", "loss=ce", *overrides])
        weights = complete(cfg).config.loss.terms.ce.loss.class_weights
        return weights if weights is None else list(weights)

    yield call
    HydraConfig.instance().cfg = None


def test_names_become_numbers_of_the_folds_training_part(fill, camvid: Path) -> None:
    assert fill() is None
    assert fill(f"loss.terms.ce.loss.class_weights={[1] * 11}") == [1] * 11
    source = CamVid(str(camvid))
    for fold in range(2):
        samples = Folds(num_folds=2, fold=fold).samples(source, "train")
        expected = class_weights("enet", brute_force(source, samples))
        options = ("data.num_folds=2", f"data.fold={fold}", "loss.terms.ce.loss.class_weights=enet")
        assert fill(*options) == expected
    assert fill("loss.terms.ce.loss.class_weights=enet") != expected


def test_wrong_weights_are_refused_early(fill) -> None:
    with pytest.raises(ValueError, match="class_weights=sqrt: must be one of inverse_sqrt"):
        fill("loss.terms.ce.loss.class_weights=sqrt")
    with pytest.raises(ValueError, match=r"loss.terms.ce.loss.class_weights has 2 values; camvid-11-merged has 11 cl"):
        fill("loss.terms.ce.loss.class_weights=[1,2]")
    for wrong in ([0] * 11, [1] * 10 + ["a"], [1] * 10 + [-1], 2):
        with pytest.raises(ValueError, match=rf"ce.loss.class_weights={re.escape(str(wrong))}: must be null, the name"):
            fill(f"loss.terms.ce.loss.class_weights={wrong}")
    with pytest.raises(ValueError, match=r"data.class_uniform=1.5: must be 0 to 1"):
        fill("data.class_uniform=1.5")
