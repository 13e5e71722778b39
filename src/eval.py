"""Evaluates a run on a split, as its training did; adds the figures to its results. See `python -m src.eval --help`."""

import logging
from functools import partial

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.build import build_data
from src.config.cli import launch
from src.config.reopen import load_data, load_run
from src.reports.figures import draw_evaluation, draw_or_note
from src.reports.tables import class_table
from src.runs.marks import mark
from src.runs.zoo import output_folder

log = logging.getLogger(__name__)


def evaluate_run(cfg: DictConfig) -> float:
    """Evaluates `cfg.run` on `cfg.split`; returns the mIoU."""
    run, config = load_run(cfg)
    source, split, _ = load_data(cfg, run, config)
    source.check_labelled(split)

    # Imports torch: the data are known to be there.
    from src.evaluation.cost import note_cost
    from src.evaluation.measure import evaluate, evaluation_trainer

    data = build_data(config.datamodule, source, augmentation=None)
    task = instantiate(config.task)
    trainer = evaluation_trainer(cfg.accelerator, config.trainer.precision)
    evaluation = evaluate(trainer, task, data, run, split, cfg.checkpoint)
    folder = output_folder(run)
    folder.add_evaluation(evaluation, finished=False)
    note_cost(folder, task, config.data.get("image_size"))
    draw_or_note(folder.path, partial(draw_evaluation, folder, evaluation))
    text = f"{split}/miou {evaluation.miou:.4f}{mark(evaluation)}"
    log.info("%s\n%s   %s", class_table(evaluation), text, folder.results)
    return evaluation.miou


if __name__ == "__main__":
    launch(evaluate_run, "eval")
