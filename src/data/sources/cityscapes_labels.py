"""The labels of Cityscapes (Cordts et al. 2016), which KITTI's semantic benchmark shares, and the 19 evaluated ones.

The facts are those of cityscapesScripts' helpers/labels.py, which `tests/evaluation/test_official.py` compares.
"""

from typing import NamedTuple

import numpy as np

from src.data.source import Colour
from src.labels import IGNORE_INDEX


class Label(NamedTuple):
    """A label: `id` stands in labelIds PNGs; `train_id` is learnt, 0..18, or 255 if it is not evaluated."""

    name: str
    id: int
    train_id: int
    colour: Colour


# License plate, -1, is not drawn into labelIds PNGs; as a byte it would be 255.
LABELS = (
    Label("unlabeled", 0, 255, (0, 0, 0)),
    Label("ego vehicle", 1, 255, (0, 0, 0)),
    Label("rectification border", 2, 255, (0, 0, 0)),
    Label("out of roi", 3, 255, (0, 0, 0)),
    Label("static", 4, 255, (0, 0, 0)),
    Label("dynamic", 5, 255, (111, 74, 0)),
    Label("ground", 6, 255, (81, 0, 81)),
    Label("road", 7, 0, (128, 64, 128)),
    Label("sidewalk", 8, 1, (244, 35, 232)),
    Label("parking", 9, 255, (250, 170, 160)),
    Label("rail track", 10, 255, (230, 150, 140)),
    Label("building", 11, 2, (70, 70, 70)),
    Label("wall", 12, 3, (102, 102, 156)),
    Label("fence", 13, 4, (190, 153, 153)),
    Label("guard rail", 14, 255, (180, 165, 180)),
    Label("bridge", 15, 255, (150, 100, 100)),
    Label("tunnel", 16, 255, (150, 120, 90)),
    Label("pole", 17, 5, (153, 153, 153)),
    Label("polegroup", 18, 255, (153, 153, 153)),
    Label("traffic light", 19, 6, (250, 170, 30)),
    Label("traffic sign", 20, 7, (220, 220, 0)),
    Label("vegetation", 21, 8, (107, 142, 35)),
    Label("terrain", 22, 9, (152, 251, 152)),
    Label("sky", 23, 10, (70, 130, 180)),
    Label("person", 24, 11, (220, 20, 60)),
    Label("rider", 25, 12, (255, 0, 0)),
    Label("car", 26, 13, (0, 0, 142)),
    Label("truck", 27, 14, (0, 0, 70)),
    Label("bus", 28, 15, (0, 60, 100)),
    Label("caravan", 29, 255, (0, 0, 90)),
    Label("trailer", 30, 255, (0, 0, 110)),
    Label("train", 31, 16, (0, 80, 100)),
    Label("motorcycle", 32, 17, (0, 0, 230)),
    Label("bicycle", 33, 18, (119, 11, 32)),
)
EVALUATED = tuple(
    sorted((label for label in LABELS if label.train_id != IGNORE_INDEX), key=lambda label: label.train_id)
)

LABEL_SET = "cityscapes-19"
CLASSES = {label.name: label.colour for label in EVALUATED}
ID_TABLE = {**{label.id: label.train_id for label in LABELS}, 255: IGNORE_INDEX}
TRAIN_ID_TABLE = {**{label.train_id: label.train_id for label in EVALUATED}, IGNORE_INDEX: IGNORE_INDEX}


def to_label_ids(train_ids: np.ndarray) -> np.ndarray:
    """Turns predicted ids uint8 `(H, W)`, 0..18, into the label ids that the official tools and servers read."""
    return np.array([label.id for label in EVALUATED], dtype=np.uint8)[train_ids]
