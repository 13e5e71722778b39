"""Evaluates a run on a split, as its training did, and adds the figures to its results. `python -m src.eval --help`"""

import logging

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.open import AS_RUN, load_data, load_run
from src.reports.figures import draw_evaluation

log = logging.getLogger(__name__)


def evaluate_run(cfg: DictConfig) -> float:
    """Evaluates `cfg.run` on `cfg.split`; returns the mIoU."""
    run, config = load_run(cfg)
    source, split, _ = load_data(cfg, run, config)  # missing data is told before torch is imported
    source.check_labelled(split)
    for key in ("pack", "num_workers"):
        if cfg.data[key] != AS_RUN:
            config.datamodule[key] = cfg.data[key]

    from src.evaluation.measure import evaluate, evaluation_trainer
    from src.reports.tables import class_table
    from src.runs.marks import mark
    from src.training.banner import quieten

    quieten()
    data = instantiate(config.datamodule, augmentation=None)
    task = instantiate(config.task)
    trainer = evaluation_trainer(cfg.accelerator, config.trainer.precision)
    evaluation = evaluate(trainer, task, data, run, split, cfg.checkpoint)
    run.add_evaluation(evaluation, finished=False)
    draw_evaluation(run, evaluation)
    told = f"{split}/miou {evaluation.miou:.4f}{mark(evaluation)}"
    log.info("%s\n%s   %s", class_table(evaluation), told, run.results)
    return evaluation.miou


if __name__ == "__main__":
    launch(evaluate_run, "eval")
