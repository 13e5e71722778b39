"""Trains a network; the same command continues a run that was interrupted. `python -m src.train --help`"""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.cli import launch
from src.config import RUN_VARIABLE, complete, one_process_per_job, open_run
from src.machine import is_first_process, spare_hub_retries
from src.run import RunFolder
from src.sweep import note_run
from src.transfer import Origin

if TYPE_CHECKING:
    from src.task import SegmentationTask

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Trains by a composed config, or goes on where the run folder ends; returns val/miou of the best checkpoint."""
    cfg = complete(cfg)
    run, cfg = open_run(cfg)
    note_run(run)
    if run.read_results()["finished"]:
        log.info("%s is finished; resume=false would train it again, beside it", run.path)
    elif one_process_per_job(cfg):
        train_in_own_process(run)
    else:
        fit(cfg, run)
    return report(run) if is_first_process() else math.nan


def fit(cfg: DictConfig, run: RunFolder) -> None:
    """Trains, evaluates the best checkpoint, and leaves figures and pictures in the run folder."""
    if cfg.backbone is not None and cfg.backbone.weights == "imagenet":
        spare_hub_retries()
    # Only now that the configuration is known to be right: importing these takes ten seconds.
    import lightning as L

    from src.banner import banner, quieten
    from src.evaluation import evaluate
    from src.plots import plot_classes, plot_curves

    with claimed(run) as is_first:
        quieten()
        L.seed_everything(cfg.seed, verbose=False)
        data = instantiate(cfg.datamodule)
        task = build_task(cfg, run)
        callbacks = instantiate(cfg.callbacks)
        if not cfg.trainer.enable_progress_bar:
            callbacks.pop("progress")
        loggers = list(instantiate(cfg.logger).values())
        trainer = instantiate(
            cfg.trainer, callbacks=list(callbacks.values()), logger=loggers, default_root_dir=str(run.path)
        )
        if is_first:
            log.info(banner(cfg, run, data, task, trainer))
        for logger in loggers:
            logger.log_hyperparams(OmegaConf.to_container(cfg))
        trainer.fit(task, data, ckpt_path=run.last if run.last.is_file() else None, weights_only=True)
        trainer.loggers = []  # what follows is not a point of the curves
        evaluation = evaluate(trainer, task, data, run, data.validation_split, "best")
        if trainer.is_global_zero:
            plot_curves(run.metrics, run.path / "curves.png", run.path.name)
            plot_classes(evaluation, cfg.data.classes, run.path / "classes.png", run.path.name)
            run.add_evaluation(evaluation, finished=True)


def build_task(cfg: DictConfig, run: RunFolder) -> "SegmentationTask":
    """The task with the weights it starts from; those of `init_from` at the start of a run, never where it goes on."""
    if cfg.init_from is None:
        return instantiate(cfg.task)
    import lightning as L

    from src.transfer import class_tensors, copy_weights, describe, plan_transfer

    # Without its ImageNet weights, which need not be fetched: the source or, later, the last checkpoint has them all.
    bare = OmegaConf.merge(cfg.task)
    for key in ("backbone.weights", "weights"):
        if OmegaConf.select(bare.network.architecture, key) is not None:
            OmegaConf.update(bare.network.architecture, key, None)
    task = instantiate(bare)
    if run.last.is_file():
        return task
    origin, classes = Origin(**cfg.init_source), list(cfg.data.classes)
    of_classes = set()
    if origin.classes not in (None, classes):
        bare.network.architecture.num_classes = len(classes) + 1
        if "teacher" in bare.network.architecture:
            bare.network.architecture.teacher = None
        of_classes = class_tensors(task.network.architecture, instantiate(bare.network, _convert_="all").architecture)
    transfer = plan_transfer(task.network.architecture, origin, of_classes)
    if not transfer.has_encoder:
        L.seed_everything(cfg.seed, verbose=False)
        task = instantiate(cfg.task)
    copy_weights(task.network.architecture, transfer)
    if is_first_process():
        log.info(describe(transfer, origin, classes, task.network.mean, task.network.std))
    return task


@contextmanager
def claimed(run: RunFolder) -> Iterator[bool]:
    """Holds the run folder, logs into it, names it to the processes that Lightning starts; True in the first."""
    os.environ[RUN_VARIABLE] = str(run.path)
    try:
        if not is_first_process():
            yield False
            return
        with run.lock(), closing(logging.FileHandler(run.path / "train.log")) as handler:
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
    from src.tables import class_table

    evaluation = next(iter(run.read_results()["evaluations"].values()))
    log.info("%s\nval/miou %.4f   %s", class_table(evaluation), evaluation["miou"], run.path)
    return evaluation["miou"]


def train_in_own_process(run: RunFolder) -> None:
    """This job of a sweep as a command of its own: Lightning's child processes would replay the whole sweep."""
    command = [sys.executable, "-m", "src.train", *HydraConfig.get().overrides.task]
    status = subprocess.run(command, env={**os.environ, RUN_VARIABLE: str(run.path)}, check=False).returncode
    if status != 0:
        raise ValueError(f"{' '.join(command[1:])}: ended with status {status}")


if __name__ == "__main__":
    launch(train, "train")
