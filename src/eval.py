"""Evaluates a run on a split, as its training did, and adds the figures to its results. `python -m src.eval --help`"""

import logging

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.cli import launch
from src.config import AS_RUN, load_data, load_run

log = logging.getLogger(__name__)


def evaluate_run(cfg: DictConfig) -> float:
    """Evaluates `cfg.run` on `cfg.split`; returns the mIoU."""
    run, config = load_run(cfg)
    source, split, _ = load_data(cfg, run, config)  # missing data is told before torch is imported
    source.check_labelled(split)
    for key in ("pack", "num_workers"):
        if cfg.data[key] != AS_RUN:
            config.datamodule[key] = cfg.data[key]

    import lightning as L

    from src.banner import quieten
    from src.evaluation import evaluate
    from src.plots import plot_classes
    from src.tables import class_table

    quieten()
    data = instantiate(config.datamodule, augmentation=None)
    task = instantiate(config.task)
    trainer = L.Trainer(
        accelerator=cfg.accelerator,
        devices=1,
        precision=config.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    evaluation = evaluate(trainer, task, data, run, split, cfg.checkpoint)
    run.add_evaluation(evaluation, finished=False)
    plot_classes(evaluation, config.data.classes, run.path / f"classes_{split}.png", evaluation["tag"])
    log.info("%s\n%s/miou %.4f   %s", class_table(evaluation), split, evaluation["miou"], run.results)
    return evaluation["miou"]


if __name__ == "__main__":
    launch(evaluate_run, "eval")
