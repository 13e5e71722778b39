"""Trains a network; the same command continues a run that was interrupted. `python -m src.train --help`"""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.cli import launch
from src.config.open import (
    RUN_VARIABLE,
    check_configuration,
    complete,
    has_several_devices,
    one_process_per_job,
    open_range_test,
    open_run,
)
from src.config.sweep import note_run
from src.errors import UserError
from src.machine import is_first_process, spare_hub_retries
from src.runs.folder import RunFolder
from src.runs.leakage import leakage_before
from src.training.transfer import Origin

if TYPE_CHECKING:
    from lightning import Callback

    from src.data.datamodule import SegmentationDataModule
    from src.task import SegmentationTask

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Trains by a composed config, or goes on where the run folder ends; returns val/miou of the best checkpoint.

    With `find_lr` the range test takes the training's place, and its suggestion is returned.
    """
    cfg = complete(cfg)
    if cfg.find_lr:
        return find_lr(*open_range_test(cfg))
    run, resolved = open_run(cfg)
    note_run(run)
    if run.read_results().finished:
        log.info("%s is finished; resume=false would train it again, beside it", run.path)
    elif one_process_per_job(cfg):
        train_in_own_process(run)
    else:
        with claimed(run, cfg) as is_first:
            fit(resolved, run, is_first)
    return report(run) if is_first_process() else math.nan


def fit(cfg: DictConfig, run: RunFolder, is_first: bool) -> None:
    """Trains, evaluates the best checkpoint, and leaves figures and pictures in the run folder."""
    data, task, callbacks = build(cfg, continues=run.last.is_file())
    # Only now that the configuration is known to be right: importing these takes ten seconds.
    from src.callbacks.wandb_logger import OneRunLogger
    from src.evaluation.measure import evaluate, find_taints
    from src.reports.dashboard import marked_figures
    from src.reports.figures import draw_run
    from src.reports.tables import class_table
    from src.runs.marks import MARK
    from src.training.banner import banner

    loggers = list(instantiate(cfg.logger).values())
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run.path))
    if is_first:
        log.info(banner(cfg, run, data, task, trainer))
    with ExitStack() as stack:
        dashboards = [stack.enter_context(logger) for logger in loggers if isinstance(logger, OneRunLogger)]
        taints = find_taints(data, data.validation_split, leakage_before(run.path))
        if taints and is_first:
            log.info("note: %s figures of this training's validation: %s", MARK, "; ".join(map(str, taints)))
        for dashboard in dashboards if taints else []:
            dashboard.mark(taints)
        for logger in loggers:
            logger.log_hyperparams(OmegaConf.to_container(cfg))
        trainer.fit(task, data, ckpt_path=run.last if run.last.is_file() else None, weights_only=True)
        trainer.loggers = []  # what follows is not a point of the curves
        evaluation = evaluate(trainer, task, data, run, data.validation_split, "best")
        if trainer.is_global_zero:
            pictures = draw_run(run, evaluation)
            for dashboard in dashboards:
                dashboard.publish(pictures, class_table(evaluation), marked_figures("best", evaluation))
            run.add_evaluation(evaluation, finished=True)


def build(
    cfg: DictConfig, continues: bool = False
) -> tuple["SegmentationDataModule", "SegmentationTask", list["Callback"]]:
    """Data, task and callbacks, by the run's seed; settles in `cfg` whether BatchNorm is synchronised."""
    if cfg.backbone is not None and cfg.backbone.weights == "imagenet":
        spare_hub_retries()
    import lightning as L

    from src.training.banner import quieten

    quieten()
    cfg.trainer.sync_batchnorm = synchronises_batchnorm(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.datamodule)
    task = build_task(cfg, continues)
    callbacks = instantiate(cfg.callbacks)
    if not cfg.trainer.enable_progress_bar:
        callbacks.pop("progress")
    return data, task, [callback for callback in callbacks.values() if callback is not None]


def build_task(cfg: DictConfig, continues: bool) -> "SegmentationTask":
    """The task with the weights it starts from: those of `init_from`, but not where it continues from a checkpoint."""
    if cfg.init_from is None:
        return instantiate(cfg.task)
    # Without its ImageNet weights, which need not be fetched: the source or, later, the last checkpoint has them all.
    bare = OmegaConf.merge(cfg.task)
    for key in ("backbone.weights", "weights"):
        if OmegaConf.select(bare.network.architecture, key) is not None:
            OmegaConf.update(bare.network.architecture, key, None)
    task = instantiate(bare)
    return task if continues else _transferred(task, bare, cfg)


