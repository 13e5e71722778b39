"""Small trees of noise images and masks in the true layout of every dataset that is read from files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from src.data.source import Sample, Source
from src.data.sources.camvid import COLOURS

CITIES = {
    "train/aachen": 3, "train/bochum": 2, "train/zurich": 1, "val/frankfurt": 2, "val/munster": 1, "test/berlin": 2,
    "train_extra/augsburg": 2,
}  # fmt: skip


def write_camvid(root: Path, counts: dict[str, int], size: tuple[int, int] = (72, 96)) -> Path:
    """Writes CamVid's layout with noise images and masks of all labels 0..11, void included."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for index in range(count):
            name = f"{'0016E5' if index % 2 else '0001TP'}_{index:05d}"
            write_pair(root / split / f"{name}.png", root / f"{split}annot" / f"{name}.png", size, range(12), rng)
    return root


def write_camvid_full(root: Path, size: tuple[int, int] = (72, 96)) -> Path:
    """Writes the original CamVid's layout, two frames of each split and all of its 32 colours in every mask."""
    rng = np.random.default_rng(0)
    names = ("0001TP_006690", "0006R0_f00930", "0016E5_07959", "0016E5_08159", "0001TP_008550", "Seq05VD_f00000")
    for name in names:
        mask = root / "LabeledApproved_full" / f"{name}_L.png"
        write_pair(root / "701_StillsRaw_full" / f"{name}.png", mask, size, list(COLOURS.values()), rng)
    return root


def write_cityscapes(root: Path, counts: dict[str, int] = CITIES, size: tuple[int, int] = (64, 128)) -> Path:
    """Writes Cityscapes' layout with all label ids 0..33, `counts` frames per `split/city`; dummy labels for test."""
    rng = np.random.default_rng(0)
    for place, count in counts.items():
        split, city = place.split("/")
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        for index in range(count):
            name = f"{city}_{index // 2:06d}_{19 * index:06d}"
            mask = root / kind / place / f"{name}_{kind}_labelIds.png"
            labels = range(4) if split == "test" else range(34)
            write_pair(root / "leftImg8bit" / place / f"{name}_leftImg8bit.png", mask, size, labels, rng)
    return root


def write_kitti(root: Path, numbers: tuple[int, ...] = (0, 2, 4, 5, 1, 3), size: tuple[int, int] = (48, 80)) -> Path:
    """Writes KITTI semantic's layout, sizes that differ, the second frames of the scene flow set, two test frames."""
    rng = np.random.default_rng(0)
    for place, number in enumerate(numbers):
        folder, varied = root / "training", (size[0] + place % 3, size[1] - place % 2)
        write_pair(
            folder / "image_2" / f"{number:06d}_10.png", folder / "semantic" / f"{number:06d}_10.png", varied,
            range(34), rng,
        )  # fmt: skip
        write_image(folder / "image_2" / f"{number:06d}_11.png", varied, rng)
    for number in range(2):
        write_image(root / "testing" / "image_2" / f"{number:06d}_10.png", size, rng)
    return root


def kitti_calibration(size: tuple[int, int], number: int) -> dict[str, np.ndarray]:
    """Returns the calibration of a camera 1.6 m above the road that looks down a little, as KITTI's files have it."""
    focal, pitch = 0.6 * size[1], np.radians(2 + number % 3)
    turn = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    yaw = np.array([[0.9998, 0.02, 0], [-0.02, 0.9998, 0], [0, 0, 1]])
    return {
        "P2": np.array([focal, 0, size[1] / 2, 4.5, 0, focal, size[0] / 2 - 2, 0.2, 0, 0, 1, 0.003]),
        "R0_rect": yaw.ravel(),
        "Tr_velo_to_cam": np.eye(3, 4).ravel(),
        "Tr_cam_to_road": np.hstack([turn, [[0.1], [-1.6], [0.3]]]).ravel(),
    }


def write_kitti_road(root: Path, size: tuple[int, int] = (48, 80)) -> Path:
    """Writes KITTI road's layout with its four colours: per category two frames of train, one of val, one of test."""
    rng = np.random.default_rng(0)
    colours = [(255, 0, 255), (255, 0, 0), (0, 0, 0), (0, 0, 255)]
    for category, last in {"um": 85, "umm": 86, "uu": 88}.items():
        for number in (0, 1, last):
            images, truth = root / "training" / "image_2", root / "training" / "gt_image_2"
            name = f"{number:06d}.png"
            write_pair(images / f"{category}_{name}", truth / f"{category}_road_{name}", size, colours, rng)
            calibration = root / "training" / "calib" / f"{category}_{number:06d}.txt"
            calibration.parent.mkdir(exist_ok=True)
            lines = [f"{key}: {' '.join(map(str, each))}" for key, each in kitti_calibration(size, number).items()]
            calibration.write_text("\n".join([*lines, ""]))
            if category == "um":
                write_mask(truth / f"um_lane_{name}", size, colours, rng)
    write_image(root / "testing" / "image_2" / "um_000000.png", size, rng)
    return root


