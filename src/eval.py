"""Evaluates a run on a split, as its training did; adds the figures to its results. See `python -m src.eval --help`."""

import logging
from functools import partial

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.build import build_data
from src.config.cli import launch
from src.config.eval_plan import plan_evaluation
from src.evaluation.against import compare
from src.reports.figures import draw_evaluation, draw_or_note
from src.reports.tables import class_table, details_table
from src.runs.marks import mark

log = logging.getLogger(__name__)


def evaluate_run(cfg: DictConfig) -> float:
    """Evaluates `cfg.run` on `cfg.split`; returns the mIoU."""
    plan = plan_evaluation(cfg)
    config, folder = plan.config, plan.folder

    # Imports torch: the data are known to be there.
    from src.evaluation.cost import note_cost
    from src.evaluation.measure import evaluate, evaluation_trainer

    data = build_data(config.datamodule, plan.source, augmentation=None)
    task = instantiate(config.task)
    trainer = evaluation_trainer(cfg.accelerator, config.trainer.precision)
    evaluation = evaluate(trainer, task, data, plan.run, plan.split, cfg.checkpoint, folder, plan.extras, plan.engine)
    folder.add_evaluation(evaluation, finished=False)
    if plan.engine is None:
        note_cost(folder, task, config.data.get("image_size"))
    draw_or_note(folder.path, partial(draw_evaluation, folder, evaluation))
    text = f"{plan.split}/miou {evaluation.miou:.4f}{mark(evaluation)}"
    tables = "\n".join([class_table(evaluation), details_table(evaluation)])
    log.info("%s\n%s   %s\n%s", tables, text, folder.results, folder.path / "evaluations" / evaluation.key)
    if plan.other is not None:
        log.info("%s", compare(folder, evaluation, plan.other, plan.candidates))
    return evaluation.miou


if __name__ == "__main__":
    launch(evaluate_run, "eval")
