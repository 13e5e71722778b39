"""Upsampling and every inference protocol, against direct formulations on whole images."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.errors import UserError
from src.inference import Protocol, fit_labels, most_likely, predict_rows, predict_scores, resize
from src.models.network import Network
from src.models.sliding import resized_rows
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


@pytest.mark.parametrize("classes", [1, 2, 11, 150])
def test_the_most_likely_class_is_the_first_of_equals(classes: int) -> None:
    scores = torch.randint(0, 5, (2, classes, 17, 33)).float()
    assert np.array_equal(most_likely(scores).numpy(), scores.numpy().argmax(axis=1)), "which takes the first"


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


class Blurred(Strided):
    """A network with context, and symmetric: a wide average at a stride, beside the colours themselves."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        wide = F.avg_pool2d(x, 9, stride=1, padding=4, count_include_pad=False)
        return (F.avg_pool2d(torch.cat([wide, 4 - x], 1), self.stride),)


def naive_scores(net: Network, image: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    """Every view whole, every window added into full-size sums, every map resized by torch."""
    size = tuple(image.shape[-2:])
    views = []
    for scale, mirrored in itertools.product(protocol.scales, (False, True)[: 1 + protocol.flip]):
        target = tuple(round(side * scale) for side in protocol.seen_size(size))
        view = F.interpolate(image.float(), target, mode="bilinear", antialias=True) if target != size else image
        view = view.flip(-1) if mirrored else view
        if protocol.window is None:
            logits = upsample(net(view)[0], target, net.align_corners)
        else:
            total, weights = 0, 0
            starts = []
            for length, window in zip(target, protocol.window, strict=True):
                step = max(1, round(window * (1 - protocol.overlap)))
                starts.append(sorted({*range(0, max(length - window, 0), step), max(length - window, 0)}))
            for top, left in itertools.product(*starts):
                crop = view[..., top : top + protocol.window[0], left : left + protocol.window[1]]
                height, width = crop.shape[-2:]
                around = (left, target[1] - left - width, top, target[0] - top - height)
                weight = torch.ones(height, width)
                if protocol.weights == "gaussian":
                    y, x = np.mgrid[:height, :width]
                    away = ((y - (height - 1) / 2) * 8 / height) ** 2 + ((x - (width - 1) / 2) * 8 / width) ** 2
                    weight = torch.from_numpy(np.maximum(np.exp(-away / 2), 1e-6)).float()
                total = total + F.pad(upsample(net(crop)[0], (height, width), net.align_corners) * weight, around)
                weights = weights + F.pad(weight, around)
            logits = total / weights
        logits = logits.flip(-1) if mirrored else logits
        views.append(F.interpolate(logits, size, mode="bilinear") if target != size else logits)
    return views[0] if len(views) == 1 else torch.stack([view.softmax(1) for view in views]).mean(0).log()


PROTOCOLS = {
    "whole": Protocol(),
    "smaller": Protocol(size=(40, 72)),
    "larger": Protocol(short_side=150),
    "far smaller": Protocol(size=(9, 16)),
    "windows": Protocol(window=(32, 48), overlap=0.4),
    "gaussian": Protocol(window=(32, 48), overlap=0.5, weights="gaussian"),
    "windows at another size": Protocol(size=(60, 100), window=(32, 48)),
    "windows of far larger images": Protocol(size=(25, 30), window=(16, 16), scales=(1.0, 2.0), flip=True),
    "scales": Protocol(scales=(0.5, 0.75, 1.25), flip=True),
    "everything": Protocol(
        short_side=66, window=(33, 80), overlap=0.3, weights="gaussian", scales=(0.75, 1.5), flip=True
    ),
}


@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_bands_of_every_protocol_are_the_whole(name: str, stride: int) -> None:
    """Also with bands of one row."""
    torch.manual_seed(0)
    net = Network(Blurred(stride), mean=[0.0] * 3, std=[64 / 255] * 3)
    image = torch.randint(0, 256, (2, 3, 75, 131), dtype=torch.uint8)
    expected = naive_scores(net, image, PROTOCOLS[name])
    torch.testing.assert_close(predict_scores(net, image, PROTOCOLS[name]), expected, rtol=1e-4, atol=1e-4)
    for band_bytes in (1, 131 * 6 * 2 * 4 * 10):
        bands = list(predict_rows(net, image, PROTOCOLS[name], band_bytes))
        assert [start for start, _ in bands] == list(
            itertools.accumulate((band.shape[2] for _, band in bands[:-1]), initial=0)
        )
        assert max(band.shape[2] for _, band in bands) == (1 if band_bytes == 1 else 10)
        torch.testing.assert_close(torch.cat([band for _, band in bands], 2), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", ["flat", "gaussian"])
def test_one_window_is_the_whole_image(weights: str) -> None:
    net = Network(Blurred(8), mean=[0.0] * 3, std=[1 / 255] * 3)
    image = torch.randint(0, 256, (1, 3, 75, 131), dtype=torch.uint8)
    whole = predict_scores(net, image, Protocol())
    for window in ((75, 131), (100, 500)):
        scores = predict_scores(net, image, Protocol(window=window, weights=weights))
        torch.testing.assert_close(scores, whole, rtol=1e-5, atol=1e-3)
        assert torch.equal(scores.argmax(1), whole.argmax(1))


@pytest.mark.parametrize("window", [None, (32, 64)])
def test_flip_of_a_symmetric_network_changes_nothing(window: tuple[int, int] | None) -> None:
    """At a width that needs no padding, and whose windows are mirrored onto each other."""
    net = Network(Blurred(8), mean=[0.0] * 3, std=[64 / 255] * 3)
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    once = predict_scores(net, image, Protocol(window=window, overlap=0.5)).log_softmax(1)
    both = predict_scores(net, image, Protocol(window=window, overlap=0.5, flip=True))
    torch.testing.assert_close(both, once, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(30, 50), (75, 50), (110, 131), (7, 200), (75, 131)])
def test_rows_of_a_resized_image_are_those_of_the_whole(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (2, 3, 75, 131), dtype=torch.uint8)
    whole = resize(image, size)
    for start, stop in ((0, size[0]), (0, 1), (3, 7), (size[0] - 2, size[0])):
        rows = resized_rows(image, size, slice(start, stop)).float()
        torch.testing.assert_close(rows, whole[..., start:stop, :], rtol=1e-5, atol=2e-3)


def test_labels_at_the_size_that_is_seen() -> None:
    """The middle of an image at another size, as R0 and R1 counted, and all of it."""
    image = torch.randint(0, 256, (1, 3, 60, 100), dtype=torch.uint8)
    mask = torch.arange(60 * 100).remainder(251).to(torch.uint8).view(1, 60, 100)
    protocol = Protocol(short_side=30, labels="seen", crop=(21, 27), flip=True)
    assert str(protocol) == "whole at short side 30, centre crop 21x27, labels at that size, flip"
    seen, labels, rest = fit_labels(image, mask, protocol)
    assert rest == Protocol(flip=True)
    assert torch.equal(labels, mask[:, 1::2, 1::2][:, 4:25, 11:38]), "(30 - 21) // 2 and (50 - 27) // 2"
    assert torch.equal(seen, resize(image, (30, 50))[..., 4:25, 11:38])
    own = fit_labels(image, mask, Protocol(short_side=30))
    assert torch.equal(own[0], image)
    assert torch.equal(own[1], mask)
    assert own[2] == Protocol(short_side=30)
    assert fit_labels(image, mask, Protocol(crop=(90, 40)))[1].shape == (1, 60, 40), "of a smaller image, all rows"


def test_a_crop_of_an_image_that_has_its_size_already_is_seen_as_it_is() -> None:
    image, mask = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), torch.zeros(1, 64, 96, dtype=torch.uint8)
    for size in ({"short_side": 64}, {"size": (64, 96)}):
        crop, _, rest = fit_labels(image, mask, Protocol(**size, labels="seen", crop=(32, 32)))
        assert torch.equal(predict_scores(network(1), crop, rest), image[..., 16:48, 32:64].float())


def test_the_tag_of_windows_names_their_weights() -> None:
    assert str(Protocol(window=(8, 9), weights="gaussian")) == "window 8x9 overlap 0.33 gaussian at own size"
    assert str(Protocol(weights="gaussian")) == "whole at own size", "there are no windows"


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(window=(32, 32)), Protocol(scales=(0.5, 1.0), flip=True)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_no_class(protocol: Protocol, value: float) -> None:
    net = network(1)
    net.std.fill_(0 if value == torch.inf else torch.nan)
    with pytest.raises(UserError, match=r"scores are not finite .*optimizer\.lr.*trainer\.precision=32-true"):
        predict_scores(net, torch.full((1, 3, 64, 96), 9, dtype=torch.uint8), protocol)
