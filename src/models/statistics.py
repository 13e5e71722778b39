"""The mean and the standard deviation by which the images of a pretraining were normalised.

Torch is loaded only for a backbone of timm, whose settings are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of images, RGB in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DPN = Statistics((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
# smp's encoders that were trained with others than ImageNet's, by the beginning of the name. smp 0.5 and later keeps
# these settings on a hub; they are those of smp 0.4.
OTHERS_OF_SMP = {"inceptionresnetv2": HALF, "inceptionv4": HALF, "xception": HALF, "dpn": DPN}


def statistics_of(backbone: Mapping[str, Any]) -> Statistics:
    """Returns the statistics by which images for a backbone must be normalised; ImageNet's for random weights."""
    return IMAGENET if backbone["weights"] is None else pretrained_statistics(backbone["name"])


def pretrained_statistics(name: str) -> Statistics:
    """Returns those of the pretraining of an encoder of smp, or of timm if its name begins with `tu-`."""
    if not name.startswith("tu-"):
        return next((found for start, found in OTHERS_OF_SMP.items() if name.startswith(start)), IMAGENET)
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(name.removeprefix("tu-"))
    return IMAGENET if settings is None else Statistics(tuple(settings.mean), tuple(settings.std))
