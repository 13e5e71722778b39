"""Augmentation of a training sample: a crop, then colour steps and albumentations transforms, all from one seed."""

import os
from collections.abc import Callable
from copy import copy
from itertools import groupby
from typing import Any, Self

import cv2
import numpy as np

from src.errors import UserError

# Without it albumentations calls out to the network at import, in every worker.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A

from src.data.augment.crop import Geometry
from src.data.augment.elastic import Elastic
from src.data.augment.photometric import LinearStep, LinearSteps
from src.data.frame import Frame
from src.labels import IGNORE_INDEX

Step = LinearStep | Elastic | A.BasicTransform | A.BaseCompose


class Augmentation:
    """Applies the geometry, then the steps in their order, as `(frame, seed) -> (image, mask)`.

    One seed gives one result.

    Args:
        geometry: the crop that is read and warped; None takes the whole frame.
        steps: by name, so that a recipe or a command line can change one of them: steps of this project, and
            albumentations transforms, which then see the crop.

    Raises:
        UserError: a step of another kind, or one that would fill the mask with something other than 255
            (albumentations' default, 0, is a class) or interpolate between labels.
    """

    def __init__(self, geometry: Geometry | None = None, **steps: Step) -> None:
        for name, step in steps.items():
            _check(name, step)
        self.geometry, self.named = geometry, steps
        self.deferred: LinearSteps | None = None
        self.steps: list[LinearSteps | Albumentations | Elastic] = []
        for combine, neighbours in groupby(steps.values(), _combination):
            group: list[Any] = list(neighbours)
            self.steps += [combine(group)] if combine else group

    def __call__(self, frame: Frame, seed: int, label: int | None = None) -> tuple[np.ndarray, ...]:
        """Returns image uint8 `(H, W, 3)` and mask uint8 `(H, W)`; with deferred steps also their matrix.

        The matrix is float32 `(3, 4)`. The crop lies about a pixel of `label`, an id that the frame has, or anywhere if
        it is None.
        """
        rng = np.random.default_rng(seed)
        image, mask = self.geometry(frame, rng, label) if self.geometry else frame.whole()
        for step in self.steps:
            image, mask = step(image, mask, rng)
        if self.deferred is None:
            return image, mask
        matrix = self.deferred.draw(image, rng)
        return image, mask, (np.eye(4) if matrix is None else matrix)[:3].astype(np.float32)

    def check_channels(self, channels: int) -> None:
        """Raises UserError if a step takes only RGB images, and they have other channels."""
        for name, step in self.named.items() if channels != 3 else ():
            fault = isinstance(step, LinearStep)
            if isinstance(step, A.BasicTransform | A.BaseCompose):
                try:
                    for inner in _flatten(step):
                        certain: Any = copy(inner)
                        certain.p = 1.0
                        size = self.geometry.crop_size if self.geometry else (256, 256)
                        image = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
                        shape = certain(image=image, mask=image[..., 0].copy())["image"].shape
                        fault = fault or shape[2:] != (channels,)
                except Exception:  # each of its transforms has errors of its own kinds
                    fault = True
            if fault:
                raise UserError(
                    f"augmentation.{name}: {type(step).__name__} changes the colours of RGB, and data.channels="
                    f"{channels}; leave it out: ~augmentation.{name}"
                )

    def defer(self) -> Self:
        """Returns a copy without the linear steps at its end, whose matrix the caller applies to the image.

        Raises:
            UserError: it does not end in such steps.
        """
        last = self.steps[-1] if self.steps else None
        if not isinstance(last, LinearSteps):
            raise UserError(
                "augment_on=device: the last step of the augmentation must be one of src.data.augment.photometric (the "
                f"device does those at the end), not {_name(last)}; set augment_on=worker, or choose another recipe"
            )
        other = copy(self)
        other.steps, other.deferred = self.steps[:-1], last
        return other


class Albumentations:
    """Transforms in order, reseeded for every sample.

    Without that, albumentations 2.0.8 draws the same stream in every forked worker and repeats it each epoch.
    """

    def __init__(self, transforms: list[A.BasicTransform | A.BaseCompose]) -> None:
        self.pipeline = A.Compose(transforms)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        self.pipeline.set_random_seed(int(rng.integers(2**32)))
        result = self.pipeline(image=image, mask=mask)
        changed, ids = result["image"], result["mask"]
        if (changed.dtype, changed.shape, ids.dtype) != (np.uint8, (*ids.shape, image.shape[2]), np.uint8):
            names = ", ".join(type(transform).__name__ for transform in self.pipeline.transforms)
            raise UserError(
                f"augmentation: {names} turn an image of uint8 {image.shape} into {changed.dtype} "
                f"{tuple(changed.shape)}, and the mask into {ids.dtype} {tuple(ids.shape)}; leave out the steps that "
                "change the kind of numbers or the channels (Normalize, ToFloat, ToTensorV2): the network itself "
                "normalises, by data.mean and data.std"
            )
        return changed, ids


def _combination(step: Step) -> Callable[[list[Any]], LinearSteps | Albumentations] | None:
    """Returns the class that applies several such steps as one if they follow each other; None for single steps."""
    if isinstance(step, LinearStep):
        return LinearSteps
    return Albumentations if isinstance(step, A.BasicTransform | A.BaseCompose) else None


def _name(step: LinearSteps | Albumentations | Elastic | None) -> str:
    if isinstance(step, Albumentations):
        return type(step.pipeline.transforms[-1]).__name__
    return type(step).__name__ if step else "the crop"


def _check(name: str, step: Step) -> None:
    if not isinstance(step, Step):
        raise UserError(
            f"augmentation.{name}: {type(step).__name__} is not a step; give a transform of albumentations or one of "
            "src.data.augment.photometric and src.data.augment.elastic"
        )
    for inner in _flatten(step):
        for key in ("fill_mask", "mask_drop_value"):
            if (fill := getattr(inner, key, None)) not in (None, IGNORE_INDEX):  # None: the mask stays as it is
                raise UserError(
                    f"augmentation.{name}: {type(inner).__name__} has {key}={fill}, which would label padding "
                    f"as a class; set {key}: {IGNORE_INDEX}"
                )
        method = getattr(inner, "mask_interpolation", cv2.INTER_NEAREST)
        if method not in (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
            raise UserError(
                f"augmentation.{name}: {type(inner).__name__} has mask_interpolation={method}, which would blend "
                f"labels into others; set mask_interpolation: {cv2.INTER_NEAREST}, the nearest pixel"
            )


def _flatten(step: Step) -> list[Step]:
    """Returns the step itself, or those inside a OneOf, SomeOf or Sequential."""
    if isinstance(step, A.BaseCompose):
        return [deeper for inner in step.transforms for deeper in _flatten(inner)]
    return [step]
