"""The built-in scenes: determinism, recorded pixels, proportions, and that mask and image agree."""

import hashlib

import numpy as np
import pytest

from src.data.streets.source import Streets, draw_scene

# CamVid's training split under SegNet's labels, in percent, counted once.
CAMVID_SHARES = {
    "Sky": 16.85, "Building": 23.26, "Pole": 0.98, "Road": 31.66, "Pavement": 4.49, "Tree": 9.72, "SignSymbol": 1.17,
    "Fence": 1.13, "Car": 5.87, "Pedestrian": 0.64, "Bicyclist": 0.29,
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    source = Streets(num_train=80)
    return [source.read(sample) for sample in source.samples("train")]


def test_a_scene_depends_on_seed_split_and_index_only() -> None:
    a, b = Streets(num_train=3), Streets(num_train=50)
    for first, second in zip(a.samples("train"), b.samples("train"), strict=False):
        assert first == second
        for x, y in zip(a.read(first), b.read(second), strict=True):
            assert np.array_equal(x, y)
    pictures = [
        draw_scene(seed, split, i, (64, 96))[0] for seed in (0, 1) for split in ("train", "val") for i in (0, 1)
    ]
    for i, picture in enumerate(pictures):
        assert not any(np.array_equal(picture, other) for other in pictures[:i])


@pytest.mark.parametrize(
    ("split", "size", "expected"),
    [
        ("train", (96, 128), "702480578eb5ca93"),
        ("val", (72, 200), "679b983c0ca42961"),
        ("test", (96, 128), "4de9e9ed0db18e76"),
    ],
)
def test_scenes_are_the_recorded_ones(split: str, size: tuple[int, int], expected: str) -> None:
    image, mask = draw_scene(0, split, 1, size)
    assert hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()[:16] == expected


def test_a_kept_scene_cannot_be_changed_by_its_reader() -> None:
    source = Streets(num_train=1, size=(64, 96))
    (sample,) = source.samples("train")
    image, mask = source.read(sample)
    image[:], mask[:] = 0, 0
    again = source.read(sample)
    assert again[0].any()
    assert np.array_equal(again[0], draw_scene(0, "train", 0, (64, 96))[0])


def test_proportions_are_camvids(scenes) -> None:
    counts = sum(np.bincount(mask.ravel(), minlength=256) for _, mask in scenes)
    shares = 100 * counts / counts.sum()
    for label, (name, expected) in enumerate(CAMVID_SHARES.items()):
        assert list(Streets.classes)[label] == name
        assert expected / 2 < shares[label] < expected * 2, (name, shares[label])
    assert 2 < shares[255] < 4.5
    assert set(np.flatnonzero(counts)) == {*range(11), 255}


def test_sky_is_above_road_and_edges_of_labels_are_edges_of_the_image(scenes) -> None:
    inside, across = [], []
    for image, mask in scenes:
        rows = np.arange(mask.shape[0])[:, None] * np.ones_like(mask)
        assert rows[mask == 0].mean() < rows[mask == 3].mean()
        grey = image.mean(axis=2)
        step = np.abs(np.diff(grey, axis=1))
        labelled = (mask[:, 1:] != 255) & (mask[:, :-1] != 255)
        border = labelled & (mask[:, 1:] != mask[:, :-1])
        across.append(step[border].mean())
        inside.append(step[labelled & ~border].mean())
    assert np.mean(across) > 2 * np.mean(inside)


def test_other_sizes(scenes) -> None:
    image, mask = draw_scene(0, "val", 0, (72, 200))
    assert image.shape == (72, 200, 3)
    assert mask.shape == (72, 200)
    assert image.dtype == mask.dtype == np.uint8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (32, 64)}, r"size=\(32, 64\): give \(height, width\), each at least 64 pixels"),
        ({"num_val": -1}, r"num_val=-1: must be a whole number, at least 0"),
        ({"seed": -3}, r"seed=-3: must be a whole number, at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Streets(**arguments)


def test_empty_and_unknown_splits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"split 'val' is empty: set num_val to 1 or more"):
        Streets(num_val=0).samples("val")
    with pytest.raises(ValueError, match=r"split 'dev' is not one of this dataset's: train, val, test"):
        Streets().samples("dev")
