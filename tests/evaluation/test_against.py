"""The images of two runs are joined by their names, whatever their order."""

from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.evaluation.against import _aligned
from src.runs.per_image import ImageFacts, PerImage, describe_images


def images(**counts: int) -> PerImage:
    facts = [ImageFacts(name, "", 1, 1, "") for name in counts]
    return describe_images(
        facts, np.stack([np.eye(2, dtype=np.int64) * count for count in counts.values()]), ["a", "b"]
    )


def test_images_are_joined_by_name() -> None:
    first, second = _aligned(images(x=1, y=2), images(z=9, y=4, x=3), Path("other"))
    assert first[:, 0, 0].tolist() == [1, 2]
    assert second[:, 0, 0].tolist() == [3, 4]


def test_a_missing_image_is_named() -> None:
    with pytest.raises(UserError, match=r"^against=other: its evaluation lacks images of this one \(y\); repeat it$"):
        _aligned(images(x=1, y=2), images(x=3), Path("other"))
