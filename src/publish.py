"""Publishes a run in the zoo: small enough for the repository, with a card. See `python -m src.publish --help`."""

import logging

from omegaconf import DictConfig

from src.config.cli import launch
from src.config.publish_plan import plan_publication

log = logging.getLogger(__name__)


def publish(cfg: DictConfig) -> float:
    """Publishes `cfg.run` as `cfg.name`; returns the mIoU of the published weights."""
    plan = plan_publication(cfg)

    from src.evaluation import publish as publishing  # imports torch: run, name and data are known to be right

    entry = publishing.publish(plan)
    log.info("%s: mIoU %.4f, %.1f MB; card: %s/README.md", plan.folder, entry.miou, entry.size / 1e6, plan.folder)
    return entry.miou


if __name__ == "__main__":
    launch(publish, "publish")
