"""Augmentation pipelines over albumentations, reseeded for every sample and with masks padded by 255."""

import os

import numpy as np

# Without it albumentations calls out to the network at import, in every worker.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A

from src.data.source import IGNORE_INDEX


class Augmentation:
    """The given albumentations transforms in order, as `(image, mask, seed) -> (image, mask)`.

    One seed gives one result: albumentations 2.0.8 alone draws the same stream in every forked worker and repeats it
    each epoch.

    Args:
        transforms: named, so that a recipe or a command line can change one of them.

    Raises:
        ValueError: a transform would fill the mask with something other than 255 (its default, 0, is a class).
    """

    def __init__(self, **transforms: A.BasicTransform) -> None:
        for name, transform in transforms.items():
            for step in _flatten(transform):
                fill = getattr(step, "fill_mask", IGNORE_INDEX)
                if fill != IGNORE_INDEX:
                    raise ValueError(
                        f"augmentation.{name}: {type(step).__name__} has fill_mask={fill}, which would label padding "
                        f"as a class; set fill_mask: {IGNORE_INDEX}"
                    )
        self.pipeline = A.Compose(list(transforms.values()))

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        self.pipeline.set_random_seed(seed)
        result = self.pipeline(image=image, mask=mask)
        return result["image"], result["mask"]


def _flatten(transform: A.BasicTransform | A.BaseCompose) -> list[A.BasicTransform]:
    """The transform itself, or those inside a OneOf, SomeOf or Sequential."""
    if isinstance(transform, A.BaseCompose):
        return [step for inner in transform.transforms for step in _flatten(inner)]
    return [transform]
