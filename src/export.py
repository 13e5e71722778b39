"""Exports the network of a run for other programs, and compares the file. See `python -m src.export --help`."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.export_plan import plan_export
from src.config.flat import to_dict

log = logging.getLogger(__name__)


def export(cfg: DictConfig) -> Path:
    """Writes the network of `cfg.run` with the weights of a checkpoint, and compares; returns the path of the file.

    Raises:
        UserError: see `plan_export`; a network that cannot be exported, or a file that computes something else.
    """
    plan = plan_export(cfg)
    config = plan.config

    # Imports torch: the run and the images are known to be there.
    from src.evaluation.checkpoint import load_weights
    from src.evaluation.export import describe, export_checked

    task = instantiate(config.task)
    load_weights(task, plan.run.checkpoint(cfg.checkpoint))
    size = list(config.data.get("image_size") or [])
    facts = describe(task, plan.run.path.resolve().name, cfg.checkpoint, to_dict(config.data.classes), size)
    record = export_checked(task.network, plan.path, plan.options, plan.examples, facts, task.protocol)
    log.info("%s: %s\n%s", plan.path, plan.options.content(len(record.facts.mean)), record)
    return plan.path


if __name__ == "__main__":
    launch(export, "export")
