"""Exports the network of a run as ONNX, torch.export program or weights. See `python -m src.export --help`."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.cli import launch
from src.config.reopen import load_run
from src.errors import UserError, whole
from src.runs.zoo import output_folder

log = logging.getLogger(__name__)
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}  # by format


def export(cfg: DictConfig) -> Path:
    """Writes the network of `cfg.run` with the weights of a checkpoint, and compares; returns the path of the file.

    Raises:
        UserError: no such run or checkpoint, a file of that name, a network that cannot be exported.
    """
    run, config = load_run(cfg)
    whole("batch_size", cfg.batch_size, 1)
    if cfg.format not in SUFFIXES:
        raise UserError(f"format={cfg.format}: must be {', '.join(SUFFIXES)}")
    suffix = SUFFIXES[cfg.format]
    path = Path(cfg.out) if cfg.out else output_folder(run).path / f"network{suffix}"
    if path.suffix != suffix:
        raise UserError(f"out={cfg.out}: must end in {suffix} for format={cfg.format}")
    if path.exists():
        raise UserError(f"{path}: exists, and nothing is overwritten; give another out=FILE")

    from src.evaluation.checkpoint import load_weights
    from src.evaluation.export import export_checked  # imports torch: the run is known to be there

    task = instantiate(config.task)
    load_weights(task, run.checkpoint(cfg.checkpoint))
    record = export_checked(task.network, path, cfg.format, cfg.batch_size)
    content = "weights" if suffix == ".safetensors" else f"uint8 image ({cfg.batch_size}, 3, height, width) to logits"
    log.info("%s: %s\n%s", path, content, record)
    return path


if __name__ == "__main__":
    launch(export, "export")
