"""The 19 evaluated classes of Cityscapes (Cordts et al. 2016), which KITTI's semantic benchmark shares.

The facts are those of cityscapesScripts' helpers/labels.py, which `tests/evaluation/test_official.py` compares.
"""

import numpy as np

from src.data.source import Colour
from src.labels import IGNORE_INDEX

LABEL_SET = "cityscapes-19"
CLASSES: dict[str, Colour] = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip
CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
# Mean pixels of an instance in Cityscapes' train (evalPixelLevelSemanticLabeling, avgClassSize).
INSTANCE_SIZES = {
    "person": 3462.4756337644, "rider": 3930.4788056518, "car": 12794.0202738185, "truck": 27855.1264367816,
    "bus": 35732.1511111111, "train": 67583.7075812274, "motorcycle": 6298.7200839748, "bicycle": 4672.3249222261,
}  # fmt: skip
# The label of each class in labelIds PNGs, in the order of CLASSES. The others of 0..33 are not evaluated, and license
# plate, -1, is not drawn; as a byte it would be 255.
LABEL_IDS = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], dtype=np.uint8)
TRAIN_ID_TABLE = {**{train_id: train_id for train_id in range(19)}, 255: IGNORE_INDEX}
ID_TABLE = dict.fromkeys([*range(34), 255], IGNORE_INDEX) | {int(id): index for index, id in enumerate(LABEL_IDS)}


def to_label_ids(train_ids: np.ndarray) -> np.ndarray:
    """Turns predicted ids uint8 `(H, W)`, 0..18, into the label ids that the official tools and servers read."""
    return LABEL_IDS[train_ids]
