"""Exports the network of a run as ONNX, for images of any size. See `python -m src.export --help`."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.reopen import load_run
from src.errors import UserError, whole

log = logging.getLogger(__name__)


def export(cfg: DictConfig) -> Path:
    """Writes the network of `cfg.run` with the weights of a checkpoint; returns the path of the file.

    Raises:
        UserError: no such run or checkpoint, a file of that name, a network that cannot be exported.
    """
    run, config = load_run(cfg)
    whole("batch_size", cfg.batch_size, 1)
    path = Path(cfg.out) if cfg.out else run.path / "network.onnx"
    if path.suffix != ".onnx":
        raise UserError(f"out={cfg.out}: must end in .onnx")
    if path.exists():
        raise UserError(f"{path}: exists, and nothing is overwritten; give another out=FILE")

    from src.evaluation.checkpoint import load_weights
    from src.evaluation.export import export_onnx  # imports torch: the run is known to be there

    task = instantiate(config.task)
    load_weights(task, run.checkpoint(cfg.checkpoint))
    export_onnx(task.network, path, cfg.batch_size)
    log.info("%s: input image, uint8 (%d, 3, height, width); output logits", path, cfg.batch_size)
    return path


if __name__ == "__main__":
    launch(export, "export")