def _transferred(task: "SegmentationTask", bare: DictConfig, cfg: DictConfig) -> "SegmentationTask":
    """The task with the weights of `init_from`; with ImageNet's beneath them where the source has not the encoder."""
    import lightning as L

    from src.training.transfer import class_tensors, copy_weights, describe, plan_transfer

    origin, classes = Origin(**cfg.init_source), list(cfg.data.classes)
    of_classes = set()
    if origin.classes not in (None, classes):
        other = OmegaConf.merge(bare.network, {"architecture": {"num_classes": len(classes) + 1}})
        if "teacher" in other.architecture:
            other.architecture.teacher = None
        of_classes = class_tensors(task.network.architecture, instantiate(other, _convert_="all").architecture)
    transfer = plan_transfer(task.network.architecture, origin, of_classes)
    if not transfer.has_encoder:
        L.seed_everything(cfg.seed, verbose=False)
        task = instantiate(cfg.task)
    copy_weights(task.network.architecture, transfer)
    if is_first_process():
        log.info(describe(transfer, origin, classes, task.network.mean, task.network.std))
    return task


def synchronises_batchnorm(cfg: DictConfig) -> bool:
    """Whether BatchNorm is over the batches of all devices. UserError where that is asked of CPUs."""
    import torch

    given = cfg.trainer.sync_batchnorm
    has_gpus = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    if given not in (True, False, "auto"):
        raise UserError(f"trainer.sync_batchnorm={given}: must be auto, true or false")
    if given is True and has_several_devices(cfg) and not has_gpus:
        raise UserError("trainer.sync_batchnorm=true: SyncBatchNorm exists on GPUs alone; set it to auto or false")
    return has_several_devices(cfg) and has_gpus if given == "auto" else given


def find_lr(folder: Path, cfg: DictConfig) -> float:
    """Smith's learning rate range test instead of a training; leaves `lr_range.csv` and `.png`, tells a suggestion."""
    data, task, callbacks = build(cfg)
    from src.callbacks.freezing import Freezing
    from src.callbacks.range_test import RangeTest
    from src.reports.run_plots import plot_range
    from src.training.lr_range import suggest, write_range
    from src.training.schedules import constant

    task.build_scheduler = partial(constant, warmup_epochs=0)  # the test's own rate takes the place of the run's
    test = RangeTest(**cfg.lr_range)
    trainer = instantiate(
        cfg.trainer,
        callbacks=[test, *(callback for callback in callbacks if isinstance(callback, Freezing))],
        logger=False,
        enable_checkpointing=False,
        max_epochs=cfg.lr_range.steps,  # more than enough
        max_steps=cfg.lr_range.steps,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        default_root_dir=str(folder),
    )
    trainer.fit(task, data)
    write_range(folder / "lr_range.csv", test.points)
    suggestion = suggest(test.points)
    plot_range(test.points, suggestion, folder / "lr_range.png", folder.name)
    log.info("%s\n%s", suggestion, folder / "lr_range.png")
    return suggestion.lr


@contextmanager
def claimed(run: RunFolder, cfg: DictConfig) -> Iterator[bool]:
    """Holds the run folder, logs into it, names it to the processes that Lightning starts; True in the first.

    Raises:
        UserError: another process has it, or made it a run of another configuration since it was opened.
    """
    os.environ[RUN_VARIABLE] = str(run.path)
    try:
        if not is_first_process():
            yield False
            return
        with run.lock(), closing(logging.FileHandler(run.log)) as handler:
            check_configuration(cfg, run)
            run.note_session()
            logging.getLogger().addHandler(handler)
            try:
                yield True
            finally:
                logging.getLogger().removeHandler(handler)
    finally:
        os.environ.pop(RUN_VARIABLE)


def report(run: RunFolder) -> float:
    """Tells the figures of the training's own evaluation; returns its mIoU."""
    from src.reports.tables import class_table
    from src.runs.marks import mark

    evaluation = run.read_results().own
    log.info("%s\nval/miou %.4f%s   %s", class_table(evaluation), evaluation.miou, mark(evaluation), run.path)
    return evaluation.miou


def train_in_own_process(run: RunFolder) -> None:
    """This job of a sweep as a command of its own: Lightning's child processes would replay the whole sweep."""
    command = [sys.executable, "-m", "src.train", *HydraConfig.get().overrides.task]
    status = subprocess.run(command, env={**os.environ, RUN_VARIABLE: str(run.path)}, check=False).returncode
    if status != 0:
        raise UserError(f"{' '.join(command[1:])}: ended with status {status}")


if __name__ == "__main__":
    launch(train, "train")
