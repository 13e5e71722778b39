"""Calibration by hand; KITTI road's figures against the formulas of its dev-kit, threshold by threshold."""

import numpy as np
import pytest
import torch

from src.metrics.calibration import calibration_bins, expected_calibration_error
from src.metrics.confidence import calibration_counts, threshold_counts
from src.metrics.road import road_figures
from tests.support.devkit import road_figures_of_devkit


def test_calibration_by_hand() -> None:
    """Bins of a fifteenth: .95 and 1 share the last one, .5 and .53 are in the eighth, (7/15, 8/15]."""
    confidence = torch.tensor([1.0, 0.95, 0.5, 0.53, 0.2])
    correct = torch.tensor([True, False, True, True, False])
    bins = calibration_bins(calibration_counts(confidence, correct, torch.ones(5, dtype=torch.bool)).numpy())
    assert [each.pixels for each in bins] == [0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
    assert (bins[14].confidence, bins[14].accuracy) == (pytest.approx(0.975), 0.5)
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.475 + 2 * (1 - 0.515) + 0.2) / 5)
    void = torch.tensor([0.5, 0.95, 0.0])  # pixels without a label
    more = calibration_counts(torch.cat([confidence, void]), torch.arange(8) % 2 == 0, torch.arange(8) < 5)
    assert torch.equal(more, calibration_counts(confidence, torch.arange(5) % 2 == 0, torch.arange(5) < 5))
    assert np.isnan(expected_calibration_error(calibration_bins(np.zeros((3, 15)))))


def test_honest_probabilities_are_calibrated() -> None:
    torch.manual_seed(0)
    confidence = torch.rand(200_000)
    counted = torch.ones(200_000, dtype=torch.bool)
    bins = calibration_bins(calibration_counts(confidence, torch.rand(200_000) < confidence, counted).numpy())
    assert expected_calibration_error(bins) < 0.01


@pytest.mark.parametrize("skill", [0.2, 1.0])
def test_road_figures_equal_the_devkits(skill: float) -> None:
    """Also with probabilities that lie on thresholds exactly."""
    rng = np.random.default_rng(0)
    truths, probabilities, counts = [], [], np.zeros((2, 257), dtype=np.int64)
    for size in ((20, 31), (25, 28)):
        truth = rng.choice([0, 1, 255], size, p=[0.3, 0.5, 0.2])
        probability = 1 / (1 + np.exp(-rng.normal(skill * (1 - 2.0 * (truth == 1)), 1)))
        probability[:5] = rng.integers(0, 256, (5, size[1])) / 255
        probability = probability.astype(np.float64)
        truths.append(truth)
        probabilities.append(probability)
        valid = torch.from_numpy(truth != 255)
        chosen = torch.from_numpy(probability)[valid]
        counts += threshold_counts(chosen, torch.from_numpy(truth == 0)[valid]).numpy()
    found = road_figures(counts, "perspective")
    assert found is not None
    for key, value in road_figures_of_devkit(probabilities, truths).items():
        assert getattr(found, key) == pytest.approx(value, abs=1e-12), key
    assert 0.4 < found.max_f < 0.95


def test_max_f_by_hand() -> None:
    """Road at .9, .8 and .3, the rest at .6 and .1: the best cut is below .8 (2 of 3 found, all right), F 4/5; or below
    .3 (3 of 3 found, one of four wrong), F 6/7."""
    probability = torch.tensor([0.9, 0.8, 0.3, 0.6, 0.1])
    found = road_figures(threshold_counts(probability, torch.tensor([True] * 3 + [False] * 2)).numpy(), "perspective")
    assert found is not None
    assert found.max_f == pytest.approx(6 / 7)
    assert (found.precision, found.recall) == (pytest.approx(3 / 4), 1)
    assert found.average_precision == pytest.approx((7 * 1 + 4 * 0.75) / 11), "recall .6 and less is had at precision 1"
    assert found.false_positive_rate == 0.5
    assert road_figures(threshold_counts(probability, torch.ones(5, dtype=torch.bool)).numpy(), "perspective") is None
