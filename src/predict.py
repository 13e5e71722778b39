"""Segments photos of any size, or a split for a benchmark's server. `python -m src.predict --help`"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.open import load_data, load_run
from src.data.reading import IMAGE_SUFFIXES, read_image
from src.data.source import Sample, Source
from src.errors import UserError
from src.runs.folder import RunFolder

log = logging.getLogger(__name__)
Images = dict[str, Callable[[], np.ndarray]]  # the name of what is written for each image, and how to read it


def predict(cfg: DictConfig) -> int:
    """Writes the predictions of `cfg.input`, or of `cfg.split` of the run's dataset; returns of how many images."""
    run, config = load_run(cfg)
    images, title = list_work(cfg, run, config)
    output = Path(cfg.output) if cfg.output else run.path / "predictions" / title
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists and is not empty, and nothing is overwritten; give another output=FOLDER")

    import lightning as L
    import torch
    from rich.progress import track

    from src.evaluation.measure import load_weights
    from src.evaluation.prediction_files import LabelIds, Pictures
    from src.training.banner import quieten

    quieten()
    is_official = cfg.format == "labelids"
    writer = LabelIds(output) if is_official else Pictures(output, config.data.classes, cfg.opacity)
    fabric = L.Fabric(accelerator=cfg.accelerator, devices=1, precision=config.trainer.precision)
    task = instantiate(config.task)
    load_weights(task, run.checkpoint(cfg.checkpoint))
    task.to(fabric.device).eval()
    unread = []
    for name, read in track(images.items(), f"{len(images)} images", disable=len(images) == 1):
        try:
            image = read()
        except ValueError as error:
            unread.append(str(error))
            continue
        with fabric.autocast():
            ids = task.predict_ids(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0].numpy()
        writer.write(name, image, ids)
    if unread and is_official:
        raise UserError(f"no archive was made: {len(unread)} files could not be read: {'; '.join(unread)}")
    log.info("%d images: %s", len(images) - len(unread), writer.finish())
    if unread:
        raise UserError(f"{len(unread)} of {len(images)} files could not be read: {'; '.join(unread)}")
    return len(images)


def list_work(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[Images, str]:
    """Which images, under which names, and a title for their folder. UserError where that is not clear."""
    if cfg.format not in ("pictures", "labelids"):
        raise UserError(f"format={cfg.format}: must be pictures or labelids")
    if (cfg.input is None) == (cfg.split is None):
        raise UserError("give input=FILE or FOLDER, or split=NAME of the run's dataset, and not both")
    if cfg.split is not None:
        source, split, samples = load_data(cfg, run, config)
        name_of = source.official_path if cfg.format == "labelids" else lambda sample: f"{sample.name}.png"
        images = {name_of(sample): partial(read_sample, source, sample) for sample in samples}
        return images, f"{split}_labelids" if cfg.format == "labelids" else split
    if cfg.format == "labelids":
        raise UserError("format=labelids: the names that a server wants are those of a dataset; give split=test")
    path = Path(cfg.input)
    return {file.with_suffix(".png").name: partial(read_image, file) for file in find_images(path)}, path.resolve().stem


def read_sample(source: Source, sample: Sample) -> np.ndarray:
    """RGB uint8 `(H, W, 3)`, without the labels, which a benchmark's test does not have."""
    return read_image(sample.image) if sample.image else source.read(sample)[0]


def find_images(path: Path) -> list[Path]:
    """The file itself, or a folder's images in order. UserError where there is none, or two would share a name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"input={path}: no such file or folder")
    images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UserError(f"input={path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
    stems = [file.stem for file in images]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"input={path}: several images are called {twice[0]}; their outputs would be one file")
    return images


if __name__ == "__main__":
    launch(predict, "predict")
