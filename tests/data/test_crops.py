"""Draws of a crop: chances, ranges, sizes, and the arguments that are refused."""

import numpy as np
import pytest

from src.data.augment.crop import Geometry
from src.data.frame import ArrayFrame


def test_chances_and_ranges() -> None:
    geometry = Geometry((50, 50), scale=(1.0, 2.0), scale_p=0.25, rotate=8.0, rotate_p=0.75, flip_p=0.1, place_p=0.5)
    places = [geometry.draw((100, 100), np.random.default_rng(seed)) for seed in range(2000)]
    assert np.mean([place.size != (100, 100) for place in places]) == pytest.approx(0.25, abs=0.04)
    assert np.mean([place.angle != 0 for place in places]) == pytest.approx(0.75, abs=0.04)
    assert np.mean([place.flip for place in places]) == pytest.approx(0.1, abs=0.03)
    middle = [place.top == (place.size[0] - 50) // 2 and place.left == (place.size[1] - 50) // 2 for place in places]
    assert np.mean(middle) == pytest.approx(0.5, abs=0.04)
    angles = np.array([place.angle for place in places if place.angle])
    assert -8 < angles.min() < -7.5
    assert 7.5 < angles.max() < 8
    tops = [place.top for place in places if place.size == (100, 100)]
    assert (min(tops), max(tops)) == (0, 50), "both ends are drawn"


@pytest.mark.parametrize(
    ("resize", "expected"),
    [(None, (100, 300)), ([40, 50], (40, 50)), ({"short": 50}, (50, 150)), ({"long": 150}, (50, 150))],
)
def test_resize(resize: object, expected: tuple[int, int]) -> None:
    assert Geometry((10, 10), resize=resize).draw((100, 300), np.random.default_rng(0)).size == expected


def test_max_share_draws_another_place() -> None:
    """A class fills the left nine tenths: few random crops would have less than three quarters of it."""
    mask = np.zeros((60, 600), np.uint8)
    mask[:, 540:] = 1
    mask[:20] = 255  # not counted
    frame = ArrayFrame(np.zeros((60, 600, 3), np.uint8), mask)
    shares = {None: [], 0.75: []}
    for limit, found in shares.items():
        geometry = Geometry((60, 80), max_share=limit)
        for seed in range(200):
            _, ids = geometry(frame, np.random.default_rng(seed))
            found.append((ids == 0).sum() / (ids != 255).sum())
    assert np.mean(np.array(shares[None]) > 0.75) > 0.85
    assert np.mean(np.array(shares[0.75]) > 0.75) == pytest.approx((480 / 521) ** 10, abs=0.1), "ten draws"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (2.0, 0.5)}, r"geometry.scale=\[2.0, 0.5\]: must be \[LOW,HIGH\]"),
        ({"scale": (0.0, 0.5)}, "geometry.scale"),
        ({"rotate": -3}, "geometry.rotate=-3: must be 0 to 180 degrees"),
        ({"flip_p": 50}, "geometry.flip_p=50: must be 0 to 1"),
        ({"max_share": 75}, "geometry.max_share=75: must be above 0"),
        ({"resize": {"width": 3}}, r"geometry.resize=.*must be \[HEIGHT,WIDTH\]"),
    ],
)
def test_geometry_refuses_wrong_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Geometry((10, 10), **options)
