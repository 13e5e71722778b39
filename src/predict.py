"""Segments photos and videos, or a split for a benchmark's server. See `python -m src.predict --help`."""

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
    config, is_official = plan.config, cfg.format == "labelids"

    # Imports torch: the input is known to be there.
    from src.evaluation.films import segment_film
    from src.evaluation.ledger import Ledger
    from src.evaluation.predictions import predict_photos
    from src.evaluation.segmenter import Segmenter
    from src.evaluation.writers import LabelIds, Pictures

    writer = LabelIds(plan.output) if is_official else Pictures(plan.output, plan.wanted)
    task, path = instantiate(config.task), plan.run.checkpoint(cfg.checkpoint)
    with Ledger(plan.output, plan.settings) as ledger:
        segmenter = Segmenter(task, path, cfg.accelerator, config.trainer.precision, plan.wanted)
        if plan.film is not None:
            assert isinstance(writer, Pictures)
            log.info("%s", segment_film(plan.film, segmenter, writer, ledger, cfg.frames))
            return 1
        outcome = predict_photos(segmenter, plan.photos, writer, ledger, cfg.batch_size)
        log.info("%s", outcome)
        if outcome.unread and is_official:
            raise UserError(f"no archive was made: {outcome.fault}")
        if outcome.names:
            log.info("%s", writer.finish(outcome.names))
        if outcome.unread:
            raise UserError(outcome.fault)
    return len(outcome.names)


if __name__ == "__main__":
    launch(predict, "predict")
