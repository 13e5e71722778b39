"""Settles `trainer.precision=auto`: measured once per run, on the CPU that the run begins on, and kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.config.checks import AUTO, has_several_devices
from src.config.saved import config_text, read_config
from src.files import has_file, write_text
from src.runs.folder import RunFolder

if TYPE_CHECKING:
    from src.task import SegmentationTask

log = logging.getLogger(__name__)


def settle_precision(cfg: DictConfig, task: SegmentationTask) -> None:
    """Replaces `auto` in a resolved configuration by the precision that the run has, or else by the faster one.

    The run's `config.yaml` then holds it, so that a run that continues, on whatever machine, keeps its precision.
    """
    if cfg.trainer.precision != AUTO:
        return
    run = RunFolder(Path(cfg.run_dir))
    has_config = has_file(run.config)
    precision = read_config(run.config).trainer.precision if has_config else AUTO
    if precision == AUTO and has_several_devices(cfg):
        precision = "32-true"  # the processes would have to agree
        log.info("precision %s on several devices; trainer.precision=bf16-mixed may be faster", precision)
    elif precision == AUTO:
        from src.training.precision import choose_precision  # imports torch

        precision, ratio = choose_precision(task, cfg.data.crop_size, cfg.data.batch_size)
        log.info("precision %s: a step with bf16-mixed is %.2f times as fast as with 32-true here", precision, ratio)
    cfg.trainer.precision = precision
    if has_config:
        write_text(run.config, config_text(cfg))
