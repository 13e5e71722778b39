"""The metric against hand-computed values and brute-force numpy."""

import numpy as np
import pytest
import torch

from src.metrics.confusion import ConfusionMatrix, count_images
from src.metrics.figures import category_ious, dice, figures


def brute_force_iou(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Computes the IoU of each class by set operations on pixels; NaN if the union is empty."""
    valid = truth != 255
    iou = np.full(num_classes, np.nan)
    for label in range(num_classes):
        t, p = (truth == label) & valid, (prediction == label) & valid
        if (t | p).any():
            iou[label] = (t & p).sum() / (t | p).sum()
    return iou


def test_hand_computed() -> None:
    metric = ConfusionMatrix(4)
    truth = torch.tensor([[[0, 0, 1, 1], [1, 2, 255, 255]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 1, 1, 1], [2, 2, 0, 1]]])
    metric.update(count_images(prediction, truth, 4))
    expected = [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert metric.compute().tolist() == expected
    result = figures(metric.compute())
    assert result.iou[:3].tolist() == pytest.approx([1 / 2, 2 / 4, 1 / 2])
    assert np.isnan(result.iou[3]), "a class that is nowhere is NaN, not 0"
    assert result.miou == pytest.approx(0.5)
    assert result.pixel_accuracy == pytest.approx(4 / 6)
    assert result.mean_accuracy == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert result.frequency_weighted_iou == pytest.approx(2 / 6 * 1 / 2 + 3 / 6 * 2 / 4 + 1 / 6 * 1 / 2)


def test_equals_brute_force_over_a_whole_split() -> None:
    rng = np.random.default_rng(0)
    metric = ConfusionMatrix(19)
    truths, predictions = [], []
    for height, width in ((33, 65), (48, 40), (7, 91)):
        truth = rng.integers(0, 17, (2, height, width)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.1] = 255
        prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 18, truth.shape))
        prediction = np.where(prediction == 255, 0, prediction).astype(np.int64)
        metric.update(count_images(torch.from_numpy(prediction), torch.from_numpy(truth), 19))
        truths.append(truth.ravel())
        predictions.append(prediction.ravel())
    expected = brute_force_iou(np.concatenate(truths), np.concatenate(predictions), 19)
    result = figures(metric.compute())
    np.testing.assert_allclose(result.iou, expected)
    assert result.miou == pytest.approx(np.nanmean(expected))
    assert np.isnan(expected[18])


def test_void_everywhere_is_nan_not_an_error() -> None:
    metric = ConfusionMatrix(3)
    metric.update(count_images(torch.zeros(1, 4, 4, dtype=torch.int64), torch.full((1, 4, 4), 255), 3))
    result = figures(metric.compute())
    assert np.isnan(result.miou)
    assert np.isnan(result.pixel_accuracy)


def test_counts_stay_exact_beyond_float32() -> None:
    metric = ConfusionMatrix(2)
    metric.counts += 2**24
    metric.update(count_images(torch.zeros(1, 1, 1, dtype=torch.int64), torch.zeros(1, 1, 1, dtype=torch.uint8), 2))
    assert metric.compute()[0, 0].item() == 2**24 + 1


def test_each_image_has_its_matrix() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (3, 20, 30)).astype(np.uint8)
    truth[truth == 3] = 255
    prediction = rng.integers(0, 3, (3, 20, 30))
    counted = count_images(torch.from_numpy(prediction), torch.from_numpy(truth), 3)
    for image in range(3):
        expected = [[((truth[image] == t) & (prediction[image] == p)).sum() for p in range(3)] for t in range(3)]
        assert counted[image].tolist() == expected


def test_dice_and_groups_of_classes_by_hand() -> None:
    matrix = np.array([[3, 1, 0], [2, 4, 0], [0, 1, 0]])
    assert dice(matrix).tolist() == pytest.approx([2 * 3 / (4 + 5), 2 * 4 / (6 + 6), 0])
    assert np.isnan(dice(np.zeros((2, 2)))).all()
    groups = category_ious(matrix, ("a", "b", "c"), {"x": ("a", "b"), "y": ("c",)})
    assert groups.tolist() == pytest.approx([10 / 11, 0]), "a taken for b is no error within x"
