"""Segments photos of any size, or a split for a benchmark's server. See `python -m src.predict --help`."""

import logging
from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.reopen import load_data, load_run
from src.data.reading import read_image
from src.errors import UserError
from src.evaluation.inputs import Images, check_output, find_images, read_sample
from src.runs.folder import RunFolder

log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> int:
    """Writes the predictions for `cfg.input`, or for `cfg.split` of the run's dataset; returns the number of images."""
    run, config = load_run(cfg)
    images, title = list_images(cfg, run, config)
    output = check_output(Path(cfg.output) if cfg.output else run.path / "predictions" / title)

    # Imports torch: the input is known to be there.
    from src.evaluation.predictions import LabelIds, Pictures, predict_images

    is_official = cfg.format == "labelids"
    writer = LabelIds(output) if is_official else Pictures(output, config.data.classes, cfg.opacity)
    task, path = instantiate(config.task), run.checkpoint(cfg.checkpoint)
    unread = predict_images(task, path, images, writer, cfg.accelerator, config.trainer.precision)
    if unread and is_official:
        raise UserError(f"no archive was made: {len(unread)} files could not be read: {'; '.join(unread)}")
    log.info("%d images: %s", len(images) - len(unread), writer.finish())
    if unread:
        raise UserError(f"{len(unread)} of {len(images)} files could not be read: {'; '.join(unread)}")
    return len(images)


def list_images(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[Images, str]:
    """Returns the images by the names of their outputs, and a title for the folder of these."""
    if cfg.format not in ("pictures", "labelids"):
        raise UserError(f"format={cfg.format}: must be pictures or labelids")
    if (cfg.input is None) == (cfg.split is None):
        raise UserError("give either input=FILE or FOLDER, or split=NAME of the run's dataset")
    if cfg.split is not None:
        source, split, samples = load_data(cfg, run, config)
        is_official = cfg.format == "labelids"
        names = [source.official_path(sample) if is_official else f"{sample.name}.png" for sample in samples]
        reads = [partial(read_sample, source, sample) for sample in samples]
        return dict(zip(names, reads, strict=True)), f"{split}_labelids" if is_official else split
    if cfg.format == "labelids":
        raise UserError("format=labelids: a server wants the names of its own dataset; give split=test, not input")
    path = Path(cfg.input)
    return {file.with_suffix(".png").name: partial(read_image, file) for file in find_images(path)}, path.resolve().stem


if __name__ == "__main__":
    launch(predict, "predict")