def write_folder(root: Path, size: tuple[int, int] = (48, 80)) -> Path:
    """Writes the layout of `Folder`: three classes as index masks, frames of two drives in each of train and val."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a/0", "a/1", "b/0"):
            images, masks = root / "images" / split, root / "masks" / split
            write_pair(images / f"{name}.png", masks / f"{name}.png", size, range(3), rng)
    (root / "classes.txt").write_text("# mine\nroad: 128 64 128\ntraffic light: 250 170 30\nsky: 70 130 180\n")
    return root


def write_mapillary(root: Path, size: tuple[int, int] = (48, 80), *, is_first: bool = False) -> Path:
    """Writes Mapillary Vistas' layout with a short list of labels, of which the second and the last are not evaluated.

    Args:
        is_first: the layout of version 1, in place of that of version 2.0.
    """
    rng = np.random.default_rng(0)
    names = ("animal--bird", "object--junk", "construction--flat--road", "void--unlabeled")
    labels = [
        {"color": [9 * place, 42, 42], "instances": True, "readable": name.split("--")[-1].title(), "name": name,
         "evaluate": place in (0, 2)}
        for place, name in enumerate(names)
    ]  # fmt: skip
    content = json.dumps({"labels": labels, "version": "1.2", "mapping": "public", "folder_structure": ""})
    root.mkdir(parents=True, exist_ok=True)
    for name in ("config.json",) if is_first else ("config_v1.2.json", "config_v2.0.json"):
        (root / name).write_text(content)
    for split in ("training", "validation"):
        for name in ("_QVBkGdRL", "zxb3", "0a-b"):
            for labels_folder in ("labels",) if is_first else ("v1.2/labels", "v2.0/labels"):
                write_mask(root / split / labels_folder / f"{name}.png", size, range(4), rng)
            write_image(root / split / "images" / f"{name}.jpg", size, rng)
    write_image(root / "testing" / "images" / "t.jpg", size, rng)
    return root


def write_bdd100k(root: Path, size: tuple[int, int] = (48, 80), *, is_old: bool = False) -> Path:
    """Writes the layout of BDD100K's 10k images, with train ids; `is_old`: that of its first archive."""
    rng = np.random.default_rng(0)
    images, masks = ("seg/images", "seg/labels") if is_old else ("images/10k", "labels/sem_seg/masks")
    for split in ("train", "val"):
        for name in ("0004a4c0-d4dff0ad", "7d128593-0ccfea4c"):
            mask = root / masks / split / f"{name}{'_train_id' if is_old else ''}.png"
            write_pair(root / images / split / f"{name}.jpg", mask, size, [*range(19), 255], rng)
    write_image(root / images / "test" / "cabc30fc-e7726578.jpg", size, rng)
    return root


def write_ade20k(root: Path, size: tuple[int, int] = (48, 80)) -> Path:
    """Writes ADE20K's layout with the first four lines of its list of classes."""
    rng = np.random.default_rng(0)
    lines = [
        "Idx\tRatio\tTrain\tVal\tStuff\tName ", "1\t0.1576\t11664\t1172\t1\twall",
        "2\t0.1072\t6046\t612\t1\tbuilding, edifice", "3\t0.0878\t8265\t796\t1\tsky",
        "4\t0.0621\t9336\t917\t1\tfloor, flooring",
    ]  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "objectInfo150.txt").write_text("\n".join(lines) + "\n")
    for split, short in (("training", "train"), ("validation", "val")):
        for number in (1, 2):
            name = f"ADE_{short}_{number:08d}"
            mask = root / "annotations" / split / f"{name}.png"
            write_pair(root / "images" / split / f"{name}.jpg", mask, size, range(5), rng)
    return root


def write_cityscapes_kitti(root: Path) -> Path:
    write_cityscapes(root / "cityscapes")
    write_kitti(root / "kitti")
    return root


def write_pair(image: Path, mask: Path, size: tuple[int, int], labels: Sequence, rng: np.random.Generator) -> None:
    write_image(image, size, rng)
    write_mask(mask, size, labels, rng)


def write_image(path: Path, size: tuple[int, int], rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def write_mask(path: Path, size: tuple[int, int], labels: Sequence, rng: np.random.Generator) -> None:
    """Writes blocks of 8x8 pixels, one of each label (a number or a colour), then random ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    chosen = rng.integers(0, len(labels), rows * columns)
    chosen[: len(labels)] = np.arange(len(labels))
    blocks = np.array(labels, dtype=np.uint8)[rng.permutation(chosen).reshape(rows, columns)]
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]).save(path)


def raw(sample: Sample) -> np.ndarray:
    """Reads the labels or colours that the file of a mask holds."""
    return np.asarray(Image.open(sample.mask))


def names(source: Source, split: str) -> list[str]:
    return [sample.name for sample in source.samples(split)]


# A small tree of each dataset that is read from files, by its name in conf/data.
WRITERS: dict[str, Callable[[Path], Path]] = {
    "ade20k": write_ade20k,
    "bdd100k": write_bdd100k,
    "camvid": lambda root: write_camvid(root, {"train": 2, "val": 2}),
    "camvid_full": write_camvid_full,
    "cityscapes": write_cityscapes,
    "cityscapes_kitti": write_cityscapes_kitti,
    "folder": write_folder,
    "kitti": write_kitti,
    "kitti_road": write_kitti_road,
    "mapillary": write_mapillary,
}
