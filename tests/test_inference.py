"""Upsampling and every inference protocol, against direct formulations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.inference import Protocol, predict_scores
from src.models.network import Network
from src.upsampling import upsample


class Strided(nn.Module):
    """A network without weights: local averages at a stride."""

    align_corners = False

    def __init__(self, stride: int, divisor: int = 32) -> None:
        super().__init__()
        self.stride, self.divisor = stride, divisor

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert x.shape[-1] % self.divisor == 0
        assert x.shape[-2] % self.divisor == 0
        return (F.avg_pool2d(x, self.stride),)


def network(stride: int) -> Network:
    return Network(Strided(stride), mean=[0.0, 0.0, 0.0], std=[1 / 255] * 3)


@pytest.mark.parametrize("stride", [1, 4, 8, 32])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (375, 414), (33, 32), (5, 70)])
def test_upsampling_is_exact_at_any_size(stride: int, size: tuple[int, int]) -> None:
    """Equal to upsampling the padded map by its stride and cropping, away from where the map was cropped."""
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    padded = F.pad(image.float(), (0, -size[1] % 32, 0, -size[0] % 32))
    full = F.interpolate(F.avg_pool2d(padded, stride), scale_factor=stride, mode="bilinear", align_corners=False)
    logits = network(stride)(image)[0]
    assert logits.shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))
    result = upsample(logits, size, align_corners=False)
    inner = tuple(max(0, side - stride) for side in size)
    torch.testing.assert_close(result[..., : inner[0], : inner[1]], full[..., : inner[0], : inner[1]])


def test_whole_image_equals_the_network() -> None:
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    assert torch.equal(predict_scores(network(1), image, Protocol()), image.float())


def test_the_network_works_at_its_size_and_scores_have_that_of_the_image() -> None:
    seen = []
    net = network(1)
    net.architecture.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    scores = predict_scores(net, torch.zeros(1, 3, 90, 120), Protocol(size=(32, 64)))
    assert seen == [(32, 64)]
    assert scores.shape == (1, 3, 90, 120)


def test_flip_and_scales_average_probabilities() -> None:
    """A network that reads only its left neighbour reads the right one in a mirrored view."""

    class Left(Strided):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (x.roll(1, dims=-1),)

    net = Network(Left(1), mean=[0.0] * 3, std=[1 / 255] * 3)
    image = torch.rand(1, 3, 32, 64)
    expected = (image.roll(1, -1).softmax(1) + image.roll(-1, -1).softmax(1)) / 2
    torch.testing.assert_close(predict_scores(net, image, Protocol(flip=True)).exp(), expected)
    twice = predict_scores(network(1), image, Protocol(scales=(1.0, 1.0)))
    torch.testing.assert_close(twice, image.log_softmax(1))


@pytest.mark.parametrize("window", [(32, 32), (40, 64), (200, 300)])
def test_sliding_window_covers_every_pixel(window: tuple[int, int]) -> None:
    """For a network without context, windows change nothing."""
    image = torch.randint(0, 256, (1, 3, 75, 130), dtype=torch.uint8)
    scores = predict_scores(network(1), image, Protocol(window=window, overlap=0.4))
    torch.testing.assert_close(scores, image.float())


def test_tag_says_everything() -> None:
    assert str(Protocol()) == "whole at own size"
    tag = str(Protocol(size=(192, 256), window=(96, 128), overlap=0.5, scales=(0.75, 1.0), flip=True))
    assert tag == "window 96x128 overlap 0.5 at 192x256, scales 0.75 1, flip"


def test_aligned_corners_are_torchs_own() -> None:
    logits = torch.randn(1, 2, 9, 13)
    expected = F.interpolate(logits, (65, 97), mode="bilinear", align_corners=True)
    assert torch.equal(upsample(logits, (65, 97), align_corners=True), expected)
