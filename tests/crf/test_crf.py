"""The dense CRF, against a Gaussian filter and a mean field by brute force in numpy."""

import numpy as np
import pytest
import torch

from src.crf.lattice import Lattice, _barycentric, _canonical, _closest, _elevate
from src.crf.mean_field import refine
from src.crf.settings import DenseCRF
from src.inference import Protocol, predict_rows, predict_scores
from tests.test_inference import network


def gaussian(features: np.ndarray) -> np.ndarray:
    """The kernel matrix of all pairs `(N, N)`."""
    return np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_lattice_filters_like_a_gaussian(size: int) -> None:
    rng = np.random.default_rng(size)
    features = rng.uniform(0, 3, (600, size)).astype(np.float32)
    values = np.stack([features[:, 0] > 1.5, features[:, -1] / 3], 1).astype(np.float32)
    kernel = gaussian(features)
    lattice = Lattice(torch.from_numpy(features))
    sums, weights = (lattice.filter(torch.from_numpy(each)).numpy() for each in (values, np.ones_like(values)))
    assert np.ptp(sums / weights, axis=0).min() > 0.4
    np.testing.assert_allclose(sums / weights, kernel @ values / kernel.sum(1, keepdims=True), atol=0.08)
    ratio = weights[:, 0] / kernel.sum(1)  # the same factor for all points, about
    assert ratio.std() / ratio.mean() < 0.06


def test_far_points_are_no_neighbours() -> None:
    features = torch.tensor([[0.0, 0.0], [0.5, 0.0], [40.0, 0.0], [40.0, 41.0]])
    found = Lattice(features).filter(torch.eye(4))
    assert found[0, 1] > 0.3 * found[0, 0]
    assert found[:2, 2:].abs().max() == 0
    assert found[2, 3] == found[3, 2] == 0
    assert found.diagonal().min() > 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_point_is_the_mean_of_the_corners_of_its_simplex(size: int) -> None:
    elevated = _elevate(4 * torch.randn(200, size, dtype=torch.float64))
    remainder, rank = _closest(elevated)
    weights = _barycentric(elevated - remainder, rank)
    corners = remainder[:, None] + _canonical(rank)
    torch.testing.assert_close((weights[:, :, None] * corners).sum(1), elevated)
    torch.testing.assert_close(elevated.sum(1), torch.zeros(200, dtype=torch.float64))
    assert weights.min() >= 0
    for corner in range(size + 1):  # every coordinate of the corner of remainder r is r modulo d + 1
        assert (corners[:, corner].long() % (size + 1) == corner).all()


def brute_force(scores: np.ndarray, image: np.ndarray, crf: DenseCRF) -> np.ndarray:
    """Marginals `(K, H, W)` of the mean field with exact kernels."""
    classes, height, width = scores.shape
    place = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).reshape(-1, 2)
    colours = image.reshape(3, -1).T
    kernel = np.zeros((height * width, height * width))
    for weight, features in (
        (crf.weight, np.concatenate([place / crf.position, colours / crf.colour], 1)),
        (crf.smooth_weight, place / crf.smooth_position),
    ):
        each = gaussian(features)
        scale = 1 / np.sqrt(each.sum(1))
        kernel += weight * scale[:, None] * each * scale
    logits = scores.reshape(classes, -1).T
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    unary, marginals = np.log(probabilities), probabilities
    for _ in range(crf.iterations):
        energy = np.exp(unary + kernel @ marginals)
        marginals = energy / energy.sum(1, keepdims=True)
    return marginals.T.reshape(classes, height, width)


def test_marginals_are_those_of_the_exact_mean_field() -> None:
    rng = np.random.default_rng(0)
    image = np.where(np.arange(24) < 13, 60.0, 170.0)[None, None] + rng.normal(0, 12, (3, 18, 24))
    truth = np.stack([np.arange(24) < 13, np.arange(24) >= 13, np.zeros(24)]).astype(float)[:, None].repeat(18, 1)
    scores = 2 * truth + rng.normal(0, 1, truth.shape)
    crf = DenseCRF(iterations=4, position=8.0, colour=30.0, weight=3.0, smooth_position=2.0, smooth_weight=1.0)
    found = refine(*(torch.from_numpy(each)[None].float() for each in (scores, image)), crf)[0].exp().numpy()
    exact = brute_force(scores, image, crf)
    assert np.abs(found - exact).max() < 0.04
    assert (found.argmax(0) == exact.argmax(0)).mean() > 0.99
    wrong = [(each.argmax(0) != truth.argmax(0)).mean() for each in (scores, found)]
    assert wrong[0] > 0.1
    assert wrong[1] < 0.01  # the colours say where the edge is


def test_without_weights_the_probabilities_stay() -> None:
    scores, image = torch.randn(2, 4, 6, 7), 255 * torch.rand(2, 3, 6, 7)
    crf = DenseCRF(weight=0.0, smooth_weight=0.0)
    torch.testing.assert_close(refine(scores, image, crf), scores.log_softmax(1))


def test_a_protocol_refines_the_scores_and_says_so() -> None:
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    protocol = Protocol.of({"size": [20, 30], "crf": {"position": 9.0, "iterations": 2}})
    assert protocol == Protocol(size=(20, 30), crf=DenseCRF(position=9.0, iterations=2))
    expected = refine(predict_scores(network(4), image, Protocol(size=(20, 30))), image, protocol.crf)
    ((start, scores),) = predict_rows(network(4), image, protocol)
    assert start == 0
    torch.testing.assert_close(scores, expected)
    assert str(protocol) == "whole at 20x30, dense CRF x2 3 (9 px, 10 RGB) + 1 (1 px)"
    assert Protocol.of({"size": None, "crf": None}) == Protocol()
