"""Boundary IoU and F against brute-force distances between all pixels."""

import numpy as np
import pytest

from src.metrics.boundary import BoundaryCounts, band, contour_matches


def draw(rng: np.random.Generator, size: tuple[int, int] = (24, 31)) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of four classes with an ignored area, and a prediction that is shifted and has noise."""
    truth = rng.integers(0, 4, (5, 6), dtype=np.uint8).repeat(6, 0).repeat(6, 1)[: size[0], : size[1]].copy()
    prediction = np.roll(truth, (1, 2), (0, 1))
    noisy = rng.random(size) < 0.03
    prediction[noisy] = rng.integers(0, 4, noisy.sum())
    truth[3:9, 4:15] = 255
    return truth, prediction


def naive_band(ids: np.ndarray, width: int) -> np.ndarray:
    """Chessboard distance from each pixel of a class to the nearest of another, with a rim of no class around all."""
    height, length = ids.shape
    around = np.full((height + 2, length + 2), -1, dtype=int)
    around[1:-1, 1:-1] = ids
    y, x = np.nonzero(around != 255)
    labels = around[y, x]
    result = np.zeros(ids.shape, dtype=bool)
    for row, column in np.ndindex(*ids.shape):
        if ids[row, column] != 255:
            other = labels != ids[row, column]
            distance = np.maximum(abs(y[other] - row - 1), abs(x[other] - column - 1)).min()
            result[row, column] = distance <= width
    return result


@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_band_equals_brute_force_distances(width: int) -> None:
    truth, prediction = draw(np.random.default_rng(width))
    for ids in (truth, prediction, np.zeros((7, 9), dtype=np.uint8)):
        assert np.array_equal(band(ids, width), naive_band(ids, width))


@pytest.mark.parametrize("width", [1, 3])
def test_boundary_iou_of_a_split_is_by_set_operations(width: int) -> None:
    rng, counts = np.random.default_rng(0), BoundaryCounts(width, 5)
    both, either = np.zeros(5), np.zeros(5)
    for _ in range(3):
        truth, prediction = draw(rng)
        counts.add(truth, prediction)
        masked = np.where(truth == 255, 255, prediction)
        for label in range(5):
            one, other = ((ids == label) & naive_band(ids, width) for ids in (truth, masked))
            both[label] += (one & other).sum()
            either[label] += (one | other).sum()
    np.testing.assert_allclose(counts.iou()[:4], both[:4] / either[:4], rtol=1e-12)
    assert np.isnan(counts.iou()[4])
    assert 0.05 < counts.iou()[0] < 0.95


@pytest.mark.parametrize("width", [1, 2, 3])
def test_contours_match_by_brute_force_distances(width: int) -> None:
    truth, prediction = draw(np.random.default_rng(7))
    found, total, right, predicted = contour_matches(truth, prediction, width, 4)
    for label in range(4):
        places = []
        for ids in (truth, prediction):
            places.append(
                np.array([
                    (y, x)
                    for y, x in np.argwhere(ids == label)
                    if any(
                        0 <= y + dy < ids.shape[0] and 0 <= x + dx < ids.shape[1]
                        and ids[y + dy, x + dx] not in (label, 255)
                        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
                    )
                ])
            )  # fmt: skip
        distances = np.sqrt(((places[0][:, None] - places[1]) ** 2).sum(-1))
        assert total[label] == len(places[0])
        assert predicted[label] == len(places[1])
        assert found[label] == (distances.min(1) <= width).sum()
        assert right[label] == (distances.min(0) <= width).sum()


def test_a_square_by_hand() -> None:
    """A square of 4x4 that is predicted one pixel to the right: contours of 12 pixels each."""
    truth, prediction = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    truth[3:7, 3:7], prediction[3:7, 4:8] = 1, 1
    counts = BoundaryCounts(1, 2)
    counts.add(truth, prediction)
    # The rings of 12 pixels share the six in columns 4 to 6 of their upper and lower rows.
    assert counts.iou()[1] == pytest.approx(6 / 18)
    assert counts.f()[1] == 1, "all contours are off by one at most"
    nothing = BoundaryCounts(1, 3)
    nothing.add(np.where(truth == 1, 2, 0).astype(np.uint8), np.zeros((10, 10), np.uint8))
    assert nothing.f()[2] == 0, "not found"
    assert np.isnan(nothing.f()[1])
    same = BoundaryCounts(2, 2)
    same.add(truth, truth)
    assert same.iou().tolist() == [1, 1]
    assert same.f().tolist() == [1, 1]
