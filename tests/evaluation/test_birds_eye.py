"""KITTI road's bird's-eye view: the cells, the figures and the errors, against the steps of its development kit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from src.config.eval_plan import check_birdseye
from src.data.sources.camvid import CamVid
from src.data.sources.kitti_road import KittiRoad
from src.errors import DataError, UserError
from src.evaluation.details import describe_details
from src.evaluation.extras import Extras
from src.evaluation.observer import ImageObserver, Seen
from src.metrics.road import birds_eye_pixels
from tests.support.devkit import birds_eye_of_devkit, road_figures_of_devkit
from tests.support.trees import kitti_calibration, write_camvid, write_kitti_road

OWN = OmegaConf.create({"labels": "own", "crop": None})


def test_pixels_by_hand() -> None:
    """A camera 2 m above the road that looks ahead, focal length 100: (x, z) is in row 20.321 + 200 / z, from 1."""
    plane = np.array([[100, 50.123, 0], [0, 20.321, 200], [0, 1, 0]])
    rows, columns = birds_eye_pixels(plane, (50, 110))
    x, z = np.meshgrid(np.arange(-9.975, 10, 0.05), np.arange(6.025, 46, 0.05))
    row, column = 20.321 + 200 / z, 50.123 + 100 * x / z
    assert len(rows) == ((row <= 50) & (column >= 1) & (column <= 110)).sum()
    assert rows.min() == int(20.321 + 200 / 45.975) - 1, "46 m ahead"
    assert (rows.max(), columns.min(), columns.max()) == (48, 0, 108), "109.9 is pixel 109 of the dev-kit"


def test_pixels_equal_the_devkits(tmp_path: Path) -> None:
    """Each pixel of the picture has a number of its own."""
    source = KittiRoad(str(write_kitti_road(tmp_path)))
    picture = np.arange(1, 48 * 80 + 1).reshape(48, 80)
    for sample in source.samples("train"):
        expected = birds_eye_of_devkit(picture, kitti_calibration((48, 80), int(sample.name[-6:])))
        pixels = birds_eye_pixels(source.read_road_plane(sample), (48, 80))
        found = np.bincount(picture[tuple(pixels)], minlength=48 * 80 + 1)
        assert np.array_equal(found[1:], np.bincount(expected.ravel(), minlength=48 * 80 + 1)[1:])
        assert 50_000 < pixels.shape[1] < 320_000, "some cells are outside of the picture"


def observe(source: KittiRoad, probabilities: list[np.ndarray], extras: Extras, rank: int, world_size: int) -> Seen:
    """Gives an observer the split in batches of two, in bands of 7 rows."""
    samples = source.samples("train")
    observer, own = (
        ImageObserver(source, samples, None, extras, rank, world_size),
        range(rank, len(samples), world_size),
    )
    for first in range(0, len(own), 2):
        batch = [own[place] for place in range(first, min(first + 2, len(own)))]
        detected = torch.from_numpy(np.stack([probabilities[place] for place in batch]))
        scores = torch.stack([detected, 1 - detected], dim=1).log()
        observer(bands(scores), torch.from_numpy(np.stack([source.read(samples[place])[1] for place in batch])))
    return observer.seen


def bands(scores: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, scores.shape[2], 7):
        yield start, scores[:, :, start : start + 7]


def test_figures_equal_the_devkits_on_its_own_pictures(tmp_path: Path) -> None:
    """Truth and probabilities are turned into bird's-eye view and evaluated there; two processes add up."""
    source, rng = KittiRoad(str(write_kitti_road(tmp_path))), np.random.default_rng(0)
    samples, truths, views, probabilities = source.samples("train"), [], [], []
    for sample in samples:
        truth, calibration = source.read(sample)[1], kitti_calibration((48, 80), int(sample.name[-6:]))
        logits = rng.normal(np.where(truth == 0, 0.8, -0.8) * np.linspace(0, 2, 48)[:, None])
        probabilities.append(1 / (1 + np.exp(-logits)))
        coded = birds_eye_of_devkit(truth.astype(int) + 1, calibration)
        truths.append(np.where(coded == 0, 255, coded - 1))
        views.append(birds_eye_of_devkit(probabilities[-1], calibration))
    seen, other = (observe(source, probabilities, Extras(birdseye=True), rank, 2) for rank in range(2))
    seen.add(other, 0)
    perspective, birds_eye = describe_details(seen, source).road
    assert (perspective.view, birds_eye.view) == ("perspective", "bird's-eye")
    for key, value in road_figures_of_devkit(views, truths).items():
        assert getattr(birds_eye, key) == pytest.approx(value, abs=1e-9), key
    assert abs(birds_eye.max_f - perspective.max_f) > 0.01
    plain = describe_details(observe(source, probabilities, Extras(), 0, 1), source)
    assert plain.road == (perspective,)


def test_a_missing_or_damaged_calibration_is_named(tmp_path: Path) -> None:
    source = KittiRoad(str(write_kitti_road(tmp_path)))
    samples = source.samples("val")
    check_birdseye(source, samples, OWN)
    path = tmp_path / "training" / "calib" / "umm_000086.txt"
    text = path.read_text()
    for damage in (text.replace("R0_rect", "R1_rect"), text[: len(text) // 2], text.replace("P2: 4", "P2: four 4")):
        path.write_text(damage)
        with pytest.raises(DataError, match=r"umm_000086.txt: no calibration with P2, R0_rect and Tr_cam_to_road \("):
            check_birdseye(source, samples, OWN)
    path.unlink()
    with pytest.raises(DataError, match=r"calib/umm_000086.txt: no such file; unpack all of data_road.zip"):
        check_birdseye(source, samples, OWN)


def test_other_data_and_protocols_are_refused(tmp_path: Path) -> None:
    source = KittiRoad(str(write_kitti_road(tmp_path / "road")))
    for changed in ({"labels": "seen"}, {"crop": [40, 40]}):
        with pytest.raises(UserError, match=r"add inference.labels=own"):
            check_birdseye(source, source.samples("val"), OmegaConf.create(dict(OWN) | changed))
    camvid = CamVid(str(write_camvid(tmp_path / "camvid", {"val": 1})))
    with pytest.raises(UserError, match="birdseye=true: is for data=kitti_road, not camvid-11-merged"):
        check_birdseye(camvid, camvid.samples("val"), OWN)
