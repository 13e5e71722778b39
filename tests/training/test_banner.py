"""The notes of the banner: few images for BatchNorm, crops larger than the images, absent classes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate

from src.config.build import build, build_source
from src.config.flat import to_dict
from src.config.open import resolve
from src.runs.folder import RunFolder
from src.training.banner import banner, batchnorm_notes
from src.training.batchnorm import batchnorm_layers
from tests.config.test_configs import composed
from tests.support.paths import TINY
from tests.support.small import Small, small_task


def test_crops_larger_than_the_images_and_absent_classes_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.training.banner.absent_classes", lambda source, samples: ["car"] * len(samples))
    cfg = composed(tmp_path, *TINY, "data.crop_size=[96,128]", "data.mean=[0.5,0.5,0.5]", "data.std=[0.2,0.2,0.2]")
    cfg.choices = {"model": "unet_small"}
    config = resolve(cfg)
    source, _ = build_source(config)
    data, task, callbacks = build(config, source, continues=False)
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=False, default_root_dir=str(tmp_path))
    text = banner(to_dict(config), RunFolder(tmp_path), data, task, trainer)
    assert data.source is source
    assert "note: crops of 96x128 are larger than the images (64x96): padded, and the padding labelled 255" in text
    assert "note: no training image has a pixel of car, car, car, ...: not learnt, and an IoU of 0 or none" in text


@pytest.mark.parametrize(
    ("batch", "world", "synchronised", "frozen", "expected"),
    [
        (8, 1, False, 0, []),
        (7, 1, False, 0, ["BatchNorm over 7 images; below 8"]),
        (2, 4, True, 0, []),
        (2, 2, True, 0, ["BatchNorm over 4 images; below 8"]),
        (
            4,
            2,
            False,
            0,
            ["trainer.sync_batchnorm=true would join them", "BatchNorm over 4 images per device; below 8"],
        ),
        (2, 1, False, 3, []),
        (2, 1, False, 2, ["BatchNorm over 2 images; below 8"]),
    ],
)
def test_few_images_for_batchnorm_are_noted(
    batch: int, world: int, synchronised: bool, frozen: int, expected: list[str]
) -> None:
    """The accumulated batches do not count; BatchNorm that is held in all of 3 epochs needs none."""
    cfg = {
        "data": {"batch_size": batch},
        "freeze": {"batchnorm_epochs": frozen},
        "trainer": {"max_epochs": 3, "sync_batchnorm": synchronised, "accumulate_grad_batches": 8},
    }
    trainer = SimpleNamespace(world_size=world, strategy=SimpleNamespace(root_device=torch.device("cuda")))
    notes = batchnorm_notes(cfg, small_task(), trainer)
    assert len(notes) == len(expected)
    for note, part in zip(notes, expected, strict=True):
        assert part in note
    assert "freeze" not in "".join(notes)  # which would be refused: nothing is measured yet
    measured = small_task()
    next(iter(batchnorm_layers(measured.network).values())).running_mean.fill_(1.0)
    advice = "or freeze it, freeze.batchnorm_epochs=3"
    assert [advice in note for note in batchnorm_notes(cfg, measured, trainer)] == ["data.batch" in n for n in notes]
    without = small_task(architecture=lambda: Small(batchnorm=False))
    assert batchnorm_notes(cfg, without, trainer) == []
