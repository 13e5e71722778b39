"""Trains a network; the same command continues an interrupted run. See `python -m src.train --help`."""

import logging
import math

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.build import build
from src.config.cli import launch
from src.config.complete import complete
from src.config.dashboards import build_loggers, grouped_by_sweep
from src.config.flat import to_dict
from src.config.open import claimed, open_run
from src.config.sweep import needs_own_process, note_run, train_in_own_process
from src.config.words import shell_word
from src.machine import NO_FOLDER, is_first_process
from src.reports.outcome import look_back
from src.reports.tables import class_table
from src.runs.folder import RunFolder
from src.runs.marks import mark
from src.runs.metrics_csv import read_metrics

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Trains by a composed configuration, or continues the run; returns the val/miou of its best checkpoint."""
    prepared = complete(cfg)
    run, config = open_run(prepared)
    note_run(run)
    if run.read_results().finished:
        log.info("%s is finished; resume=false would train it again, beside it", run.path)
    elif needs_own_process(config):
        with grouped_by_sweep():
            train_in_own_process(run)
    else:
        with claimed(run, prepared.config), grouped_by_sweep():
            data, task, callbacks = build(config, prepared.source, continues=run.last.is_file())
            loggers = build_loggers(config)
            trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=NO_FOLDER)
            from src.training.fit import fit  # imports torch, as the parts do

            fit(run, data, task, trainer, to_dict(config))
    return report(run, config) if is_first_process() else math.nan


def report(run: RunFolder, config: DictConfig) -> float:
    """Logs the figures of the evaluation that finished a run, and its outcome; returns its mIoU."""
    evaluation = run.read_results().own
    rows = read_metrics(run.metrics) if run.metrics.is_file() else []
    outcome = look_back(evaluation, rows, to_dict(config), shell_word("init_from", run.path))
    text = class_table(evaluation), outcome, evaluation.miou, mark(evaluation), run.path
    log.info("%s\n%s\nval/miou %.4f%s   %s", *text)
    return evaluation.miou


if __name__ == "__main__":
    launch(train, "train")
