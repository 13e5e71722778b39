"""Colour steps on the device: the same pixels as from a worker, up to rounding."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.data.datamodule import SegmentationDataModule, recolour
from src.data.streets.source import Streets
from tests.data.test_data import augmentation
from tests.support.paths import TINY


def module(recipe: str, augment_on: str, workers: int) -> SegmentationDataModule:
    source = Streets(size=(64, 96), num_train=10, num_val=2, num_test=1)
    transform = augmentation("data.crop_size=[48,80]", f"augmentation={recipe}")
    return SegmentationDataModule(source, transform, 2, 1, workers, seed=0, augment_on=augment_on)


def test_recolour_is_opencvs_transform() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 33, 47, 3), np.uint8)
    matrices = rng.normal(0, 0.6, (5, 3, 4)).astype(np.float32)
    matrices[:, :, 3] = rng.normal(0, 60, (5, 3))
    recoloured = recolour(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(matrices))
    assert recoloured.shape == (5, 3, 33, 47)
    assert recoloured.is_contiguous(memory_format=torch.channels_last)
    assert {0, 255} <= set(recoloured.unique().tolist()), "some are clipped"
    for image, matrix, result in zip(images, matrices, recoloured.permute(0, 2, 3, 1).numpy(), strict=True):
        expected = cv2.transform(image, matrix)
        different = result != expected
        assert different.mean() < 0.15, "OpenCV counts in fixed point"
        assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("recipe", ["scale_crop_flip", "cityscapes"])
def test_device_and_workers_make_the_same_batches(recipe: str, workers: int) -> None:
    by_worker = list(module(recipe, "worker", 0).train_dataloader())
    data = module(recipe, "device", workers)
    raw = list(data.train_dataloader())
    by_device = [data.on_after_batch_transfer(batch, 0) for batch in raw]
    assert len(by_worker) == len(by_device) == 5
    for coloured, expected, before in zip(by_device, by_worker, raw, strict=True):
        assert coloured.keys() == {"image", "mask"}
        assert torch.equal(coloured["mask"], expected["mask"])
        assert (coloured["image"].int() - expected["image"]).abs().max() <= 1
        assert (coloured["image"] != expected["image"]).float().mean() < 0.15
        assert not torch.equal(before["image"], expected["image"])
    assert data.on_after_batch_transfer(evaluated := next(iter(data.val_dataloader())), 0) is evaluated


def test_a_recipe_that_does_not_end_in_colour_steps_is_refused() -> None:
    for recipe, end in (("r2_standard", "GaussianBlur"), ("r2_advanced", "Elastic"), ("none", "the crop")):
        with pytest.raises(ValueError, match=rf"augment_on=device: the last step .* not {end}; set augment_on=worker"):
            module(recipe, "device", 0)
    with pytest.raises(ValueError, match="augment_on=gpu: must be worker or device"):
        module("light", "gpu", 0)


@pytest.mark.e2e
def test_training_on_batches_that_the_device_coloured(cli, tmp_path: Path) -> None:
    options = [*TINY, f"runs={tmp_path}", "augmentation=light"]
    figures = [cli("train", *options, f"augment_on={where}", f"name={where}") for where in ("worker", "device")]
    assert figures[0] == pytest.approx(figures[1], abs=0.05)
    losses = [(tmp_path / where / "metrics.csv").read_text() for where in ("worker", "device")]
    assert losses[0] != losses[1] or figures[0] == figures[1]
