"""Segments photos of any size with a trained run. `python -m src.predict --help`"""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.cli import launch
from src.config import load_run
from src.data.source import IMAGE_SUFFIXES, read_image

log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> int:
    """Writes label PNGs, colour masks and overlays of every image in `cfg.input`; returns how many."""
    run, config = load_run(cfg)
    images = find_images(Path(cfg.input))
    output = Path(cfg.output) if cfg.output else run.path / "predictions" / Path(cfg.input).resolve().stem
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output}: exists and is not empty, and nothing is overwritten; give another output=FOLDER")

    import lightning as L
    import torch
    from rich.progress import track

    from src.banner import quieten
    from src.evaluation import load_weights
    from src.pictures import colourise, overlay, save_png

    quieten()
    fabric = L.Fabric(accelerator=cfg.accelerator, devices=1, precision=config.trainer.precision)
    task = instantiate(config.task)
    load_weights(task, run.checkpoint(cfg.checkpoint))
    task.to(fabric.device).eval()
    palette, unread = config.data.classes, []
    for path in track(images, f"{len(images)} images", disable=len(images) == 1):
        try:
            image = read_image(path)
        except ValueError as error:
            unread.append(str(error))
            continue
        with fabric.autocast():
            ids = task.predict_ids(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0].numpy()
        name = path.with_suffix(".png").name
        save_png(output / "labels" / name, ids)
        save_png(output / "colours" / name, colourise(ids, palette))
        save_png(output / "overlays" / name, overlay(image, ids, palette, cfg.opacity))
    log.info("%d images: labels/, colours/ and overlays/ in %s", len(images) - len(unread), output)
    if unread:
        raise ValueError(f"{len(unread)} of {len(images)} files could not be read: {'; '.join(unread)}")
    return len(images)


def find_images(path: Path) -> list[Path]:
    """The file itself, or a folder's images in order. ValueError where there is none, or two would share a name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"input={path}: no such file or folder")
    images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ValueError(f"input={path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
    stems = [file.stem for file in images]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(f"input={path}: several images are called {twice[0]}; their outputs would be one file")
    return images


if __name__ == "__main__":
    launch(predict, "predict")
