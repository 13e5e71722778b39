"""Augmentation of a training sample: a crop, then photometric steps and any albumentations transform, by one seed."""

import os
from collections.abc import Sequence
from copy import copy
from itertools import groupby
from typing import Self

import numpy as np

from src.errors import UserError

# Without it albumentations calls out to the network at import, in every worker.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A

from src.data.augment.crop import Geometry
from src.data.augment.filters import Elastic, Filter
from src.data.augment.photometric import LinearStep, LinearSteps
from src.data.frame import Frame
from src.data.source import IGNORE_INDEX

Step = LinearStep | Filter | Elastic | A.BasicTransform | A.BaseCompose


class Augmentation:
    """The geometry, then the steps in their order, as `(frame, seed) -> (image, mask)`: one seed gives one result.

    Args:
        geometry: the crop that is read and warped; None for the whole frame.
        steps: named, so that a recipe or a command line can change one of them: photometric steps of this project, and
            albumentations transforms, which then see the crop.

    Raises:
        UserError: a step of another kind, or one that would fill the mask with something other than 255
            (albumentations' default, 0, is a class).
    """

    def __init__(self, geometry: Geometry | None = None, **steps: Step) -> None:
        for name, step in steps.items():
            _check(name, step)
        self.geometry = geometry
        self.deferred: LinearSteps | None = None
        self.steps = []
        for combine, neighbours in groupby(steps.values(), _combination):
            group = list(neighbours)
            self.steps += [combine(group)] if combine else group

    def __call__(
        self,
        frame: Frame,
        seed: int,
        label: int | None = None,
        out: Sequence[np.ndarray | None] = (None, None),
    ) -> tuple[np.ndarray, ...]:
        """Image uint8 `(H, W, 3)` and mask uint8 `(H, W)`; with a `label`, of a crop about one of its pixels.

        They may lie in the arrays `out` of the same size: who wants them there compares. Where the last steps are
        deferred, also their matrix, float32 `(3, 4)`.
        """
        rng = np.random.default_rng(seed)
        image, mask = self.geometry(frame, rng, label, out) if self.geometry else frame.whole()
        for step in self.steps:
            given = {"out": out[0]} if isinstance(step, LinearSteps) else {}
            image, mask = step(image, mask, rng, **given)
        if self.deferred is None:
            return image, mask
        matrix = self.deferred.draw(image, rng)
        return image, mask, (np.eye(4) if matrix is None else matrix)[:3].astype(np.float32)

    def defer(self) -> Self:
        """The same, but for the linear steps at its end, which the caller applies to the image by their matrix.

        Raises:
            UserError: it does not end in such steps.
        """
        if not self.steps or not isinstance(self.steps[-1], LinearSteps):
            raise UserError(
                "augment_on=device: the last step of the augmentation must be one of src.data.augment.photometric (the "
                f"device does those at the end), not {type(self.steps[-1]).__name__ if self.steps else 'the crop'}; "
                "set augment_on=worker, or choose another recipe"
            )
        other = copy(self)
        *other.steps, other.deferred = self.steps
        return other


class Albumentations:
    """Transforms in order, reseeded for every sample.

    albumentations 2.0.8 alone draws the same stream in every forked worker and repeats it each epoch.
    """

    def __init__(self, transforms: list[A.BasicTransform | A.BaseCompose]) -> None:
        self.pipeline = A.Compose(transforms)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        self.pipeline.set_random_seed(int(rng.integers(2**32)))
        result = self.pipeline(image=image, mask=mask)
        return result["image"], result["mask"]


def _combination(step: Step) -> type[LinearSteps] | type[Albumentations] | None:
    """What makes one of several such steps that follow each other."""
    if isinstance(step, LinearStep):
        return LinearSteps
    return Albumentations if isinstance(step, A.BasicTransform | A.BaseCompose) else None


def _check(name: str, step: Step) -> None:
    if not isinstance(step, Step):
        raise UserError(
            f"augmentation.{name}: {type(step).__name__} is no step; give a transform of albumentations or one of "
            "src.data.augment.photometric and src.data.augment.filters"
        )
    for inner in _flatten(step):
        fill = getattr(inner, "fill_mask", IGNORE_INDEX)
        if fill != IGNORE_INDEX:
            raise UserError(
                f"augmentation.{name}: {type(inner).__name__} has fill_mask={fill}, which would label padding "
                f"as a class; set fill_mask: {IGNORE_INDEX}"
            )


def _flatten(step: Step) -> list[Step]:
    """The step itself, or those inside a OneOf, SomeOf or Sequential."""
    if isinstance(step, A.BaseCompose):
        return [deeper for inner in step.transforms for deeper in _flatten(inner)]
    return [step]
