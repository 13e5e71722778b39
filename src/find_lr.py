"""Finds a learning rate by Smith's range test; takes all that src.train takes. See `python -m src.find_lr --help`."""

import logging
from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from src.config.build import build
from src.config.checks import check_one_device
from src.config.cli import launch
from src.config.complete import complete
from src.config.flat import to_dict
from src.config.identity import derive_name
from src.config.open import folder_name, resolve
from src.files import claim
from src.training.lr_range import check_range, plot_range, suggest, write_range

log = logging.getLogger(__name__)


def find_lr(cfg: DictConfig) -> float:
    """Trains for some steps under a rising rate; returns the suggested rate.

    Leaves `lr_range.csv` and `lr_range.png` in `runs/lr_range/NAME`, where NAME is that of the run that src.train would
    make; leaves no run folder.
    """
    with open_dict(cfg):
        options = to_dict(cfg.pop("lr_range"))
    check_range(**options)
    check_one_device(cfg)
    prepared = complete(cfg)
    folder = Path(cfg.runs) / "lr_range" / folder_name(cfg, derive_name(prepared.config))
    claim(folder, "name")
    prepared.config.run_dir = str(folder)
    config = resolve(prepared.config)
    data, task, callbacks = build(config, prepared.source, continues=False)

    from src.callbacks.freezing import Freezing
    from src.callbacks.range_test import RangeTest
    from src.training.schedules import constant

    task.build_scheduler = partial(constant, warmup_epochs=0)  # the rate of the test takes the place of the run's
    test = RangeTest(**options)
    kept = [callback for callback in callbacks if isinstance(callback, Freezing)]
    trainer = instantiate(
        config.trainer, callbacks=[test, *kept], default_root_dir=str(folder), logger=False, limit_val_batches=0,
        enable_checkpointing=False, num_sanity_val_steps=0, max_steps=options["steps"], max_epochs=options["steps"],
    )  # fmt: skip
    trainer.fit(task, data)
    write_range(folder / "lr_range.csv", test.points)
    suggestion = suggest(test.points)
    plot_range(test.points, suggestion, folder / "lr_range.png", folder.name)
    log.info("%s\n%s", suggestion, folder / "lr_range.png")
    return suggestion.lr


if __name__ == "__main__":
    launch(find_lr, "find_lr")
