"""Segments photos of any size, or a split for a benchmark's server. See `python -m src.predict --help`."""

import logging

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.predict_plan import plan_prediction
from src.errors import UserError

log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> int:
    """Writes the predictions for `cfg.input`, or for `cfg.split` of the run's dataset; returns the number of images.

    Raises:
        UserError: files that could not be read, after all others were written; names them.
    """
    plan = plan_prediction(cfg)
    config, images = plan.config, plan.images

    # Imports torch: the input is known to be there.
    from src.evaluation.predictions import LabelIds, Pictures, predict_images

    is_official = cfg.format == "labelids"
    writer = LabelIds(plan.output) if is_official else Pictures(plan.output, config.data.classes, cfg.opacity)
    task, path = instantiate(config.task), plan.run.checkpoint(cfg.checkpoint)
    unread = predict_images(task, path, images, writer, cfg.accelerator, config.trainer.precision, plan.engine)
    if unread and is_official:
        raise UserError(f"no archive was made: {len(unread)} files could not be read: {'; '.join(unread)}")
    log.info("%d images: %s", len(images) - len(unread), writer.finish())
    if unread:
        raise UserError(f"{len(unread)} of {len(images)} files could not be read: {'; '.join(unread)}")
    return len(images)


if __name__ == "__main__":
    launch(predict, "predict")
