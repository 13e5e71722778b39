"""The head of an exported network agrees with inference, for all three ways in which logits are brought up."""

import pytest
import torch
from torch import Tensor

from src.inference import Protocol, predict_scores
from src.models.head import Head
from src.models.network import Network
from tests.support.architectures import build
from tests.support.small import Small

SIZES = [(97, 161), (64, 96), (33, 150)]


def aligned() -> Network:
    network = Network(Small(), [0.5] * 3, [0.25] * 3)
    network.architecture.align_corners = True
    return network


def networks() -> dict[str, Network]:
    torch.manual_seed(0)
    corner = build("deeplabv3plus", 5)
    assert corner.architecture.corner_stride is not None
    return {"plain": Network(Small(), [0.5] * 3, [0.25] * 3), "aligned": aligned(), "corner": corner}


@pytest.mark.parametrize("name", ["plain", "aligned", "corner"])
def test_labels_and_probabilities_are_those_of_inference(name: str) -> None:
    network = networks()[name].eval()
    labels, probabilities = Head(network, "labels"), Head(network, "probabilities")
    for size in SIZES:
        image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        with torch.no_grad():
            scores = predict_scores(network, image, Protocol())
            ids: Tensor = labels(image)
            shares: Tensor = probabilities(image)
        assert ids.dtype == torch.uint8
        assert ids.shape == (2, *size)
        torch.testing.assert_close(shares, scores.softmax(1), atol=1e-5, rtol=1e-4)
        assert (ids == scores.argmax(1)).float().mean() > 0.999


def test_the_stride_is_that_of_the_logits() -> None:
    assert Head(aligned(), "logits").stride == 4
    assert Head(build("pspnet", 5), "logits").stride == 8
    assert Head(networks()["corner"], "logits").stride == 4
